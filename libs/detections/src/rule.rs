//! A rule: what it says beside what it matches.

use std::{collections::BTreeSet, fmt, str::FromStr};

use gumshoe_model::{Event, Invalid, Level, RecordKind};
use serde_json::{Value, json};

use crate::{
    field::Slot,
    index::needed,
    node::Node,
    view::{Record, View},
};

macro_rules! tactics {
    ($($(#[$doc:meta])* $variant:ident = $id:literal $name:literal,)*) => {
        /// A tactic of MITRE ATT&CK Enterprise, version 17: what a technique is for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Tactic { $($(#[$doc])* $variant,)* }

        impl Tactic {
            /// Every tactic, in the order of an attack.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in ATT&CK: `Privilege Escalation`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Its id: `TA0004`.
            #[must_use]
            pub fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }
        }
    };
}

tactics! {
    /// Gathering information outside of the target.
    Reconnaissance = "TA0043" "Reconnaissance",
    /// Making or buying what an attack takes.
    ResourceDevelopment = "TA0042" "Resource Development",
    /// Getting in.
    InitialAccess = "TA0001" "Initial Access",
    /// Running code.
    Execution = "TA0002" "Execution",
    /// Staying in.
    Persistence = "TA0003" "Persistence",
    /// Getting more rights.
    PrivilegeEscalation = "TA0004" "Privilege Escalation",
    /// Not being seen.
    DefenseEvasion = "TA0005" "Defense Evasion",
    /// Taking credentials.
    CredentialAccess = "TA0006" "Credential Access",
    /// Looking around.
    Discovery = "TA0007" "Discovery",
    /// Going on to others.
    LateralMovement = "TA0008" "Lateral Movement",
    /// Taking data together.
    Collection = "TA0009" "Collection",
    /// Talking to what was taken over.
    CommandAndControl = "TA0011" "Command and Control",
    /// Getting data out.
    Exfiltration = "TA0010" "Exfiltration",
    /// Destroying, encrypting, using up.
    Impact = "TA0040" "Impact",
}

impl Tactic {
    /// By the name of a Sigma tag, `privilege-escalation`, or with `_`.
    pub(crate) fn of_tag(tag: &str) -> Option<Self> {
        let same = |name: &str| {
            name.len() == tag.len()
                && name.bytes().zip(tag.bytes()).all(|(name, tag)| name.eq_ignore_ascii_case(&tag) || name == b' ' && matches!(tag, b'-' | b'_'))
        };
        Self::ALL.iter().copied().find(|tactic| same(tactic.as_str()))
    }
}

impl fmt::Display for Tactic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A technique of MITRE ATT&CK, by its id: `T1098` or `T1098.001`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Technique(String);

impl Technique {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0
    }

    /// The id of the technique that it is a part of: its own, if it is none.
    #[must_use]
    pub fn main(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }
}

impl fmt::Display for Technique {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Technique {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let id = value.to_ascii_uppercase();
        let (main, sub) = id.split_once('.').unwrap_or((&id, "000"));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let main = main.strip_prefix('T').is_some_and(|number| number.len() == 4 && digits(number));
        if main && sub.len() == 3 && digits(sub) { Ok(Self(id)) } else { Err(Invalid::new("technique", value, "expected `T1234` or `T1234.001`")) }
    }
}

/// A record with which a rule is tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// What it is.
    pub name: String,
    /// Whether the rule matches it.
    pub matches: bool,
    /// The record, or the part of it that matters.
    pub record: Value,
}

impl Case {
    /// The record as text, with the fields filled in that all records of the kind have.
    #[must_use]
    pub fn text(&self, kind: RecordKind) -> String {
        match &self.record {
            Value::String(line) => line.clone(),
            Value::Object(fields) => {
                let mut whole = common(kind);
                if let Some(whole) = whole.as_object_mut() {
                    whole.extend(fields.clone());
                }
                whole.to_string()
            }
            other => other.to_string(),
        }
    }
}

