//! Groups findings in the background, one graph at a time, whenever its findings or their verdicts have changed.
//!
//! Each run looks at all findings anew, so that the groups do not depend on the order in which these came, and writes down
//! the groups that are not what they were. A run that is cut off is done again.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use gumshoe_api::{
    convert::{entity_from_proto, time_from_proto},
    graph::v1::{FindingSummary, ListFindingsRequest},
};
use gumshoe_model::{GraphArn, TimeWindow, Timestamp, time::MICROS_PER_DAY};
use gumshoe_runtime::{Clock, status::Chain};
use tokio::{sync::Notify, time::Instant};

use super::{
    Body, Fact, FactKind, GroupId, Member, cluster,
    cluster::{Cluster, Degrees, Input},
    reconcile::{Heir, Known, reconcile},
    summary::PRINCIPALS,
    tactics::Catalog,
};
use crate::{
    claims::{self, Work},
    config::Groups as Config,
    error::GraphError,
    facts::{Habits, Seen},
    rpc::graph::Graphs,
    store::{
        Store, StoreError,
        groups::{ClaimedGraph, GroupWrite},
    },
    verdict::{FindingId, Kind},
};

/// The largest page that the graph gives.
const PAGE_SIZE: i32 = 1_000;
/// Principals of a group of which is told what they did.
const MAX_PRINCIPALS: usize = 5;
/// Things of one kind that are told of one principal, the first ones.
const MAX_FACTS: usize = 20;
/// Findings whose verdicts are read at once.
const FINDINGS_PER_QUESTION: usize = 500;
/// The longest time that a profile can be asked for.
const MAX_SCOPE: i64 = 365 * MICROS_PER_DAY;

/// Groups findings.
pub struct Regrouper {
    store: Arc<dyn Store>,
    graphs: Graphs,
    clock: Arc<dyn Clock>,
    config: Config,
    catalog: Catalog,
    /// Who claims: this process.
    name: String,
    wake: Notify,
    /// When changes were last looked for.
    looked: Mutex<Option<Instant>>,
    /// The graphs that there were then: one that was removed since is not asked for, which would make it anew.
    there: Mutex<HashSet<GraphArn>>,
}

/// Why a graph was not grouped.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the work has panicked")]
    Panicked(#[from] tokio::task::JoinError),
    #[error("another worker has the graph")]
    Lost,
}

#[async_trait]
impl Work for Regrouper {
    type Claimed = ClaimedGraph;
    const PIECES: &'static str = "graphs to be grouped";

    fn parallel(&self) -> usize {
        self.config.parallel
    }

    fn look_interval(&self) -> Duration {
        Duration::from_secs(self.config.look_seconds)
    }

    fn wake(&self) -> &Notify {
        &self.wake
    }

    async fn claim(&self, limit: u32) -> Result<Vec<ClaimedGraph>, StoreError> {
        if self.is_time_to_look() {
            match self.graphs.finding_versions().await {
                Ok(versions) => {
                    self.store.note_findings(&versions, self.clock.now()).await?;
                    *self.there.lock().unwrap_or_else(PoisonError::into_inner) = versions.into_iter().map(|(graph, _)| graph).collect();
                }
                Err(error) => tracing::warn!(error = %Chain(&error), "it is not known which findings have changed"),
            }
        }
        let mut claimed = self.store.claim_graphs(&self.name, self.clock.now(), self.after(self.config.lease_seconds), limit).await?;
        let gone: Vec<ClaimedGraph> = {
            let there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
            claimed.extract_if(.., |claimed| !there.contains(&claimed.graph)).collect()
        };
        for graph in gone {
            // It was removed, or another process has just found it: then its turn comes again.
            self.store.release_graph(&self.name, &graph, self.after(self.config.retry_seconds), false).await?;
        }
        Ok(claimed)
    }

    async fn work(self: Arc<Self>, claimed: ClaimedGraph) {
        let graph = &claimed.graph;
        let settled = self.clock.now().0.saturating_sub(claimed.noted.0) >= claims::micros(Duration::from_secs(self.config.settle_seconds));
        let outcome = tokio::select! {
            outcome = self.regroup(graph) => outcome,
            () = claims::keep(self.lease(), || self.store.renew_graph(&self.name, graph, self.after(self.config.lease_seconds))) => Err(Failure::Lost),
        };
        let (pause, done) = match outcome {
            Ok(()) if settled => (self.config.interval_seconds, true),
            // Perhaps a replica was asked that did not see the change yet.
            Ok(()) => (self.config.interval_seconds.max(self.config.settle_seconds), false),
            Err(Failure::Lost) => {
                tracing::warn!(%graph, "another worker groups the findings");
                return;
            }
            Err(error) => {
                tracing::warn!(%graph, error = %Chain(&error), "the findings of a graph cannot be grouped, and it is tried again");
                (self.config.retry_seconds, false)
            }
        };
        if let Err(error) = self.store.release_graph(&self.name, &claimed, self.after(pause), done).await {
            tracing::warn!(%graph, error = %Chain(&error), "that findings were grouped cannot be written down: it is done again");
        }
    }

