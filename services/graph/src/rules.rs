//! The rules of graphs: those that come with Gumshoe, over them the operator's directory, over these each graph's own.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use gumshoe_api::graph::v1::RuleDocument;
use gumshoe_detections::{
    LoadError, Problem, RuleSet,
    set::{ids, read, shipped_files},
};
use gumshoe_model::GraphArn;
use gumshoe_runtime::{Shutdown, status::Chain};
use moka::future::Cache;
use tokio::sync::Mutex;
use xxhash_rust::xxh3::Xxh3;

use crate::store::{RuleStore, StoreError, StoredRule};

/// How late a change takes effect in other replicas.
const MAX_AGE: Duration = Duration::from_secs(2);
/// How long the store is waited for where work cannot wait, and after how long it is asked again when it did not answer.
const PATIENCE: Duration = Duration::from_millis(1_500);
const RETRY: Duration = Duration::from_secs(30);
/// How often the operator's directory is read again.
const PERIOD: Duration = Duration::from_secs(3);
/// Graphs whose rules are kept in memory.
const MAX_GRAPHS: u64 = 1_000;
/// What names of files in the operator's directory begin with.
const DIRECTORY: &str = "directory/";

/// Files by name and text.
type Files = Vec<(String, String)>;

/// Whose a rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It comes with Gumshoe.
    Shipped,
    /// It is in the operator's directory.
    Directory,
    /// It was written for the graph.
    Graph,
}

/// The rules of one graph.
#[derive(Debug)]
pub(crate) struct Effective {
    /// Other rules have another.
    pub(crate) version: String,
    pub(crate) set: Arc<RuleSet>,
    /// Files of the operator's directory.
    pub(crate) directory: Arc<Files>,
    /// The graph's own rules.
    pub(crate) own: Vec<StoredRule>,
    /// How often these were changed.
    pub(crate) revision: i64,
    /// Ids of rules that are switched off, and the files that do so.
    pub(crate) off: BTreeMap<String, String>,
    /// Why rules of the graph are not in use.
    pub(crate) problems: Vec<Problem>,
}

impl Effective {
    /// Who a rule is from, by the file that it is in.
    pub(crate) fn origin(&self, file: &str) -> Origin {
        if self.own(file).is_some() {
            Origin::Graph
        } else if file.starts_with(DIRECTORY) {
            Origin::Directory
        } else {
            Origin::Shipped
        }
    }

    /// A rule of the graph.
    pub(crate) fn own(&self, id: &str) -> Option<&StoredRule> {
        self.own.iter().find(|rule| rule.id == id)
    }

    /// The text of a file.
    pub(crate) fn text(&self, file: &str) -> Option<&str> {
        let own = self.own(file).map(|rule| rule.document.as_str());
        let directory = || self.directory.iter().find(|(name, _)| name == file).map(|(_, text)| text.as_str());
        let shipped = || shipped_files().iter().find(|(name, _)| *name == file).map(|(_, text)| *text);
        own.or_else(directory).or_else(shipped)
    }

    /// All files but the shipped ones, in the order of their layers. Rules of the graph that are not in use are left out.
    pub(crate) fn documents(&self) -> Vec<RuleDocument> {
        let left_out = |id: &str| self.problems.iter().any(|problem| problem.file == id);
        let directory = self.directory.iter().map(|(name, text)| RuleDocument { name: name.clone(), text: text.clone(), of_graph: false });
        let own = self.own.iter().filter(|rule| !left_out(&rule.id));
        directory.chain(own.map(|rule| RuleDocument { name: rule.id.clone(), text: rule.document.clone(), of_graph: true })).collect()
    }

    /// The set with other rules of the graph.
    pub(crate) fn with(&self, own: &Files) -> Result<RuleSet, LoadError> {
        RuleSet::over_shipped([self.directory.as_slice(), own.as_slice()])
    }

    /// The graph's own rules as files, but for the one with an id.
    pub(crate) fn own_but(&self, id: &str) -> Files {
        self.own.iter().filter(|rule| rule.id != id).map(file).collect()
    }
}

fn file(rule: &StoredRule) -> (String, String) {
    (rule.id.clone(), rule.document.clone())
}

