//! What detectors said, and what was unusual about the entities they named.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, TryStreamExt, stream};
use gumshoe_api::{
    convert::{entity_to_proto, measures_to_proto, time_to_proto, window_to_proto},
    graph::v1::{Activity, AffectedEntity, FindingSummary, GetFindingResponse, Risk},
};
use gumshoe_enrich::Places;
use gumshoe_lake::GraphLake;
use gumshoe_model::{
    AccountId, EntityKey, EntityType, Severity, TimeWindow, Timestamp,
    time::{MICROS_PER_DAY, MICROS_PER_HOUR},
};
use gumshoe_runtime::status;
use serde::{Deserialize, Serialize};

use crate::{
    activity::{self, Keep},
    matches,
    profile::MAX_SCOPE_DAYS,
    rows::{self, Answer, Columns, Parameters},
    rpc::page::Page,
    search,
};

/// Findings beside a profile or another finding.
const MAX_RELATED: usize = 100;
/// Affected entities listed and described.
const MAX_ENTITIES: usize = 50;
/// New activities of one affected entity.
const MAX_NEW: usize = 50;
/// Affected entities read at the same time.
const READERS: usize = 2;

/// Which findings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) scope: Option<TimeWindow>,
    pub(crate) min_severity: f64,
    pub(crate) max_severity: Option<f64>,
    pub(crate) type_prefix: String,
    /// With `*` and `?`; empty for all.
    pub(crate) type_pattern: String,
    /// With `*` and `?`; empty for all.
    pub(crate) product_pattern: String,
    /// Empty for all.
    pub(crate) ids: Vec<String>,
    pub(crate) account: Option<AccountId>,
    pub(crate) entity: Option<EntityKey>,
    pub(crate) include_archived: bool,
}

/// The last finding of a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    /// Bits of the severity, so that it comes back exactly.
    severity: u64,
    last: i64,
    id: String,
}

/// Each finding that `which` allows (a condition on its id, or `true`), then those that `condition` allows, with `more` columns. A
/// finding is what its latest update says; the rows of a rule's finding add up.
fn query(which: &str, condition: &str, more: &str, limit: usize) -> String {
    let prefix = matches::PREFIX;
    let whole = |function: &str, column: &str| {
        format!("CASE WHEN starts_with(finding_id, '{prefix}') THEN {function}({column}) OVER (PARTITION BY finding_id) ELSE {column} END AS {column}")
    };
    let wholes = [whole("max", "severity"), whole("sum", "count"), whole("min", "first_time"), whole("max", "last_time")].join(", ");
    format!(
        "WITH numbered AS (\
           SELECT finding_id, finding_type, product, title, {wholes}, update_time, archived, account, region, entities{more}, \
           row_number() OVER (PARTITION BY finding_id ORDER BY update_time DESC, event_id DESC) AS number FROM findings WHERE {which}\
         ) \
         SELECT finding_id, finding_type, product, title, severity, count, first_time, last_time, update_time, archived, account, region, entities{more} \
         FROM numbered WHERE number = 1 AND {condition} ORDER BY severity DESC, last_time DESC, finding_id LIMIT {limit}"
    )
}

/// The entities of rules' findings among these, of all their rows: the actor, then principals and addresses, then others.
async fn entities_of_rules(lake: &GraphLake, ids: impl Iterator<Item = &str>) -> Answer<HashMap<String, Vec<EntityKey>>> {
    let mut parameters = Parameters::new();
    let mut places: Vec<String> = Vec::new();
    for (index, id) in ids.filter(|id| matches::adds_up(id)).enumerate() {
        parameters.text(format!("id{index}"), id);
        places.push(format!("$id{index}"));
    }
    let mut found: HashMap<String, Vec<EntityKey>> = HashMap::new();
    if places.is_empty() {
        return Ok(found);
    }
    let sql = format!("SELECT finding_id, entities FROM findings WHERE finding_id IN ({})", places.join(", "));
    rows::each(lake, &sql, parameters, |columns| {
        let ids = columns.texts("finding_id")?;
        for row in 0..columns.len() {
            let known = found.entry(ids.get(row).to_owned()).or_default();
            known.extend(columns.entity_list("entities", row)?);
            // The first entity of each row is the actor.
            if let Some((_, others)) = known.split_first_mut() {
                let far = |kind: EntityType| !matches!(kind, EntityType::Role | EntityType::User | EntityType::IpAddress);
                others.sort_unstable_by(|one, other| (far(one.kind), one).cmp(&(far(other.kind), other)));
            }
            let mut seen = HashSet::new();
            known.retain(|entity| seen.insert(entity.clone()));
            known.truncate(matches::MAX_ENTITIES);
        }
        Ok(true)
    })
    .await?;
    Ok(found)
}

/// Puts the entities of all rows into summaries.
async fn complete(lake: &GraphLake, summaries: &mut [FindingSummary]) -> Answer<()> {
    let found = entities_of_rules(lake, summaries.iter().map(|summary| summary.id.as_str())).await?;
    for summary in summaries {
        if let Some(entities) = found.get(&summary.id) {
            summary.entities = entities.iter().take(MAX_ENTITIES).map(entity_to_proto).collect();
        }
    }
    Ok(())
}

