//! What principals do against what similar principals do: training, and what is surprising.

use std::collections::BTreeSet;

use gumshoe_behavior::{
    bytes::{Reader, Writer},
    newness::TRAINING_DAYS,
    peers::{Peers, Settings},
    risk::Source,
};
use gumshoe_lake::Snapshot;
use gumshoe_model::{EntityKey, EntityType, Hour, Timestamp};

use super::{BASELINE_HOURS, Found, Judge, Runs, Scope};
use crate::{
    rows::{self, Answer, Columns, Parameters},
    store::usual::Usual,
};

/// Whose groups are found. Sessions count for their role.
const PRINCIPALS: [EntityType; 5] = [EntityType::User, EntityType::Role, EntityType::FederatedUser, EntityType::Root, EntityType::KubernetesSubject];
/// Pairs that a model is trained on at most, about 200 bytes each while it is; of more, those of the principals that sort first.
const MAX_PAIRS: usize = 1_000_000;
/// Surprising items that an anomaly names.
const MAX_NAMED: usize = 5;
/// Surprising items that are told with a finding, to be learned if they are judged to be usual.
const MAX_ITEMS: usize = 100;
/// Fewest principals among which there are groups.
const FEWEST: usize = 5;
/// The number of the form that models are kept in.
const FORMAT: u32 = 1;

/// A model, and what it was trained on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) peers: Peers,
    /// The UTC day, since the epoch, before which its baseline ends.
    pub(crate) day: i64,
    /// Days with records in its baseline.
    pub(crate) days: u32,
}

impl Model {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut to = Writer::default();
        to.u32(FORMAT);
        to.i64(self.day);
        to.u32(self.days);
        self.peers.encode(&mut to);
        to.finish()
    }

    /// `None` if it is of another form.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader::new(bytes);
        if from.u32()? != FORMAT {
            return None;
        }
        let (day, days) = (from.i64()?, from.u32()?);
        Some(Self { day, days, peers: Peers::decode(&mut from)? })
    }

    /// A model of the 45 days before `day`. What this one finds surprising is not learned, once it is trained in full, unless it was
    /// judged to be `usual`.
    ///
    /// `days` have records in these 45 days.
    pub(crate) async fn next(&self, snapshot: &Snapshot, day: i64, days: u32, usual: &Usual) -> Answer<Self> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let usual = usual.clone();
        let window = Scope::window(day * 24 - BASELINE_HOURS, day * 24)?;
        for item in Item::ALL {
            let mut parameters = Parameters::new();
            let within = parameters.within("hour", window);
            let kinds = rows::quoted(PRINCIPALS);
            let sql = format!(
                "SELECT DISTINCT entity_type, entity_id, {} AS item FROM edges WHERE {within} AND {} AND entity_type IN ({kinds}) \
                 ORDER BY entity_type, entity_id, item LIMIT {MAX_PAIRS}",
                item.column(),
                item.condition()
            );
            rows::each_of(snapshot, &sql, parameters, |batch| {
                let columns = Columns(batch);
                let (types, ids, items) = (columns.texts("entity_type")?, columns.texts("entity_id")?, columns.texts("item")?);
                for row in 0..columns.len() {
                    pairs.push((format!("{}:{}", types.get(row), ids.get(row)), item.name(items.get(row))));
                }
                Ok(())
            })
            .await?;
        }
        let trained = self.clone();
        let train = move || {
            let all = pairs.iter().map(texts);
            // While a model has seen little, much is new that is usual.
            let mut admitted = if trained.days < TRAINING_DAYS { all.collect() } else { trained.peers.admitted(all) };
            admitted.extend(pairs.iter().filter(|pair| usual.contains(*pair)).map(texts));
            let peers = Peers::train(admitted, Settings::default());
            Self { peers, day, days }
        };
        tokio::task::spawn_blocking(train).await.map_err(|error| gumshoe_runtime::status::internal(&error))
    }
}

fn texts((principal, item): &(String, String)) -> (&str, &str) {
    (principal.as_str(), item.as_str())
}

/// What a principal can do with or from.
#[derive(Debug, Clone, Copy)]
enum Item {
    Operation,
    Network,
}

impl Item {
    const ALL: [Self; 2] = [Self::Operation, Self::Network];

