//! Many rules, and loading them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::Path,
    sync::{Arc, LazyLock},
};

use gumshoe_model::Event;

use crate::{
    correlation::{Correlation, Part, Pattern},
    field::Field,
    index::Index,
    parse::{LoadError, MAX_FILE_BYTES, Parsed, Problem, parse},
    rule::Rule,
    view::{Record, View},
};

/// Most rules.
pub const MAX_RULES: usize = 20_000;

/// The rules that come with Gumshoe: name of the file, and its text.
const SHIPPED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

/// Rules, ready to match.
#[derive(Debug, Default)]
pub struct RuleSet {
    /// Those about one event, by id, and their index.
    singles: Vec<Single>,
    index: Index,
    /// By id.
    correlations: Vec<Correlation>,
}

/// A rule about one event.
#[derive(Debug)]
struct Single {
    rule: Arc<Rule>,
    /// Whether it is reported, and not only a part of others.
    reported: bool,
    parts: Vec<Part>,
}

impl RuleSet {
    /// The rules that come with Gumshoe.
    ///
    /// # Errors
    /// [`LoadError::Wrong`] if one of them is not right, which the tests exclude.
    pub fn shipped() -> Result<Self, LoadError> {
        Self::layered([SHIPPED])
    }

    /// The rules of these files, given by name and text. A file may hold several rules, as documents.
    ///
    /// # Errors
    /// [`LoadError::Wrong`] with all problems.
    pub fn parse<N: AsRef<str>, T: AsRef<str>>(files: &[(N, T)]) -> Result<Self, LoadError> {
        Self::layered([files])
    }

    /// The rules that come with Gumshoe, and those of a folder and the folders in it: files ending in `.yml` or `.yaml`. A rule there
    /// takes the place of the shipped one of the same id; if its status is `unsupported`, there is none.
    ///
    /// # Errors
    /// [`LoadError`]; then nothing is loaded.
    pub fn load(folder: &Path) -> Result<Self, LoadError> {
        Self::over_shipped([&*read(folder)?])
    }