/// Findings of which any update names one of these entities.
fn affecting<'a>(entities: impl IntoIterator<Item = &'a EntityKey>, parameters: &mut Parameters) -> String {
    let named = parameters.entities("e", "entity['type']", "entity['id']", entities);
    format!("finding_id IN (SELECT finding_id FROM findings WHERE array_any_match(entities, entity -> {named}))")
}

/// A page of findings, worst first, then latest.
pub(crate) async fn list(lake: &GraphLake, filter: &Filter, size: usize, after: Option<Cursor>) -> Answer<Page<FindingSummary, Cursor>> {
    let mut page = Page::new(size);
    if let Some(entity) = &filter.entity
        && !lake.may_have_findings(entity).await.map_err(rows::failure)?
    {
        return Ok(page);
    }
    let mut parameters = Parameters::new();
    let mut which = filter.entity.as_ref().map_or_else(|| "true".to_owned(), |entity| affecting([entity], &mut parameters));
    if !filter.ids.is_empty() {
        let places: Vec<_> = (0..filter.ids.len()).map(|index| format!("$id{index}")).collect();
        which += &format!(" AND finding_id IN ({})", places.join(", "));
        filter.ids.iter().enumerate().for_each(|(index, id)| parameters.text(format!("id{index}"), id));
    }
    parameters.float("min_severity", filter.min_severity);
    let mut condition = "severity >= $min_severity".to_owned();
    if let Some(scope) = filter.scope {
        parameters.time("from", scope.start());
        parameters.time("to", scope.end());
        condition += " AND last_time >= $from AND first_time < $to";
    }
    if !filter.type_prefix.is_empty() {
        parameters.text("type_prefix", &filter.type_prefix);
        condition += " AND starts_with(finding_type, $type_prefix)";
    }
    for (column, pattern) in [("finding_type", &filter.type_pattern), ("product", &filter.product_pattern)] {
        if !pattern.is_empty() {
            parameters.text(format!("{column}_pattern"), search::pattern(pattern));
            condition += &format!(" AND {column} LIKE ${column}_pattern");
        }
    }
    if let Some(most) = filter.max_severity {
        parameters.float("max_severity", most);
        condition += " AND severity <= $max_severity";
    }
    if let Some(account) = &filter.account {
        parameters.text("account", account.as_str());
        condition += " AND account = $account";
    }
    if !filter.include_archived {
        condition += " AND NOT archived";
    }
    if let Some(after) = after {
        parameters.float("after_severity", f64::from_bits(after.severity));
        parameters.time("after_last", Timestamp(after.last));
        parameters.text("after_id", after.id);
        condition += " AND severity <= $after_severity AND (severity < $after_severity OR (last_time <= $after_last \
             AND (last_time < $after_last OR finding_id > $after_id)))";
    }
    rows::each(lake, &query(&which, &condition, "", size + 1), parameters, |columns| {
        for (summary, cursor) in summaries(columns)? {
            if !page.push(summary, cursor) {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await?;
    complete(lake, &mut page.items).await?;
    Ok(page)
}

/// Findings that affect an entity and were active in `window`, archived ones among them, worst first, at most 100.
pub(crate) async fn of_entity(lake: &GraphLake, entity: &EntityKey, window: TimeWindow) -> Answer<Vec<FindingSummary>> {
    let filter = Filter { scope: Some(window), entity: Some(entity.clone()), include_archived: true, ..Filter::default() };
    Ok(list(lake, &filter, MAX_RELATED, None).await?.items)
}

fn summaries(columns: Columns<'_>) -> Answer<Vec<(FindingSummary, Cursor)>> {
    let (ids, types, products, titles) = (columns.texts("finding_id")?, columns.texts("finding_type")?, columns.texts("product")?, columns.texts("title")?);
    let (severities, counts, archived) = (columns.floats("severity")?, columns.numbers("count")?, columns.flags("archived")?);
    let (firsts, lasts, updates) = (columns.numbers("first_time")?, columns.numbers("last_time")?, columns.numbers("update_time")?);
    let (accounts, regions) = (columns.texts("account")?, columns.texts("region")?);
    let summary = |row: usize| -> Answer<_> {
        let severity = severities.value(row);
        let summary = FindingSummary {
            id: ids.get(row).to_owned(),
            r#type: types.get(row).to_owned(),
            product: products.get(row).to_owned(),
            title: titles.get(row).to_owned(),
            severity,
            severity_label: Severity::of_score(severity).as_str().to_owned(),
            account_id: accounts.get(row).to_owned(),
            region: regions.get(row).to_owned(),
            count: counts.count(row),
            first_time: Some(time_to_proto(firsts.time(row))),
            last_time: Some(time_to_proto(lasts.time(row))),
            update_time: Some(time_to_proto(updates.time(row))),
            archived: archived.value(row),
            entities: columns.entity_list("entities", row)?.iter().take(MAX_ENTITIES).map(entity_to_proto).collect(),
        };
        let cursor = Cursor { severity: severity.to_bits(), last: lasts.get(row), id: summary.id.clone() };
        Ok((summary, cursor))
    };
    (0..columns.len()).map(summary).collect()
}

/// A finding as the lake has it.
struct Stored {
    summary: FindingSummary,
    description: String,
    entities: Vec<EntityKey>,
    raw: String,
    active: TimeWindow,
}

async fn stored(lake: &GraphLake, id: &str) -> Answer<Stored> {
    let mut parameters = Parameters::new();
    parameters.text("finding", id);
    let mut found = None;
    rows::each(lake, &query("finding_id = $finding", "true", ", description, raw", 1), parameters, |columns| {
        let (descriptions, raws) = (columns.texts("description")?, columns.texts("raw")?);
        let (firsts, lasts) = (columns.numbers("first_time")?, columns.numbers("last_time")?);
        if let Some((summary, _)) = summaries(columns)?.into_iter().next() {
            let first = firsts.time(0);
            // A detector may give one instant, or even its ends the wrong way round.
            let last = Timestamp(lasts.get(0).max(first.0) + 1);
            found = Some(Stored {
                summary,
                description: descriptions.get(0).to_owned(),
                entities: columns.entity_list("entities", 0)?,
                raw: raws.get(0).to_owned(),
                active: TimeWindow::new(first, last).map_err(|error| status::internal(&error))?,
            });
        }
        Ok(false)
    })
    .await?;
    let mut found = found.ok_or_else(|| status::not_found("finding", id))?;
    if let Some(entities) = entities_of_rules(lake, std::iter::once(id)).await?.remove(id) {
        found.summary.entities = entities.iter().take(MAX_ENTITIES).map(entity_to_proto).collect();
        found.entities = entities;
    }
    Ok(found)
}

/// A finding with what was unusual about its entities. `risk` says how risky an entity is now.
pub(crate) async fn get<F>(lake: &GraphLake, places: &Places, id: &str, risk: impl Fn(EntityKey) -> F) -> Answer<GetFindingResponse>
where
    F: Future<Output = Answer<Risk>>,
{
    let finding = stored(lake, id).await?;
    let whole = finding.active.to_hours();
    let earliest = whole.end().0 - MAX_SCOPE_DAYS * MICROS_PER_DAY;
    let scope = TimeWindow::new(Timestamp(whole.start().0.max(earliest)), whole.end()).unwrap_or(whole);
    let related = related(lake, &finding).await?;
    let named: Vec<_> = finding.entities.iter().take(MAX_ENTITIES).cloned().collect();
    let known = search::summaries(lake, &named).await?;
    let risk = &risk;
    let entities = stream::iter(named)
        .map(|entity| {
            let aliases = known.get(&entity).map(|summary| summary.aliases.clone()).unwrap_or_default();
            async move {
                let found = activity::read(lake, places, &entity, &aliases, scope, Keep::New(MAX_NEW)).await?;
                Ok(AffectedEntity {
                    entity: Some(entity_to_proto(&entity)),
                    totals: Some(measures_to_proto(&found.totals)),
                    new_activities: new_activities(found),
                    risk: Some(risk(entity).await?),
                })
            }
        })
        .buffered(READERS)
        .try_collect()
        .await?;
    Ok(GetFindingResponse {
        finding: Some(finding.summary),
        description: finding.description,
        scope: Some(window_to_proto(scope)),
        entities,
        related,
        raw: finding.raw,
    })
}

fn new_activities(found: activity::Activities) -> Vec<Activity> {
    let lists = [
        found.operations,
        found.addresses,
        found.countries,
        found.networks,
        found.user_agents,
        found.resources,
        found.principals,
        found.roles_assumed,
        found.assumed_by,
        found.flows,
    ];
    let mut activities: Vec<Activity> = lists.into_iter().flat_map(|list| list.finish().items).collect();
    let count = |activity: &Activity| activity.measures.as_ref().map_or(0, |measures| measures.successes + measures.failures);
    activities.sort_by_key(|activity| std::cmp::Reverse(count(activity)));
    activities.truncate(MAX_NEW);
    activities
}

/// Findings that share an entity within the finding's time and a day each way. Sharing an account says nothing.
async fn related(lake: &GraphLake, finding: &Stored) -> Answer<Vec<FindingSummary>> {
    let shared = finding.entities.iter().filter(|entity| entity.kind != EntityType::Account).take(MAX_ENTITIES);
    let mut parameters = Parameters::new();
    let which = affecting(shared, &mut parameters);
    parameters.text("finding", &finding.summary.id);
    parameters.time("from", Timestamp((finding.active.start().0 - 24 * MICROS_PER_HOUR).max(0)));
    parameters.time("to", Timestamp(finding.active.end().0 + 24 * MICROS_PER_HOUR));
    let condition = "finding_id <> $finding AND last_time >= $from AND first_time < $to";
    let mut found = Vec::new();
    rows::each(lake, &query(&which, condition, "", MAX_RELATED), parameters, |columns| {
        found.extend(summaries(columns)?.into_iter().map(|(summary, _)| summary));
        Ok(true)
    })
    .await?;
    complete(lake, &mut found).await?;
    Ok(found)
}