/// What all records of a kind have.
fn common(kind: RecordKind) -> Value {
    match kind {
        RecordKind::CloudTrail => json!({
            "eventVersion": "1.09", "eventTime": "2024-05-01T10:00:00Z", "eventSource": "ec2.amazonaws.com", "eventName": "DescribeNothing",
            "awsRegion": "eu-west-1", "sourceIPAddress": "198.51.100.7", "userAgent": "aws-cli/2.15.0 Python/3.11.6", "eventType": "AwsApiCall",
            "eventID": "3fcfb182-98f8-4744-bd45-10a395ab61cb", "recipientAccountId": "111122223333",
            "userIdentity": {
                "type": "IAMUser", "principalId": "AIDAEXAMPLEEXAMPLE001", "arn": "arn:aws:iam::111122223333:user/ann", "accountId": "111122223333",
                "accessKeyId": "AKIAEXAMPLEEXAMPLE01", "userName": "ann"
            }
        }),
        RecordKind::EksAudit => json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": "3fcfb182", "stage": "ResponseComplete",
            "verb": "get", "requestURI": "/api/v1/namespaces", "user": { "username": "ann@example.com", "groups": ["system:authenticated"] },
            "sourceIPs": ["10.0.0.7"], "userAgent": "kubectl/v1.29.0", "responseStatus": { "code": 200 },
            "requestReceivedTimestamp": "2024-05-01T10:00:00Z", "stageTimestamp": "2024-05-01T10:00:00Z"
        }),
        RecordKind::GuardDuty => json!({
            "schemaVersion": "2.0", "accountId": "111122223333", "region": "eu-west-1", "id": "f1", "type": "Recon:EC2/Portscan", "severity": 5,
            "arn": "arn:aws:guardduty:eu-west-1:111122223333:detector/d/finding/f1", "createdAt": "2024-05-01T10:00:00Z",
            "updatedAt": "2024-05-01T10:00:00Z", "resource": { "resourceType": "Instance" }, "service": { "serviceName": "guardduty" }
        }),
        RecordKind::SecurityHub | RecordKind::VpcFlow => json!({}),
    }
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its UUID.
    pub id: String,
    /// A name for correlation rules to refer to it by; empty if it has none.
    pub name: String,
    /// What was done, in words.
    pub title: String,
    /// Why it matters.
    pub description: String,
    /// How much it matters.
    pub level: Level,
    /// What it is for.
    pub tactics: Vec<Tactic>,
    /// What it is; the first is shown where there is place for one.
    pub techniques: Vec<Technique>,
    /// When a match is benign, in words.
    pub false_positives: Vec<String>,
    /// Where to read more.
    pub references: Vec<String>,
    /// The file that it came from.
    pub source: String,
    /// The records that it is about.
    pub kind: RecordKind,
    /// Whether a match counts only if its operation is new for the actor: it is usual for many, and says something only of one who
    /// never did it before. To know that is the caller's part.
    pub only_if_new: bool,
    /// Records with which it is tried.
    pub cases: Vec<Case>,
    /// What it matches.
    pub(crate) node: Node,
    /// Whether it asks how the call ended.
    pub(crate) asks_for_errors: bool,
}

impl Rule {
    /// How much a match with this event matters: its level, or one less if the call failed. What failed is an attempt; a rule that asks
    /// for errors itself is about nothing else.
    #[must_use]
    pub fn level_of(&self, event: &Event<'_>) -> Level {
        self.level_if(!event.error.is_empty())
    }

    /// The same, by whether the call failed.
    #[must_use]
    pub fn level_if(&self, failed: bool) -> Level {
        if failed && !self.asks_for_errors { self.level.lower() } else { self.level }
    }

    /// The operations of which an event must have one to match, in lower case; `None` if it may have any.
    #[must_use]
    pub fn operations(&self) -> Option<BTreeSet<String>> {
        needed(&self.node, Slot::Operation)
    }

    /// Whether an event matches. For many rules see [`RuleSet::matches`](crate::RuleSet::matches).
    #[must_use]
    pub fn matches(&self, event: &Event<'_>) -> bool {
        event.kind == self.kind && self.node.matches(View::new(&Record::new(event)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tactics_are_found_by_tag() {
        assert_eq!(Tactic::of_tag("privilege-escalation"), Some(Tactic::PrivilegeEscalation));
        assert_eq!(Tactic::of_tag("command_and_control"), Some(Tactic::CommandAndControl));
        assert_eq!(Tactic::of_tag("privilege"), None);
    }

    #[test]
    fn techniques_have_the_form_of_attack() {
        assert_eq!("t1098.001".parse::<Technique>().unwrap().to_string(), "T1098.001");
        assert_eq!("T1098.001".parse::<Technique>().unwrap().main(), "T1098");
        for bad in ["", "T109", "T1098.1", "1098", "T1098.", "T10980", "TA0001"] {
            assert!(bad.parse::<Technique>().is_err(), "{bad}");
        }
    }
}
