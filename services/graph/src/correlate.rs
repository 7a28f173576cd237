//! Rules about several events, over the hours that are complete.
//!
//! Events are read by the marks that they got when they were ingested, in the order of their times, from as long before the hours as
//! the rules look back, so that nothing has to be remembered between two sweeps. What was complete before the hours was told then.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use gumshoe_detections::{Correlated, Correlations, Rule, RuleSet};
use gumshoe_lake::LakeError;
use gumshoe_model::{
    EntityKey, EntityType, Finding, GraphArn, PRODUCT, TimeWindow, Timestamp,
    time::{MICROS_PER_DAY, MICROS_PER_HOUR},
};
use gumshoe_records::events::EventBatch;
use gumshoe_runtime::status::{self, Failure};

use crate::{
    made::{self, Made},
    matches,
    rows::{self, Answer, Columns, Parameters},
    rules::Rules,
    sweep::{Finder, Hours},
};

/// How far back events are read at most, whatever a rule asks for.
const MAX_LOOK_BACK: i64 = 7 * MICROS_PER_DAY;
/// Findings of one sweep at most, those of the gravest rules first.
const MAX_FINDINGS: usize = 1_000;

/// Finds what rules about several events look for.
pub(crate) struct Correlator {
    rules: Arc<Rules>,
}

impl Correlator {
    pub(crate) fn new(rules: Arc<Rules>) -> Self {
        Self { rules }
    }
}

/// Whom and what the events of a finding name.
#[derive(Default)]
struct Named {
    /// Actors, then their roles, then addresses.
    entities: BTreeSet<(u8, EntityKey)>,
    account: String,
    region: String,
}

#[async_trait]
impl Finder for Correlator {
    async fn find(&self, hours: &Hours) -> Result<Vec<Made>, Failure> {
        let rules = self.rules.of(hours.lake.arn()).await;
        let set = &rules.set;
        let (start, end) = (Timestamp(hours.from * MICROS_PER_HOUR), Timestamp(hours.to * MICROS_PER_HOUR));
        let before = set.longest_span().min(MAX_LOOK_BACK);
        if before == 0 {
            return Ok(Vec::new());
        }
        let window = TimeWindow::new(Timestamp((start.0 - before).max(0)), end).map_err(|error| status::internal(&error))?;
        let complete: Vec<Correlated> = complete(hours, set, window).await?.into_iter().filter(|found| found.last >= start).collect();
        let named = named(hours, window, &complete).await?;
        let mut made: BTreeMap<String, Made> = BTreeMap::new();
        for found in &complete {
            let finding = told(hours.lake.arn(), found, &named);
            match made.get_mut(&*finding.finding.id) {
                Some(known) => merge(known, finding),
                None => drop(made.insert(finding.finding.id.to_string(), finding)),
            }
        }
        let mut made: Vec<Made> = made.into_values().collect();
        made.sort_by(|one, other| other.finding.severity.total_cmp(&one.finding.severity).then_with(|| one.finding.id.cmp(&other.finding.id)));
        if made.len() > MAX_FINDINGS {
            tracing::warn!(graph = %hours.lake.arn(), found = made.len(), kept = MAX_FINDINGS, "rules about several events found more than is kept");
            made.truncate(MAX_FINDINGS);
        }
        Ok(made)
    }
}

/// What is complete in a window, in the order of its last events.
async fn complete(hours: &Hours, set: &RuleSet, window: TimeWindow) -> Answer<Vec<Correlated>> {
    let mut parameters = Parameters::new();
    let mut condition = parameters.within("time", window);
    let marked: Vec<String> = set
        .part_ids()
        .enumerate()
        .map(|(index, id)| {
            parameters.text(format!("rule{index}"), id);
            format!("strpos(rules, $rule{index}) > 0")
        })
        .collect();
    // Most events have no mark.
    condition += &format!(" AND rules <> '' AND ({})", marked.join(" OR "));
    let (mut correlations, mut found) = (Correlations::new(), Vec::new());
    rows::each_of(&hours.snapshot, &format!("SELECT * FROM events WHERE {condition} ORDER BY time, event_id"), parameters, |batch| {
        let wrong = |error| rows::failure(LakeError::Parquet(error));
        let events = EventBatch::of_rows(batch).map_err(wrong)?;
        let (all, raw) = (events.rows().map_err(wrong)?, Columns(batch).texts("raw")?);
        for row in 0..all.len() {
            if let Some(event) = all.event(row, raw.get(row)).filter(|event| event.corrects.is_empty()) {
                found.extend(correlations.observe_marked(set, &event, all.rules.get(row)));
            }
        }
        Ok(())
    })
    .await?;
    if correlations.left_out() > 0 {
        tracing::warn!(graph = %hours.lake.arn(), events = correlations.left_out(), "too many groups of events: some were left out");
    }
    Ok(found)
}