    async fn give_up(&self) -> Result<(), StoreError> {
        self.store.give_up_graphs(&self.name).await
    }
}

impl Regrouper {
    /// Groups what `graphs` say into `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, graphs: Graphs, clock: Arc<dyn Clock>, config: Config, catalog: Catalog) -> Arc<Self> {
        let name = uuid::Uuid::new_v4().to_string();
        Arc::new(Self { store, graphs, clock, config, catalog, name, wake: Notify::new(), looked: Mutex::default(), there: Mutex::default() })
    }

    fn is_time_to_look(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let due = looked.is_none_or(|looked| looked.elapsed() >= self.look_interval());
        if due {
            *looked = Some(Instant::now());
        }
        due
    }

    async fn regroup(&self, graph: &GraphArn) -> Result<(), Failure> {
        let mut read = self.read(graph).await?;
        self.judge(graph, &mut read).await?;
        let inputs: Vec<Input> = read.iter().map(Member::input).collect();
        let actors = self.graphs.count_actors(graph, &cluster::candidates(&inputs)).await?;
        let (inputs, degrees, clusters) = tokio::task::spawn_blocking(move || {
            let degrees = Degrees::new(&inputs, &actors);
            let clusters = cluster::cluster(&inputs, &degrees);
            (inputs, degrees, clusters)
        })
        .await?;
        let known = self.store.known_groups(graph).await?;
        let id = |place: &usize| inputs.get(*place).map(|input| input.id.as_str());
        let ids: Vec<Vec<&str>> = clusters.iter().map(|cluster| cluster.findings.iter().filter_map(id).collect()).collect();
        let plan = reconcile(&known, &ids, &inputs.iter().map(|input| input.id.as_str()).collect());
        for (cluster, heir) in clusters.iter().zip(plan.heirs) {
            self.go_on(graph, &read, &inputs, cluster, &degrees, heir, &known).await?;
        }
        for id in &plan.dissolved {
            if !self.store.dissolve_group(&self.name, graph, id, self.clock.now()).await? {
                return Err(Failure::Lost);
            }
        }
        Ok(())
    }

    /// Writes a cluster down as the group that it goes on as, unless it is what it was.
    #[expect(clippy::too_many_arguments, reason = "what a run has put together")]
    async fn go_on(
        &self,
        graph: &GraphArn,
        read: &[Member],
        inputs: &[Input],
        cluster: &Cluster,
        degrees: &Degrees,
        heir: Heir,
        known: &[Known],
    ) -> Result<(), Failure> {
        let before = match &heir.id {
            Some(id) => Some(self.store.group(graph, id).await?.1),
            None => None,
        };
        let mut forgotten: Vec<Member> = Vec::new();
        if !heir.forgotten.is_empty() {
            let mut bodies: Vec<Body> = before.iter().cloned().collect();
            for merged in &heir.merged {
                bodies.push(self.store.group(graph, merged).await?.1);
            }
            let stays = bodies.into_iter().flat_map(|body| body.findings).filter(|finding| heir.forgotten.contains(&finding.id));
            let once: HashMap<String, Member> = stays.map(|finding| (finding.id.clone(), Member { ties: Vec::new(), ..finding })).collect();
            forgotten.extend(once.into_values());
            self.judge(graph, &mut forgotten).await?;
        }
        let mut body = Body::new(read, cluster, inputs, degrees, forgotten);
        if heir.merged.is_empty() && before.as_ref().is_some_and(|before| before.same_findings(&body)) {
            return Ok(());
        }
        let overview = body.overview();
        body.facts = self.facts(graph, &body, Timestamp(overview.first), Timestamp(overview.last)).await?;
        let was: HashSet<&str> = known
            .iter()
            .filter(|group| heir.id.iter().chain(&heir.merged).any(|id| *id == group.id))
            .flat_map(|group| group.findings.iter().map(String::as_str))
            .collect();
        let is_news = |finding: &Member| !finding.archived && !finding.is_dismissed() && !was.contains(finding.id.as_str());
        let news = body.findings.iter().filter(|finding| is_news(finding)).count();
        let id = heir.id.unwrap_or_else(GroupId::random);
        let write = GroupWrite { id, overview, body, merged: heir.merged, split_from: heir.split_from, news };
        if self.store.write_group(&self.name, graph, &write, self.clock.now()).await? { Ok(()) } else { Err(Failure::Lost) }
    }

    /// The graph's findings, the worst if there are too many.
    async fn read(&self, graph: &GraphArn) -> Result<Vec<Member>, GraphError> {
        let opened = self.graphs.open(graph);
        let mut request = ListFindingsRequest { include_archived: true, page_size: PAGE_SIZE, ..ListFindingsRequest::default() };
        let mut members: HashMap<String, Member> = HashMap::new();
        loop {
            let (findings, next) = opened.list_findings(&request).await?;
            members.extend(findings.into_iter().filter_map(member).map(|member| (member.id.clone(), member.with_signs(&self.catalog))));
            if next.is_empty() {
                break;
            }
            if members.len() >= self.config.max_findings {
                tracing::warn!(%graph, limit = self.config.max_findings, "the graph has more findings than are grouped: the less severe are left out");
                break;
            }
            request.page_token = next;
        }
        Ok(members.into_values().collect())
    }

    /// Notes the verdicts in force.
    async fn judge(&self, graph: &GraphArn, members: &mut [Member]) -> Result<(), StoreError> {
        for some in members.chunks_mut(FINDINGS_PER_QUESTION) {
            let ids: Vec<FindingId> = some.iter().filter_map(|member| member.id.parse().ok()).collect();
            let verdicts = self.store.verdicts_in_force(graph, &ids).await?;
            for member in some {
                let verdict = member.id.parse().ok().and_then(|id: FindingId| verdicts.get(&id));
                member.verdict = verdict.map(|verdict| verdict.content.kind).filter(|kind| *kind != Kind::Reopened);
            }
        }
        Ok(())
    }

    /// What the group's principals did for the first time in 45 days.
    async fn facts(&self, graph: &GraphArn, body: &Body, first: Timestamp, last: Timestamp) -> Result<Vec<Fact>, GraphError> {
        let opened = self.graphs.open(graph);
        let end = last.0.saturating_add(1);
        let Ok(scope) = TimeWindow::new(Timestamp(first.0.max(end - MAX_SCOPE)), Timestamp(end)) else { return Ok(Vec::new()) };
        let mut facts = Vec::new();
        for (entity, listed) in body.entities_of(PRINCIPALS).filter(|(_, entity)| !entity.hub).take(MAX_PRINCIPALS) {
            let Some(habits) = opened.habits(&entity, scope).await?.filter(|habits| !habits.in_training()) else { continue };
            facts.extend(news(&listed.key, &habits));
        }
        facts.sort_by(|one, other| (one.time, &one.entity, one.kind, &one.value).cmp(&(other.time, &other.entity, other.kind, &other.value)));
        Ok(facts)
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(self.config.lease_seconds)
    }

    fn after(&self, seconds: u64) -> Timestamp {
        claims::after(&*self.clock, Duration::from_secs(seconds))
    }
}

