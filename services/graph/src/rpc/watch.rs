//! Risks and their changes, as a stream that is made when it is read: a slow reader gets the newest state.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::{Stream, stream};
use gumshoe_api::graph::v1 as proto;
use gumshoe_behavior::Criticality;
use gumshoe_model::{EntityKey, GraphArn, Level, Timestamp};
use gumshoe_runtime::status;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{Graph, RISK_GRAIN_MICROS, entities};
use crate::{hot::HotGraph, risk, rows::Answer};

/// The most entities that are watched.
const MAX_ENTITIES: usize = 1_000;
/// How long changes are gathered, so that a busy graph is not looked through at every commit.
const GATHER: Duration = Duration::from_millis(200);
/// How long a stream goes on: who calls again is authorised again.
const LONGEST: Duration = Duration::from_secs(600);

/// Which entities.
pub(super) enum Which {
    These(Vec<EntityKey>),
    /// Those that findings name, from a level on.
    From(Level),
}

impl Which {
    pub(super) fn of(request: &proto::WatchRiskRequest) -> Answer<Self> {
        match (request.entities.len(), request.min_level.as_str()) {
            (1..=MAX_ENTITIES, "") => {
                let mut entities = entities(&request.entities)?;
                entities.sort_unstable();
                entities.dedup();
                Ok(Self::These(entities))
            }
            (0, "") => Err(status::invalid_argument("entities", "is required without `min_level`")),
            (0, level) => {
                let level = level.parse::<Level>().ok().filter(|level| *level > Level::Informational);
                level.map(Self::From).ok_or_else(|| status::invalid_argument("min_level", "must be low, medium, high or critical"))
            }
            (1..=MAX_ENTITIES, _) => Err(status::invalid_argument("min_level", "must be empty beside `entities`")),
            _ => Err(status::invalid_argument("entities", format!("must be at most {MAX_ENTITIES}"))),
        }
    }
}

/// Source, description, evidence and time of a part.
type Fact = (String, String, Vec<String>, Option<(i64, i32)>);

/// What of a risk makes it another one: all but how far it has faded.
#[derive(PartialEq, Eq)]
struct Face {
    level: String,
    criticality: String,
    facts: BTreeSet<Fact>,
}

impl Face {
    fn of(risk: &proto::Risk) -> Self {
        let time = |part: &proto::RiskPart| part.time.as_ref().map(|time| (time.seconds, time.nanos));
        let fact = |part: &proto::RiskPart| (part.source.clone(), part.description.clone(), part.evidence.clone(), time(part));
        Self { level: risk.level.clone(), criticality: risk.criticality.clone(), facts: risk.parts.iter().map(fact).collect() }
    }
}

/// A stream under way.
pub(super) struct Watch {
    graph: Graph,
    arn: GraphArn,
    which: Which,
    hot: Arc<HotGraph>,
    changes: watch::Receiver<u64>,
    sent: HashMap<EntityKey, Face>,
    ready: VecDeque<Arc<proto::Risk>>,
    time: Timestamp,
    end: Instant,
}

impl Watch {
    /// The stream. The first risks are there when it begins, so that what is wrong is told at once.
    pub(super) async fn start(graph: Graph, arn: GraphArn, which: Which) -> Answer<impl Stream<Item = Answer<proto::WatchRiskResponse>>> {
        let (hot, changes) = open(&graph, &arn).await?;
        let (time, end) = (graph.now(), Instant::now() + LONGEST);
        let mut watch = Self { graph, arn, which, hot, changes, sent: HashMap::new(), ready: VecDeque::new(), time, end };
        watch.look().await?;
        Ok(stream::try_unfold(watch, |mut watch| async move {
            let risk = watch.next().await?.map(Arc::unwrap_or_clone);
            Ok(risk.map(|risk| (proto::WatchRiskResponse { risk: Some(risk) }, watch)))
        }))
    }

    /// The next risk; `None` at the end.
    async fn next(&mut self) -> Answer<Option<Arc<proto::Risk>>> {
        loop {
            if let Some(risk) = self.ready.pop_front() {
                return Ok(Some(risk));
            }
            let faded = Duration::from_micros(u64::try_from(self.time.0 + RISK_GRAIN_MICROS - self.graph.clock.now().0).unwrap_or_default());
            tokio::select! {
                () = sleep_until(self.end) => return Ok(None),
                () = sleep(faded) => {}
                _ = self.changes.changed() => sleep(GATHER).await,
            }
            if self.hot.is_closed() {
                (self.hot, self.changes) = open(&self.graph, &self.arn).await?;
            }
            self.look().await?;
        }
    }

    /// Finds what has changed since the last look.
    async fn look(&mut self) -> Answer<()> {
        self.changes.mark_unchanged();
        self.time = self.graph.now();
        let level = match self.which {
            Which::These(_) => None,
            Which::From(level) => Some(level),
        };
        let entities = match &self.which {
            Which::These(entities) => entities.clone(),
            Which::From(_) => {
                let mut entities = weightiest(&self.hot, self.time);
                let known = self.sent.keys().filter(|entity| !entities.contains(*entity)).cloned().collect::<Vec<_>>();
                entities.extend(known);
                entities.into_iter().collect()
            }
        };
        for (entity, risk) in entities.iter().zip(risk::now(&self.hot, &entities, self.time).await?) {
            let is_in = level.is_none_or(|level| Level::of_score(risk.score) >= level);
            let face = Face::of(&risk);
            if !is_in {
                // Who was in is told a last time.
                if self.sent.remove(entity).is_some() {
                    self.ready.push_back(risk);
                }
            } else if self.sent.get(entity) != Some(&face) {
                self.sent.insert(entity.clone(), face);
                self.ready.push_back(risk);
            }
        }
        Ok(())
    }
}

async fn open(graph: &Graph, arn: &GraphArn) -> Answer<(Arc<HotGraph>, watch::Receiver<u64>)> {
    let hot = graph.hot(arn).await?;
    // Let go of at this very moment, it is opened anew at the first change.
    let changes = hot.watch();
    Ok((hot, changes))
}

/// The entities whose findings weigh most.
fn weightiest(hot: &HotGraph, time: Timestamp) -> BTreeSet<EntityKey> {
    let findings = hot.findings();
    let score = |entity: &EntityKey| gumshoe_behavior::risk(&findings.facts(entity, time), time, Criticality::Normal).score;
    let mut entities: Vec<(f64, &EntityKey)> = findings.entities().map(|entity| (score(entity), entity)).filter(|(score, _)| *score > 0.0).collect();
    entities.sort_by(|(one, left), (other, right)| other.total_cmp(one).then_with(|| left.cmp(right)));
    entities.into_iter().take(MAX_ENTITIES).map(|(_, entity)| entity.clone()).collect()
}
