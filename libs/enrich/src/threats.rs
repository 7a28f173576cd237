//! Threat lists: addresses and blocks that somebody warns of, from files that the operator brings.
//!
//! Three formats are read, by a file's name: plain text (`.txt`, `.ipset`, `.netset` and whatever is not one of the others), an
//! address or block a line; CSV (`.csv`), the address or block in the first column or the one called `address`, `ip`, `cidr`, `network`
//! or `indicator`, and what it is in one called `category`, `type`, `threat` or `reason`; and STIX 2.1 (`.json`, `.stix`), whose indicators'
//! patterns name `ipv4-addr:value` or `ipv6-addr:value`, and whose `ipv4-addr` and `ipv6-addr` objects are taken too. What is private or
//! reserved is taken as it stands: whoever lists it means it.

use std::{
    collections::HashMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use crate::prefixes::{Block, Prefixes};

/// The most addresses and blocks of all lists together.
pub const MAX_ENTRIES: usize = 5_000_000;
/// The largest file, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 30;
/// Files of one folder that are read.
const MAX_FILES: usize = 1_000;
/// The longest name or category that is kept, in characters.
const MAX_NAME: usize = 200;
/// Mistakes that are told of one file.
const MAX_MISTAKES: usize = 20;

/// A list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListConfig {
    /// A file, or a folder all of whose files are lists.
    pub path: PathBuf,
    /// What it is called; default the file's name without its ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What its addresses are, where the file does not say: `tor exit`, `scanner`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub category: String,
}

/// A list that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ThreatError {
    /// A file or folder cannot be read.
    #[error("cannot read the threat list `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("the threat list `{}` is wrong: {}", path.display(), mistakes.join("; "))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What, by line; at most 20.
        mistakes: Vec<String>,
    },
    /// There is too much of it.
    #[error("the threat list `{}` is too large: {reason}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Which limit.
        reason: &'static str,
    },
}

/// What a list says of an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Threat {
    /// The list.
    pub list: Arc<str>,
    /// What the address is; may be empty.
    pub category: Arc<str>,
}

/// An address or block of a file, and what the file says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The address or block.
    pub block: Block,
    /// What it is; may be empty.
    pub category: String,
}

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An address or block a line.
    Text,
    /// Columns.
    Csv,
    /// STIX 2.1.
    Stix,
}

impl Format {
    /// By the ending of a file's name.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
        match ending.as_str() {
            "csv" => Self::Csv,
            "json" | "stix" => Self::Stix,
            _ => Self::Text,
        }
    }
}

/// Reads a list. Lines that are empty or begin with `#` or `;` are passed over, as is what comes after `#` or `;` in plain text.
///
/// # Errors
/// What is wrong, by line; at most 20 mistakes.
pub fn parse(format: Format, text: &str) -> Result<Vec<Entry>, Vec<String>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match format {
        Format::Text => by_line(text, |line| {
            let address = line.split(['#', ';']).next().unwrap_or_default().trim();
            address.parse().map(|block| Some(Entry { block, category: String::new() }))
        }),
        Format::Csv => csv(text),
        Format::Stix => stix(text),
    }
}

fn is_comment(line: &str) -> bool {
    line.is_empty() || line.starts_with(['#', ';'])
}

fn by_line(text: &str, mut read: impl FnMut(&str) -> Result<Option<Entry>, String>) -> Result<Vec<Entry>, Vec<String>> {
    let (mut entries, mut mistakes) = (Vec::new(), Vec::new());
    for (number, line) in (1_u64..).zip(text.lines()) {
        let line = line.trim();
        if is_comment(line) {
            continue;
        }
        match read(line) {
            Ok(entry) => entries.extend(entry),
            Err(_) if mistakes.len() == MAX_MISTAKES => break,
            Err(mistake) => mistakes.push(format!("line {number}: {mistake}")),
        }
    }
    if mistakes.is_empty() { Ok(entries) } else { Err(mistakes) }
}

