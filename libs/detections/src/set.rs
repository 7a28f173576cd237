//! Many rules; loading them, and swapping them while they are in use.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
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
    /// Those that are reported, and their index.
    rules: Vec<Arc<Rule>>,
    index: Index,
    /// Those that are parts of correlations, and their index.
    parts: Vec<(Arc<Rule>, Vec<Part>)>,
    part_index: Index,
    correlations: Vec<Correlation>,
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
        let files = read(folder)?;
        let shipped: Vec<(String, String)> = SHIPPED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        Self::layered([shipped.as_slice(), files.as_slice()])
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
        let parts: Vec<(Arc<Rule>, Vec<Part>)> = parts.into_iter().filter_map(|(place, parts)| Some((Arc::clone(all.get(place)?), parts))).collect();
        let rules: Vec<Arc<Rule>> = all.into_iter().enumerate().filter(|(place, _)| !hidden.contains(place)).map(|(_, rule)| rule).collect();
        let index = Index::new(rules.iter().map(|rule| &**rule));
        let part_index = Index::new(parts.iter().map(|(rule, _)| &**rule));
        Ok(Self { rules, index, parts, part_index, correlations })
    }

    /// Rules that an event matches, each once.
    pub fn matches<'r, 'e: 'r>(&'r self, event: &'e Event<'e>) -> impl Iterator<Item = &'r Arc<Rule>> + use<'r, 'e> {
        let record = Record::new(event);
        self.index.candidates(event).filter_map(|place| self.rules.get(place)).filter(move |rule| rule.node.matches(View::new(&record)))
    }

    /// Every rule that can be reported: those about one event, and those about several.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.iter().chain(self.correlations.iter().map(|correlation| &correlation.rule))
    }

    /// Every rule that matches single events, with those that are only parts of others.
    pub fn single(&self) -> impl Iterator<Item = &Arc<Rule>> {
        let known: HashSet<&str> = self.rules.iter().map(|rule| rule.id.as_str()).collect();
        let parts = self.parts.iter().map(|(rule, _)| rule).filter(move |rule| !known.contains(rule.id.as_str()));
        self.rules.iter().chain(parts)
    }

    /// How many rules can be reported.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len() + self.correlations.len()
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

    /// Parts of correlations that an event matches.
    pub(crate) fn parts<'r>(&'r self, record: &Record<'_>) -> Vec<&'r Part> {
        let candidates = self.part_index.candidates(record.event).filter_map(|place| self.parts.get(place));
        candidates.filter(|(rule, _)| rule.node.matches(View::new(record))).flat_map(|(_, parts)| parts).collect()
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

/// Files of rules in a folder and the folders in it, by their path below it.
fn read(folder: &Path) -> Result<Vec<(String, String)>, LoadError> {
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

/// Rules in use, which can be swapped for others at any time. Who matches an event takes [`Rules::current`] first, and is not
/// disturbed by a swap.
#[derive(Debug)]
pub struct Rules {
    current: ArcSwap<RuleSet>,
    folder: Option<PathBuf>,
}

impl Rules {
    /// The shipped rules and, if there is a folder, those in it.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn open(folder: Option<PathBuf>) -> Result<Self, LoadError> {
        let rules = Self { current: ArcSwap::default(), folder };
        rules.reload()?;
        Ok(rules)
    }

    /// The rules to use now.
    #[must_use]
    pub fn current(&self) -> Arc<RuleSet> {
        self.current.load_full()
    }

    /// Reads the folder again. If something is wrong, the rules before stay in use.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn reload(&self) -> Result<Arc<RuleSet>, LoadError> {
        let rules = Arc::new(self.folder.as_deref().map_or_else(RuleSet::shipped, RuleSet::load)?);
        self.swap(Arc::clone(&rules));
        Ok(rules)
    }

    /// Uses other rules from now on.
    pub fn swap(&self, rules: Arc<RuleSet>) {
        self.current.store(rules);
    }
}