    fn column(self) -> &'static str {
        match self {
            Self::Operation => "operation",
            Self::Network => "CAST(asn AS VARCHAR)",
        }
    }

    fn condition(self) -> &'static str {
        match self {
            Self::Operation => "side = 'out' AND relation IN ('called', 'failed_to_call') AND operation <> ''",
            Self::Network => "side = 'out' AND relation = 'called' AND asn > 0",
        }
    }

    fn name(self, value: &str) -> String {
        match self {
            Self::Operation => value.replacen('/', " ", 1),
            Self::Network => format!("AS{value}"),
        }
    }
}

struct Row {
    item: String,
    first: Timestamp,
    last: Timestamp,
}

/// The principals that did what similar ones don't and was not judged to be usual, with what surprises most.
pub(crate) async fn find(scope: &Scope<'_>, model: &Model, usual: &Usual, judge: &mut Judge<'_>) -> Answer<Vec<Found>> {
    let mut found = Vec::new();
    if !scope.may_be(&PRINCIPALS) || model.peers.principals() < FEWEST {
        return Ok(found);
    }
    for item in Item::ALL {
        let mut parameters = Parameters::new();
        let edges = scope.edges(scope.from, &PRINCIPALS, item.condition(), &mut parameters)?;
        let sql = format!(
            "SELECT entity_type, entity_id, item, min(first_time) AS first_time, max(last_time) AS last_time FROM \
             (SELECT e.entity_type, e.entity_id, {} AS item, e.first_time, e.last_time FROM {edges}) \
             GROUP BY entity_type, entity_id, item ORDER BY entity_type, entity_id, item",
            item.column().replace("operation", "e.operation").replace("asn", "e.asn"),
        );
        let mut runs = Runs::new(|entity: EntityKey, rows: Vec<Row>| found.extend(of(model, usual, entity, rows, judge)));
        rows::each_of(scope.snapshot, &sql, parameters, |batch| {
            let columns = Columns(batch);
            let (types, ids, items) = (columns.texts("entity_type")?, columns.texts("entity_id")?, columns.texts("item")?);
            let (firsts, lasts) = (columns.numbers("first_time")?, columns.numbers("last_time")?);
            for row in 0..columns.len() {
                let key = rows::entity(types.get(row), ids.get(row))?;
                let row = Row { item: item.name(items.get(row)), first: firsts.time(row), last: lasts.time(row) };
                runs.push(key, row);
            }
            Ok(())
        })
        .await?;
        runs.end();
    }
    Ok(found)
}

/// The most surprising of what a principal did, if it is worth telling; the others are counted.
fn of(model: &Model, usual: &Usual, entity: EntityKey, rows: Vec<Row>, judge: &mut Judge<'_>) -> Option<Found> {
    let principal = entity.to_string();
    let judged: BTreeSet<&str> =
        usual.range((principal.clone(), String::new())..).take_while(|(known, _)| *known == principal).map(|(_, item)| item.as_str()).collect();
    let trust = f64::from(model.days.min(TRAINING_DAYS)) / f64::from(TRAINING_DAYS);
    let mut worth: Vec<(f64, Row)> = Vec::new();
    for row in rows {
        // What was learned is usual, however rare, and what was judged so.
        let known = judged.contains(row.item.as_str()) || model.peers.knows(&principal, &row.item);
        let score = if known { 0.0 } else { model.peers.score(&principal, &row.item) * trust };
        if judge(Source::Peers, score) {
            worth.push((score, row));
        }
    }
    worth.sort_by(|(one, left), (other, right)| other.total_cmp(one).then_with(|| left.item.cmp(&right.item)));
    let (_, most) = worth.first()?;
    let mut anomaly = model.peers.anomaly(&principal, &most.item).trusted(trust);
    if worth.len() > 1 {
        let more: Vec<&str> = worth.iter().skip(1).take(MAX_NAMED).map(|(_, row)| row.item.as_str()).collect();
        let rest = worth.len() - 1 - more.len();
        let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        anomaly.label += &format!("; also {}{rest}", more.join(", "));
    }
    if trust < 1.0 {
        anomaly.baseline += &format!(", training: {} of {TRAINING_DAYS} days", model.days);
    }
    let first = worth.iter().map(|(_, row)| row.first).min()?;
    let last = worth.iter().map(|(_, row)| row.last).max()?;
    let items = worth.into_iter().take(MAX_ITEMS).map(|(_, row)| row.item).collect();
    Some(Found { source: Source::Peers, entity, others: Vec::new(), items, first, last, anomaly })
}

/// The day that a model for some hours is of.
pub(crate) fn day(from: i64) -> i64 {
    Hour(from).start().day()
}