fn csv(text: &str) -> Result<Vec<Entry>, Vec<String>> {
    const ADDRESSES: [&str; 7] = ["address", "ip", "ip_address", "cidr", "network", "indicator", "dst_ip"];
    const CATEGORIES: [&str; 4] = ["category", "type", "threat", "reason"];
    // Until a first line says otherwise.
    let (mut address, mut category, mut first) = (0, None, true);
    by_line(text, |line| {
        let fields = fields(line).ok_or_else(|| "a quote is not closed".to_owned())?;
        if std::mem::take(&mut first) {
            let column = |names: &[&str]| fields.iter().position(|field| names.contains(&field.trim().to_ascii_lowercase().as_str()));
            let named = column(&ADDRESSES);
            if let Some(named) = named {
                (address, category) = (named, column(&CATEGORIES));
                return Ok(None);
            }
        }
        let field = |column: usize| fields.get(column).map(|field| field.trim()).unwrap_or_default();
        let block = field(address).parse()?;
        Ok(Some(Entry { block, category: category.map(field).unwrap_or_default().chars().take(MAX_NAME).collect() }))
    })
}

/// The fields of a line; quotes within quotes are doubled. `None` if a quote is not closed.
fn fields(line: &str) -> Option<Vec<String>> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    (!quoted).then_some(fields)
}

/// A STIX bundle, or an object of it.
#[derive(Deserialize)]
struct Object {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    objects: Vec<Object>,
    #[serde(default)]
    pattern: String,
    #[serde(default)]
    pattern_type: Option<String>,
    #[serde(default)]
    value: String,
    #[serde(default)]
    revoked: bool,
    #[serde(default)]
    indicator_types: Vec<String>,
}

fn stix(text: &str) -> Result<Vec<Entry>, Vec<String>> {
    let bundle: Object = serde_json::from_str(text).map_err(|error| vec![format!("line {}: {error}", error.line())])?;
    let (mut entries, mut mistakes) = (Vec::new(), Vec::new());
    let objects = if bundle.kind == "bundle" { bundle.objects } else { vec![bundle] };
    for object in objects.into_iter().filter(|object| !object.revoked) {
        let category: String = object.indicator_types.join(", ").chars().take(MAX_NAME).collect();
        let values: Vec<String> = match object.kind.as_str() {
            "indicator" if object.pattern_type.as_deref().is_none_or(|kind| kind == "stix") => addresses_in(&object.pattern),
            "ipv4-addr" | "ipv6-addr" => vec![object.value],
            _ => continue,
        };
        for value in values {
            match value.parse() {
                Ok(block) => entries.push(Entry { block, category: category.clone() }),
                Err(mistake) if mistakes.len() < MAX_MISTAKES => {
                    let mistake: String = mistake;
                    mistakes.push(format!("{}: {mistake}", object.id));
                }
                Err(_) => {}
            }
        }
    }
    if mistakes.is_empty() { Ok(entries) } else { Err(mistakes) }
}

/// The addresses that a pattern compares with: `[ipv4-addr:value = '203.0.113.9' OR ipv4-addr:value ISSUBSET '198.51.100.0/24']`. What is
/// negated is left out.
fn addresses_in(pattern: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (start, _) in pattern.match_indices("-addr:value") {
        let before = pattern.get(..start).unwrap_or_default();
        let rest = pattern.get(start + "-addr:value".len()..).unwrap_or_default().trim_start();
        if !(before.ends_with("ipv4") || before.ends_with("ipv6")) || rest.starts_with("NOT") || rest.starts_with("!=") {
            continue;
        }
        let (list, rest) = match ["=", "ISSUBSET", "IN"].into_iter().find_map(|operator| Some((operator, rest.strip_prefix(operator)?))) {
            Some(("IN", rest)) => (true, rest),
            Some((_, rest)) => (false, rest),
            None => continue,
        };
        let end = if list { rest.find(')').unwrap_or(rest.len()) } else { rest.len() };
        let quoted = rest.get(..end).unwrap_or_default().split('\'').skip(1).step_by(2);
        found.extend(quoted.take(if list { usize::MAX } else { 1 }).map(str::to_owned));
    }
    found
}

/// Every list, ready for lookups.
#[derive(Debug, Default)]
pub struct Threats {
    blocks: Prefixes<Threat>,
}

impl Threats {
    /// What lists say of an address, by list.
    #[must_use]
    pub fn of(&self, address: IpAddr) -> Vec<Threat> {
        let mut threats: Vec<Threat> = self.blocks.covering(address).cloned().collect();
        threats.sort();
        threats.dedup();
        threats
    }

    /// How many addresses and blocks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads lists.
    ///
    /// # Errors
    /// [`ThreatError`].
    pub fn open(lists: &[ListConfig]) -> Result<Self, ThreatError> {
        Self::read(&files(lists)?)
    }