/// What all graphs have.
#[derive(Debug, Clone)]
struct Base {
    hash: u128,
    files: Arc<Files>,
    set: Arc<RuleSet>,
    problems: Vec<Problem>,
}

/// The rules of a graph, and until when they are used without asking the store.
struct Kept {
    until: Instant,
    base: u128,
    rules: Arc<Effective>,
}

/// The rules of all graphs.
pub(crate) struct Rules {
    store: Arc<dyn RuleStore>,
    folder: Option<PathBuf>,
    base: RwLock<Base>,
    graphs: Cache<GraphArn, Arc<Mutex<Option<Kept>>>>,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Rules").field("folder", &self.folder).finish_non_exhaustive()
    }
}

fn hash<'f>(files: impl IntoIterator<Item = &'f (String, String)>) -> u128 {
    let mut hash = Xxh3::new();
    for part in files.into_iter().flat_map(|(name, text)| [name, text]) {
        hash.update(&part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.digest128()
}

fn problems(error: &LoadError) -> Vec<Problem> {
    match error {
        LoadError::Wrong(problems) => problems.clone(),
        // Why is for the operator, in the log.
        LoadError::Unreadable { .. } => vec![Problem { file: DIRECTORY.to_owned(), field: String::new(), reason: "cannot be read".to_owned() }],
    }
}

impl Rules {
    /// The shipped rules and those of the operator's directory. If anything is wrong with these, the shipped ones alone are in use, and
    /// the log says why.
    ///
    /// # Errors
    /// [`LoadError`] if the shipped rules are not right, which tests exclude.
    pub(crate) fn open(store: Arc<dyn RuleStore>, folder: Option<PathBuf>) -> Result<Self, LoadError> {
        let base = Base { hash: hash([]), files: Arc::default(), set: Arc::new(RuleSet::shipped()?), problems: Vec::new() };
        let rules =
            Self { store, folder, base: RwLock::new(base), graphs: Cache::builder().max_capacity(MAX_GRAPHS).time_to_idle(Duration::from_secs(3_600)).build() };
        rules.reload(&mut None);
        Ok(rules)
    }

    fn base(&self) -> Base {
        self.base.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the operator's directory again. `seen` is the hash of what was read last.
    fn reload(&self, seen: &mut Option<u128>) {
        let Some(folder) = &self.folder else { return };
        let files = read(folder).map(|files| files.into_iter().map(|(name, text)| (format!("{DIRECTORY}{name}"), text)).collect::<Files>());
        let hash = files.as_ref().map_or(0, hash);
        if seen.replace(hash) == Some(hash) {
            return;
        }
        let loaded = files.and_then(|files| Ok((RuleSet::over_shipped([files.as_slice()])?, files)));
        let mut base = self.base.write().unwrap_or_else(PoisonError::into_inner);
        match loaded {
            Ok((set, files)) => {
                tracing::info!(folder = %folder.display(), files = files.len(), "detection rules were read");
                *base = Base { hash, files: Arc::new(files), set: Arc::new(set), problems: Vec::new() };
            }
            Err(error) => {
                tracing::error!(error = %Chain(&error), folder = %folder.display(), "detection rules are not right: those before stay in use");
                base.problems = problems(&error);
            }
        }
    }

    /// Reads the directory every few seconds, until shutdown.
    pub(crate) async fn watch(self: Arc<Self>, shutdown: &Shutdown) {
        if self.folder.is_none() {
            return;
        }
        let mut seen = None;
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
            let rules = Arc::clone(&self);
            let mut before = seen;
            let read = tokio::task::spawn_blocking(move || {
                rules.reload(&mut before);
                before
            });
            seen = read.await.unwrap_or(seen);
        }
    }

    /// The rules of a graph now, a few seconds old at most. If the store does not answer, those that were known last.
    pub(crate) async fn of(&self, graph: &GraphArn) -> Arc<Effective> {
        let slot = self.graphs.get_with_by_ref(graph, async { Arc::default() }).await;
        let mut kept = slot.lock().await;
        let base = self.base();
        if let Some(kept) = kept.as_ref().filter(|kept| kept.base == base.hash && Instant::now() < kept.until) {
            return Arc::clone(&kept.rules);
        }
        let known = kept.as_ref().map(|kept| Arc::clone(&kept.rules));
        // Commits go on without the store.
        let read = tokio::time::timeout(PATIENCE, self.read(graph, known.as_ref(), &base)).await;
        let (rules, age) = match read {
            Ok(Ok(rules)) => (rules, MAX_AGE),
            failed => {
                let reason =
                    failed.map_or_else(|_| "no answer in time".to_owned(), |failed| failed.err().map(|error| Chain(&error).to_string()).unwrap_or_default());
                tracing::warn!(%graph, reason, "the rules of a graph cannot be read: those known are used");
                (known.unwrap_or_else(|| Arc::new(Effective::of(&base, 0, Vec::new()))), RETRY)
            }
        };
        *kept = Some(Kept { until: Instant::now() + age, base: base.hash, rules: Arc::clone(&rules) });
        rules
    }

    /// The rules of a graph as they are in the store.
    pub(crate) async fn newest(&self, graph: &GraphArn) -> Result<Arc<Effective>, StoreError> {
        let slot = self.graphs.get_with_by_ref(graph, async { Arc::default() }).await;
        let mut kept = slot.lock().await;
        let base = self.base();
        let known = kept.as_ref().map(|kept| Arc::clone(&kept.rules));
        let rules = self.read(graph, known.as_ref(), &base).await?;
        *kept = Some(Kept { until: Instant::now() + MAX_AGE, base: base.hash, rules: Arc::clone(&rules) });
        Ok(rules)
    }

    async fn read(&self, graph: &GraphArn, known: Option<&Arc<Effective>>, base: &Base) -> Result<Arc<Effective>, StoreError> {
        let revision = self.store.rule_revision(graph).await?;
        if let Some(known) = known.filter(|known| known.revision == revision && Arc::ptr_eq(&known.directory, &base.files)) {
            return Ok(Arc::clone(known));
        }
        let (revision, own) = self.store.rules(graph).await?;
        let base = base.clone();
        let made = tokio::task::spawn_blocking(move || Effective::of(&base, revision, own)).await;
        Ok(Arc::new(made.map_err(|error| StoreError::Fault(Box::new(error)))?))
    }

    /// Forgets a graph that is gone.
    pub(crate) async fn forget(&self, graph: &GraphArn) -> Result<(), StoreError> {
        self.store.delete_rules(graph).await?;
        self.graphs.invalidate(graph).await;
        Ok(())
    }

    /// Why the operator's directory as it is now is not in use.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        self.base().problems
    }

    pub(crate) fn store(&self) -> &dyn RuleStore {
        &*self.store
    }
}

impl Effective {
    /// A graph's rules were right when they were written. If they no longer go together with the operator's, those at fault are left out.
    fn of(base: &Base, revision: i64, own: Vec<StoredRule>) -> Self {
        let mut files: Files = own.iter().map(file).collect();
        let mut found = Vec::new();
        let set = loop {
            if files.is_empty() {
                break Arc::clone(&base.set);
            }
            match RuleSet::over_shipped([base.files.as_slice(), files.as_slice()]) {
                Ok(set) => break Arc::new(set),
                Err(error) => {
                    let wrong = problems(&error);
                    let before = files.len();
                    files.retain(|(id, _)| !wrong.iter().any(|problem| problem.file == *id));
                    if files.len() == before {
                        files.clear();
                    }
                    found.extend(wrong);
                }
            }
        };
        let off = base.files.iter().chain(&files).flat_map(|(name, text)| {
            let switched = ids(name, text).unwrap_or_default().into_iter().filter(|(_, off)| *off);
            switched.map(|(id, _)| (id, name.clone())).collect::<Vec<_>>()
        });
        // What a later layer has is not switched off.
        let off = off.filter(|(id, _)| set.get(id).is_none() && !set.is_part(id)).collect();
        let version = format!("{:032x}", hash(base.files.iter().chain(&files)));
        Self { version, set, directory: Arc::clone(&base.files), own, revision, off, problems: found }
    }
}