/// Whom the events of each finding name, by the events' ids.
async fn named(hours: &Hours, window: TimeWindow, complete: &[Correlated]) -> Answer<HashMap<String, Named>> {
    let mut named: HashMap<String, Named> = HashMap::new();
    let mut ids: Vec<&String> = complete.iter().flat_map(|found| &found.events).collect();
    ids.sort_unstable();
    ids.dedup();
    for ids in ids.chunks(1_000) {
        let mut parameters = Parameters::new();
        let within = parameters.within("time", window);
        let listed = parameters.texts("e", ids.iter().map(|id| id.as_str()));
        let sql = format!(
            "SELECT event_id, actor_type, actor_id, parent_type, parent_id, address, account, region FROM events WHERE {within} AND event_id IN ({listed})"
        );
        rows::each_of(&hours.snapshot, &sql, parameters, |batch| {
            let columns = Columns(batch);
            let [events, actor_types, actors] = [columns.texts("event_id")?, columns.texts("actor_type")?, columns.texts("actor_id")?];
            let [parent_types, parents, addresses] = [columns.texts("parent_type")?, columns.texts("parent_id")?, columns.texts("address")?];
            let (accounts, regions) = (columns.texts("account")?, columns.texts("region")?);
            for row in 0..columns.len() {
                let named = named.entry(events.get(row).to_owned()).or_default();
                (named.account, named.region) = (accounts.get(row).to_owned(), regions.get(row).to_owned());
                let actor = rows::optional_entity(actor_types.get(row), actors.get(row))?;
                let parent = rows::optional_entity(parent_types.get(row), parents.get(row))?;
                let address = addresses.get(row);
                let address = address.parse::<std::net::IpAddr>().ok().map(|_| EntityKey { kind: EntityType::IpAddress, id: address.to_owned() });
                for (rank, entity) in [(0, actor), (1, parent), (2, address)] {
                    named.entities.extend(entity.map(|entity| (rank, entity)));
                }
            }
            Ok(())
        })
        .await?;
    }
    Ok(named)
}

/// What a rule found, as a finding: one for each rule, group and UTC day.
fn told(graph: &GraphArn, found: &Correlated, named: &HashMap<String, Named>) -> Made {
    let Correlated { rule, first, last, count, group, events } = found;
    let known: Vec<&Named> = events.iter().filter_map(|event| named.get(event)).collect();
    let entities: BTreeSet<(u8, EntityKey)> = known.iter().flat_map(|named| named.entities.iter().cloned()).collect();
    let latest = known.last();
    let group_text: Vec<String> = group.iter().map(|(field, value)| format!("{field}={value}")).collect();
    let day = last.to_chrono().format("%Y-%m-%d").to_string();
    let mut what = vec!["correlation", &rule.id, &day];
    what.extend(group_text.iter().map(String::as_str));
    Made {
        finding: Finding {
            id: made::id(graph, &what).into(),
            finding_type: matches::finding_type(rule, "Events").into(),
            product: PRODUCT.into(),
            title: rule.title.clone().into(),
            description: matches::description(rule).into(),
            severity: matches::severity(rule.level),
            count: u64::try_from(*count).unwrap_or(u64::MAX),
            first_seen: *first,
            last_seen: *last,
            updated: *last,
            archived: false,
        },
        account: latest.map(|named| named.account.clone()).unwrap_or_default(),
        region: latest.map(|named| named.region.clone()).unwrap_or_default(),
        event_id: events.last().cloned().unwrap_or_default(),
        entities: entities.into_iter().map(|(_, entity)| entity).collect(),
        raw: document(rule, group, events),
    }
}

fn document(rule: &Rule, group: &[(String, String)], events: &[String]) -> String {
    let mut document = matches::document(rule);
    if let Some(fields) = document.as_object_mut() {
        fields.insert("group".to_owned(), group.iter().map(|(field, value)| (field.clone(), serde_json::Value::from(value.clone()))).collect());
        fields.insert("events".to_owned(), events.into());
    }
    document.to_string()
}

/// Puts what was complete again into what was before.
fn merge(known: &mut Made, later: Made) {
    let (one, other) = (&mut known.finding, later.finding);
    one.count = one.count.saturating_add(other.count);
    one.first_seen = one.first_seen.min(other.first_seen);
    if other.last_seen >= one.last_seen {
        (one.last_seen, one.updated) = (other.last_seen, other.updated);
        (known.event_id, known.raw) = (later.event_id, later.raw);
    }
    for entity in later.entities {
        if !known.entities.contains(&entity) && known.entities.len() < matches::MAX_ENTITIES {
            known.entities.push(entity);
        }
    }
}