    /// The rules that come with Gumshoe under layers of files, given by name and text: a rule takes the place of the one of the same id in
    /// a layer before.
    ///
    /// # Errors
    /// [`LoadError::Wrong`] with all problems.
    pub fn over_shipped<'f>(layers: impl IntoIterator<Item = &'f [(String, String)]>) -> Result<Self, LoadError> {
        static OWNED: LazyLock<Vec<(String, String)>> = LazyLock::new(|| SHIPPED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect());
        Self::layered(std::iter::once(OWNED.as_slice()).chain(layers))
    }

    /// Rules of several layers, of which a later one takes the place of an earlier one with the same id.
    fn layered<'f, N: AsRef<str> + 'f, T: AsRef<str> + 'f>(layers: impl IntoIterator<Item = &'f [(N, T)]>) -> Result<Self, LoadError> {
        let mut problems = Vec::new();
        let mut found: BTreeMap<String, Parsed> = BTreeMap::new();
        for layer in layers {
            let mut here: HashMap<String, String> = HashMap::new();
            for (file, text) in layer {
                let file = file.as_ref();
                for parsed in parse(file, text.as_ref(), &mut problems) {
                    let id = parsed.id().to_owned();
                    if let Some(other) = here.insert(id.clone(), file.to_owned()) {
                        problems.push(Problem { file: file.to_owned(), field: "id".to_owned(), reason: format!("`{id}` is that of a rule in {other}") });
                    }
                    found.insert(id, parsed);
                }
            }
        }
        if found.len() > MAX_RULES {
            problems.push(Problem { file: String::new(), field: String::new(), reason: format!("{} rules, at most {MAX_RULES}", found.len()) });
        }
        if !problems.is_empty() {
            return Err(LoadError::Wrong(problems));
        }
        Self::assemble(found.into_values()).map_err(LoadError::Wrong)
    }

    fn assemble(parsed: impl Iterator<Item = Parsed>) -> Result<Self, Vec<Problem>> {
        let (mut all, mut correlations) = (Vec::new(), Vec::new());
        for parsed in parsed {
            match parsed {
                Parsed::Rule(rule) => all.push(Arc::new(*rule)),
                Parsed::Correlation(correlation) => correlations.push(*correlation),
                Parsed::Off(_) => {}
            }
        }
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (place, rule) in all.iter().enumerate() {
            places.insert(&rule.id, place);
            if !rule.name.is_empty() {
                places.insert(&rule.name, place);
            }
        }
        let mut problems = Vec::new();
        let mut parts: BTreeMap<usize, Vec<Part>> = BTreeMap::new();
        let mut hidden = HashSet::new();
        for (index, correlation) in correlations.iter().enumerate() {
            for (number, name) in correlation.parts.iter().enumerate() {
                let found = places.get(name.as_str()).ok_or_else(|| ("rules", format!("there is no rule `{name}`")));
                match found.and_then(|place| Ok((*place, part(correlation, index, number, all.get(*place))?))) {
                    Ok((place, part)) => {
                        parts.entry(place).or_default().push(part);
                        if !correlation.reports_parts {
                            hidden.insert(place);
                        }
                    }
                    Err((field, reason)) => problems.push(Problem { file: correlation.rule.source.clone(), field: format!("correlation.{field}"), reason }),
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let single = |(place, rule)| Single { rule, reported: !hidden.contains(&place), parts: parts.remove(&place).unwrap_or_default() };
        let singles: Vec<Single> = all.into_iter().enumerate().map(single).collect();
        let index = Index::new(singles.iter().map(|single| &*single.rule));
        Ok(Self { singles, index, correlations })
    }

    /// Rules that an event matches, each once, without those that are only parts of others.
    pub fn matches<'r, 'e: 'r>(&'r self, event: &'e Event<'e>) -> impl Iterator<Item = &'r Arc<Rule>> + use<'r, 'e> {
        let record = Record::new(event);
        let reported = self.index.candidates(event).filter_map(|place| self.singles.get(place)).filter(|single| single.reported);
        reported.filter(move |single| single.rule.node.matches(View::new(&record))).map(|single| &single.rule)
    }

    /// Writes into `marks` the ids of all rules that an event matches, with those that are only parts of others: sorted, with a space
    /// between; empty for none.
    pub fn mark(&self, event: &Event<'_>, marks: &mut String) {
        marks.clear();
        let record = Record::new(event);
        let matches = |place: &usize| self.singles.get(*place).is_some_and(|single| single.rule.node.matches(View::new(&record)));
        let mut places: Vec<usize> = self.index.candidates(event).filter(matches).collect();
        // They lie by id.
        places.sort_unstable();
        for single in places.into_iter().filter_map(|place| self.singles.get(place)) {
            if !marks.is_empty() {
                marks.push(' ');
            }
            marks.push_str(&single.rule.id);
        }
    }

    /// Whether a rule about one event is only a part of others.
    #[must_use]
    pub fn is_part(&self, id: &str) -> bool {
        self.single_of(id).is_some_and(|single| !single.reported)
    }

    /// The rule of an id that is reported, about one event or several.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<Rule>> {
        self.single_of(id).filter(|single| single.reported).map(|single| &single.rule).or_else(|| self.correlated(id))
    }

    /// Whether the rule of an id is about several events.
    #[must_use]
    pub fn is_correlation(&self, id: &str) -> bool {
        self.correlated(id).is_some()
    }

    fn single_of(&self, id: &str) -> Option<&Single> {
        let place = self.singles.binary_search_by(|single| single.rule.id.as_str().cmp(id)).ok()?;
        self.singles.get(place)
    }

    fn correlated(&self, id: &str) -> Option<&Arc<Rule>> {
        let place = self.correlations.binary_search_by(|correlation| correlation.rule.id.as_str().cmp(id)).ok()?;
        self.correlations.get(place).map(|correlation| &correlation.rule)
    }

    /// Every rule that can be reported: those about one event, and those about several.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Rule>> {
        let reported = self.singles.iter().filter(|single| single.reported).map(|single| &single.rule);
        reported.chain(self.correlations.iter().map(|correlation| &correlation.rule))
    }

    /// Every rule that matches single events, with those that are only parts of others.
    pub fn single(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.singles.iter().map(|single| &single.rule)
    }

    /// How many rules can be reported.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn correlations(&self) -> impl Iterator<Item = &Correlation> {
        self.correlations.iter()
    }

    pub(crate) fn correlation(&self, place: usize) -> Option<&Correlation> {
        self.correlations.get(place)
    }

    /// Ids of the rules that are parts of others, by id.
    pub fn part_ids(&self) -> impl Iterator<Item = &str> {
        self.singles.iter().filter(|single| !single.parts.is_empty()).map(|single| single.rule.id.as_str())
    }

    /// Microseconds of the longest time within which a rule looks at several events; 0 if none does.
    #[must_use]
    pub fn longest_span(&self) -> i64 {
        self.correlations.iter().map(|correlation| correlation.span).max().unwrap_or_default()
    }

    /// Parts of correlations that an event is marked with.
    pub(crate) fn marked_parts(&self, marks: &str) -> Vec<&Part> {
        marks.split(' ').filter_map(|id| self.single_of(id)).flat_map(|single| &single.parts).collect()
    }

    /// Parts of correlations that an event matches.
    pub(crate) fn parts<'r>(&'r self, record: &Record<'_>) -> Vec<&'r Part> {
        let candidates = self.index.candidates(record.event).filter_map(|place| self.singles.get(place));
        let parts = candidates.filter(|single| !single.parts.is_empty());
        parts.filter(|single| single.rule.node.matches(View::new(record))).flat_map(|single| &single.parts).collect()
    }
}