    fn read(files: &[(ListConfig, Stamp)]) -> Result<Self, ThreatError> {
        let mut blocks = Prefixes::default();
        let mut names: HashMap<String, Arc<str>> = HashMap::new();
        for (list, stamp) in files {
            let path = &list.path;
            if stamp.bytes > MAX_FILE_BYTES {
                return Err(ThreatError::TooLarge { path: path.clone(), reason: "at most 1 GiB a file" });
            }
            let bytes = fs::read(path).map_err(|source| ThreatError::Unreadable { path: path.clone(), source })?;
            let wrong = |mistakes| ThreatError::Wrong { path: path.clone(), mistakes };
            let text = String::from_utf8(bytes).map_err(|error| wrong(vec![format!("byte {}: is not UTF-8", error.utf8_error().valid_up_to())]))?;
            let mut name =
                |text: &str| -> Arc<str> { names.entry(text.to_owned()).or_insert_with(|| text.chars().take(MAX_NAME).collect::<String>().into()).clone() };
            let list_name = name(list.name.as_deref().or_else(|| path.file_stem().and_then(|stem| stem.to_str())).unwrap_or("threats"));
            for entry in parse(Format::of(path), &text).map_err(wrong)? {
                if blocks.len() >= MAX_ENTRIES {
                    return Err(ThreatError::TooLarge { path: path.clone(), reason: "at most 5,000,000 addresses and blocks in all lists" });
                }
                let category = name(if entry.category.is_empty() { &list.category } else { &entry.category });
                blocks.insert(entry.block, Threat { list: Arc::clone(&list_name), category });
            }
        }
        Ok(Self { blocks })
    }
}

/// By what a change of a file is known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
}

/// The files of lists, those of a folder by name.
fn files(lists: &[ListConfig]) -> Result<Vec<(ListConfig, Stamp)>, ThreatError> {
    let mut found = Vec::new();
    for list in lists {
        let unreadable = |source| ThreatError::Unreadable { path: list.path.clone(), source };
        if !fs::metadata(&list.path).map_err(unreadable)?.is_dir() {
            found.push((list.clone(), stamp(&list.path)?));
            continue;
        }
        let mut paths =
            fs::read_dir(&list.path).map_err(unreadable)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
        // Of Kubernetes' configuration maps, `..data` and the like are not lists.
        paths.retain(|path| path.is_file() && !path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with('.')));
        if paths.len() > MAX_FILES {
            return Err(ThreatError::TooLarge { path: list.path.clone(), reason: "at most 1,000 files in a folder" });
        }
        paths.sort();
        for path in paths {
            let stamp = stamp(&path)?;
            found.push((ListConfig { path, name: None, category: list.category.clone() }, stamp));
        }
    }
    Ok(found)
}

fn stamp(path: &Path) -> Result<Stamp, ThreatError> {
    let metadata = fs::metadata(path).map_err(|source| ThreatError::Unreadable { path: path.to_owned(), source })?;
    Ok(Stamp { bytes: metadata.len(), modified: metadata.modified().ok() })
}

/// The lists in use, which follow their files.
#[derive(Debug)]
pub struct ThreatLists {
    lists: Vec<ListConfig>,
    current: RwLock<Current>,
}

#[derive(Debug)]
struct Current {
    files: Vec<(ListConfig, Stamp)>,
    threats: Arc<Threats>,
}

impl ThreatLists {
    /// Reads lists for the first time.
    ///
    /// # Errors
    /// [`ThreatError`].
    pub fn open(lists: Vec<ListConfig>) -> Result<Self, ThreatError> {
        let files = files(&lists)?;
        let threats = Arc::new(Threats::read(&files)?);
        Ok(Self { lists, current: RwLock::new(Current { files, threats }) })
    }

    /// The lists as they are now.
    #[must_use]
    pub fn current(&self) -> Arc<Threats> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).threats)
    }

    /// Reads the lists again if a file has changed, come or gone; whether that was so. It blocks.
    ///
    /// # Errors
    /// [`ThreatError`]; then the lists stay as they were.
    pub fn reload(&self) -> Result<bool, ThreatError> {
        let files = files(&self.lists)?;
        if self.current.read().unwrap_or_else(PoisonError::into_inner).files == files {
            return Ok(false);
        }
        let threats = Arc::new(Threats::read(&files)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Current { files, threats };
        Ok(true)
    }
}
