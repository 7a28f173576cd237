//! Scenarios: what `truth.jsonl` says of logs, a line each.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use gumshoe_model::{EntityKey, EntityType, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use crate::rpc::Failure;

/// The file of labels.
pub const TRUTH: &str = "truth.jsonl";

/// What a label asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expected {
    /// An attack, which must be told of the right principal.
    Attack,
    /// Something to be looked at; how much of it is told is shown.
    Notable,
    /// Nothing: a high alarm is a false one.
    Nothing,
}

/// A line of `truth.jsonl`. Keys that are not here are passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Line {
    id: String,
    label: String,
    files: Vec<PathBuf>,
    test_index: Option<usize>,
    mitre: Vec<String>,
    mitre_from_docs: Vec<String>,
    principal_arns: Vec<String>,
    user: Option<String>,
    window: Option<Window>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Window {
    start: Option<String>,
}

/// A scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Its name.
    pub id: String,
    /// Its label, as written.
    pub label: String,
    /// What the label asks for.
    pub expected: Expected,
    /// Its logs, under the folder.
    pub files: Vec<PathBuf>,
    /// The log is the record `/tests/N/log` of a JSON file.
    pub test: Option<usize>,
    /// Techniques of ATT&CK, any of which is right.
    pub techniques: BTreeSet<String>,
    /// Who did it, any of whom is right; empty if nobody is named.
    pub principals: BTreeSet<String>,
    /// When it began, if that is said.
    pub start: Option<Timestamp>,
}

/// The scenarios of a folder that have one of the labels; without labels, all.
///
/// # Errors
/// [`Failure`] when the file cannot be read or a line is wrong; the line is named.
pub fn read(folder: &Path, labels: &[String]) -> Result<Vec<Scenario>, Failure> {
    let path = folder.join(TRUTH);
    let text = fs::read_to_string(&path).map_err(|source| Failure::File { action: "read", path: path.clone(), source })?;
    let mut scenarios = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let scenario = Scenario::parse(line).map_err(|reason| Failure::Usage(format!("{}:{number}: {reason}", path.display())))?;
        if labels.is_empty() || labels.contains(&scenario.label) {
            scenarios.push(scenario);
        }
    }
    Ok(scenarios)
}

impl Scenario {
    fn parse(line: &str) -> Result<Self, String> {
        let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if line.id.is_empty() {
            return Err("`id` is required".to_owned());
        }
        if line.files.is_empty() {
            return Err("`files` is required".to_owned());
        }
        let outside = |path: &PathBuf| path.is_absolute() || path.components().any(|part| part == std::path::Component::ParentDir);
        if let Some(path) = line.files.iter().find(|path| outside(path)) {
            return Err(format!("`files`: `{}` must lie in the folder", path.display()));
        }
        let expected = match line.label.as_str() {
            "attack" => Expected::Attack,
            "suspicious" | "should_alert" | "attack-relevant-api" => Expected::Notable,
            "benign" | "benign-admin" | "should_not_alert" => Expected::Nothing,
            other => return Err(format!("`label`: `{other}` is not one of attack, suspicious, benign, and those of docs/evaluate.md")),
        };
        let start = line.window.and_then(|window| window.start);
        let start = start.map(|start| Timestamp::parse(&start)).transpose().map_err(|error| format!("`window.start`: {error}"))?;
        Ok(Self {
            id: line.id,
            label: line.label,
            expected,
            files: line.files,
            test: line.test_index,
            techniques: line.mitre.into_iter().chain(line.mitre_from_docs).collect(),
            principals: line.principal_arns.into_iter().chain(line.user).collect(),
            start,
        })
    }

    /// The logs, each with its name, without the texts in `blanks`.
    ///
    /// # Errors
    /// [`Failure`] when a file cannot be read, or has no such record.
    pub fn logs(&self, folder: &Path, blanks: &[String]) -> Result<Vec<(String, Vec<u8>)>, Failure> {
        let mut logs = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let path = folder.join(file);
            let bytes = fs::read(&path).map_err(|source| Failure::File { action: "read", path: path.clone(), source })?;
            let bytes = match self.test {
                Some(index) => record(&bytes, index).ok_or_else(|| Failure::Usage(format!("{}: no record at /tests/{index}/log", path.display())))?,
                None => bytes,
            };
            logs.push((file.display().to_string(), blanked(bytes, blanks)));
        }
        Ok(logs)
    }

    /// Whether a technique is one of the scenario's, or a part or the whole of one.
    pub fn is_right(&self, technique: &str) -> bool {
        let main = |id: &str| id.split('.').next().unwrap_or_default().to_owned();
        self.techniques.iter().any(|wanted| main(wanted) == main(technique))
    }

    /// Whether an entity is one of those who did it. Of a session, its role is meant too.
    pub fn is_principal(&self, entity: &EntityKey) -> bool {
        self.principals.is_empty() || self.principals.iter().any(|principal| is_same(principal, entity))
    }
}