/// What a rule is in a correlation.
fn part(correlation: &Correlation, index: usize, number: usize, rule: Option<&Arc<Rule>>) -> Result<Part, (&'static str, String)> {
    let rule = rule.ok_or(("rules", "there is no such rule".to_owned()))?;
    let group_by = correlation.group_by.iter().map(|name| Field::of(rule.kind, name)).collect::<Result<_, _>>().map_err(|reason| ("group-by", reason))?;
    let value = match &correlation.pattern {
        Pattern::Values(name, _) => Some(Field::of(rule.kind, name).map_err(|reason| ("condition.field", reason))?),
        _ => None,
    };
    Ok(Part { correlation: index, number, group_by, value })
}

/// The ids of the rules in a file, those that are switched off (`status: unsupported`) with `true`.
///
/// # Errors
/// All problems of the file by itself; whether rules go together is known of the whole only.
pub fn ids(file: &str, text: &str) -> Result<Vec<(String, bool)>, Vec<Problem>> {
    let mut problems = Vec::new();
    let found = parse(file, text, &mut problems);
    let ids = found.iter().map(|parsed| (parsed.id().to_owned(), matches!(parsed, Parsed::Off(_)))).collect();
    if problems.is_empty() { Ok(ids) } else { Err(problems) }
}

/// The files that come with Gumshoe: name and text.
#[must_use]
pub fn shipped_files() -> &'static [(&'static str, &'static str)] {
    SHIPPED
}

/// Files of rules in a folder and the folders in it, by their path below it.
///
/// # Errors
/// [`LoadError::Unreadable`], and [`LoadError::Wrong`] for a file that is too long.
pub fn read(folder: &Path) -> Result<Vec<(String, String)>, LoadError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| LoadError::Unreadable { path, source }
    };
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).map_err(unreadable(&next))? {
            let path = entry.map_err(unreadable(&next))?.path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if hidden {
                continue;
            }
            // A configuration map of Kubernetes is a folder of links to files.
            let about = fs::metadata(&path).map_err(unreadable(&path))?;
            if about.is_dir() && folders.len() < MAX_RULES {
                folders.push(path);
            } else if about.is_file() && path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml") {
                let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
                if about.len() > MAX_FILE_BYTES as u64 {
                    let reason = format!("longer than {MAX_FILE_BYTES} bytes");
                    return Err(LoadError::Wrong(vec![Problem { file: name, field: String::new(), reason }]));
                }
                files.push((name, fs::read_to_string(&path).map_err(unreadable(&path))?));
            }
        }
    }
    files.sort();
    Ok(files)
}