/// A finding as it is kept; `None` for one whose id no store can hold.
fn member(summary: FindingSummary) -> Option<Member> {
    let storable = |text: &str| !text.contains('\0');
    let time = |time: Option<prost_types::Timestamp>| time.and_then(|time| time_from_proto("time", &time).ok()).unwrap_or_default().0;
    let mut entities: Vec<String> = summary
        .entities
        .iter()
        .filter_map(|entity| entity_from_proto("entities", Some(entity)).ok())
        .map(|entity| entity.to_string())
        .filter(|entity| storable(entity))
        .collect();
    entities.sort_unstable();
    entities.dedup();
    (!summary.id.is_empty() && storable(&summary.id)).then(|| Member {
        id: summary.id,
        finding_type: summary.r#type,
        product: summary.product,
        title: summary.title,
        severity: summary.severity,
        account: summary.account_id.chars().filter(char::is_ascii_digit).collect(),
        region: summary.region,
        count: summary.count,
        first: time(summary.first_time.or(summary.last_time)),
        last: time(summary.last_time),
        update: time(summary.update_time),
        archived: summary.archived,
        entities,
        ..Member::default()
    })
}

/// What is new of a principal.
fn news(entity: &str, habits: &Habits) -> Vec<Fact> {
    let kinds: [(FactKind, &[Seen]); 4] = [
        (FactKind::NewOperation, &habits.operations),
        (FactKind::NewCountry, &habits.countries),
        (FactKind::NewNetwork, &habits.networks),
        (FactKind::NewUserAgent, &habits.user_agents),
    ];
    let of_kind = |(kind, seen): (FactKind, &[Seen])| {
        let mut new: Vec<&Seen> = seen.iter().filter(|seen| seen.new).collect();
        new.sort_by(|one, other| (one.first, &one.name).cmp(&(other.first, &other.name)));
        let fact = move |seen: &Seen| {
            let value = if seen.service.is_empty() { seen.name.clone() } else { format!("{}:{}", seen.service, seen.name) };
            Fact { time: seen.first.0, entity: entity.to_owned(), kind, value, count: seen.count }
        };
        new.into_iter().take(MAX_FACTS).map(fact).collect::<Vec<_>>()
    };
    kinds.into_iter().flat_map(of_kind).collect()
}