fn is_same(principal: &str, entity: &EntityKey) -> bool {
    if entity.id == *principal || entity.id.ends_with(&format!("/{principal}")) {
        return true;
    }
    // `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`
    let mut parts = principal.splitn(6, ':').skip(4);
    let (account, resource) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Some((role, session)) = resource.strip_prefix("assumed-role/").and_then(|rest| rest.split_once('/')) else { return false };
    match entity.kind {
        EntityType::Role => entity.id.split(':').nth(4) == Some(account) && entity.id.rsplit('/').next() == Some(role),
        EntityType::RoleSession => entity.id.split_once(':').is_some_and(|(_, name)| name == session),
        _ => false,
    }
}

/// A record among tests of rules. Those that lack a time get one: they are not about time.
fn record(bytes: &[u8], index: usize) -> Option<Vec<u8>> {
    let file: Value = serde_json::from_slice(bytes).ok()?;
    let mut log = file.pointer(&format!("/tests/{index}/log"))?.clone();
    if let Value::String(text) = log {
        return Some(text.into_bytes());
    }
    if let Some(fields) = log.as_object_mut() {
        let time = || Value::from("2024-05-01T10:00:00Z");
        if fields.contains_key("eventName") {
            fields.entry("eventTime").or_insert_with(time);
        } else if fields.contains_key("verb") && !fields.contains_key("stageTimestamp") {
            fields.entry("requestReceivedTimestamp").or_insert_with(time);
        }
    }
    serde_json::to_vec(&log).ok()
}

fn blanked(bytes: Vec<u8>, blanks: &[String]) -> Vec<u8> {
    // Compressed logs hold no text.
    match String::from_utf8(bytes) {
        Ok(text) => blanks.iter().filter(|blank| !blank.is_empty()).fold(text, |text, blank| text.replace(blank.as_str(), "blank")).into_bytes(),
        Err(error) => error.into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(line: &str) -> Scenario {
        Scenario::parse(line).unwrap()
    }

    #[test]
    fn lines_are_checked() {
        for bad in [
            "{",
            r#"{"label":"attack","files":["a"]}"#,
            r#"{"id":"x","label":"attack"}"#,
            r#"{"id":"x","label":"odd","files":["a"]}"#,
            r#"{"id":"x","label":"attack","files":["/etc/passwd"]}"#,
            r#"{"id":"x","label":"attack","files":["a/../../b"]}"#,
            r#"{"id":"x","label":"attack","files":["a"],"window":{"start":"now"}}"#,
        ] {
            assert!(Scenario::parse(bad).is_err(), "{bad}");
        }
        let good = scenario(r#"{"id":"x","label":"benign","files":["a"],"severity":"High","leak":"x","window":{"start":"2024-01-01T00:00:00Z","end":"?"}}"#);
        assert_eq!((good.expected, good.start.map(|start| start.to_string())), (Expected::Nothing, Some("2024-01-01T00:00:00Z".to_owned())));
    }

    #[test]
    fn techniques_are_right_with_their_parts() {
        let scenario = scenario(r#"{"id":"x","label":"attack","files":["a"],"mitre":["T1098.001"],"mitre_from_docs":["T1530"]}"#);
        assert!(["T1098", "T1098.001", "T1098.003", "T1530"].iter().all(|id| scenario.is_right(id)));
        assert!(!["T1485", "T109", ""].iter().any(|id| scenario.is_right(id)));
    }

    #[test]
    fn principals_are_known_by_arn_name_and_session() {
        let line = r#"{"id":"x","label":"attack","files":["a"],"principal_arns":["arn:aws:iam::111122223333:user/ann","arn:aws:sts::111122223333:assumed-role/deploy/s1"],"user":"minikube"}"#;
        let scenario = scenario(line);
        let is = |entity: &str| scenario.is_principal(&entity.parse().unwrap());
        for right in [
            "user:arn:aws:iam::111122223333:user/ann",
            "role:arn:aws:iam::111122223333:role/team/deploy",
            "role_session:AROAEXAMPLE:s1",
            "kubernetes_subject:minikube",
            "kubernetes_subject:cluster/minikube",
        ] {
            assert!(is(right), "{right}");
        }
        for wrong in [
            "user:arn:aws:iam::111122223333:user/bob",
            "role:arn:aws:iam::999999999999:role/deploy",
            "role:arn:aws:iam::111122223333:role/deployer",
            "role_session:AROAEXAMPLE:s2",
        ] {
            assert!(!is(wrong), "{wrong}");
        }
    }

    #[test]
    fn records_of_tests_get_a_time_and_lose_what_is_blanked() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), r#"{"tests":[{"log":{"eventName":"X","userAgent":"tool_1"}},{"log":"2 123 eni-1"}]}"#).unwrap();
        let of = |index: usize| {
            let scenario = scenario(&format!(r#"{{"id":"x","label":"attack","files":["a"],"test_index":{index}}}"#));
            scenario.logs(folder.path(), &["tool_".to_owned()]).map(|mut logs| String::from_utf8(logs.remove(0).1).unwrap())
        };
        assert_eq!(of(0).unwrap(), r#"{"eventName":"X","userAgent":"blank1","eventTime":"2024-05-01T10:00:00Z"}"#);
        assert_eq!(of(1).unwrap(), "2 123 eni-1");
        assert!(of(2).is_err());
    }
}
