//! The records behind every number.
//!
//! A page is read in two steps: the times and ids of its records, then those records alone, so that the text of no other
//! record is held.

use std::sync::Arc;

use futures::{Stream, TryStreamExt, stream};
use gumshoe_api::{
    convert::{entity_to_proto, record_kind_to_proto, time_to_proto},
    graph::v1::{Event, MatchedRule, StreamEventsResponse},
};
use gumshoe_detections::RuleSet;
use gumshoe_lake::GraphLake;
use gumshoe_model::{EntityKey, EntityType, RecordKind, TimeWindow, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    matches,
    rows::{self, Answer, Columns, Parameters},
    rpc::page::{self, Page},
};

/// Ids of user agents are cut at this many bytes; the records have them whole.
const USER_AGENT_ID_BYTES: usize = 1_024;

pub(crate) const COLUMNS: &str =
    "event_id, kind, time, account, region, actor_type, actor_id, service, operation, error, address, user_agent, source_object, \"offset\", rules";

/// Which records.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) entity: Option<EntityKey>,
    pub(crate) scope: Option<TimeWindow>,
    pub(crate) kind: Option<RecordKind>,
    pub(crate) service: String,
    pub(crate) operation: String,
    pub(crate) address: String,
    pub(crate) user_agent: String,
    pub(crate) error: String,
    pub(crate) event_id: String,
    pub(crate) port: i32,
    /// The id of a rule, `*` for any, or empty.
    pub(crate) rule: String,
}

/// The last record of a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    time: i64,
    id: String,
}

impl Filter {
    fn condition(&self, parameters: &mut Parameters) -> String {
        let mut condition = self.scope.map_or_else(|| "true".to_owned(), |scope| parameters.within("time", scope));
        if let Some(kind) = self.kind {
            condition += &format!(" AND kind = '{kind}'");
        }
        let texts = [
            ("service", &self.service),
            ("operation", &self.operation),
            ("address", &self.address),
            ("user_agent", &self.user_agent),
            ("event_id", &self.event_id),
        ];
        for (column, text) in texts {
            if !text.is_empty() {
                parameters.text(format!("the_{column}"), text);
                condition += &format!(" AND {column} = $the_{column}");
            }
        }
        match self.error.as_str() {
            "" => {}
            "*" => condition += " AND error <> ''",
            error => {
                parameters.text("the_error", error);
                condition += " AND error = $the_error";
            }
        }
        match self.rule.as_str() {
            "" => {}
            "*" => condition += " AND rules <> ''",
            rule => {
                parameters.text("the_rule", rule);
                condition += " AND strpos(rules, $the_rule) > 0";
            }
        }
        if self.port != 0 {
            parameters.number("the_port", i64::from(self.port));
            condition += " AND port = $the_port";
        }
        if let Some(entity) = &self.entity {
            condition += " AND ";
            condition += &touches(entity, parameters);
        }
        condition
    }
}

/// A condition that holds for records of an entity in whatever part.
fn touches(entity: &EntityKey, parameters: &mut Parameters) -> String {
    if entity.kind == EntityType::Finding
        && let Some((rule, day)) = matches::parts(&entity.id)
    {
        return matched(&entity.id, rule, day, parameters);
    }
    parameters.text("type", entity.kind.as_str());
    parameters.text("id", &entity.id);
    let part = match entity.kind {
        EntityType::Account => "account = $id",
        EntityType::IpAddress => "address = $id",
        EntityType::AwsService => "service = $id OR address = $id",
        EntityType::AccessKey => "access_key = $id",
        EntityType::UserAgent if entity.id.len() > USER_AGENT_ID_BYTES - 4 => "starts_with(user_agent, $id)",
        EntityType::UserAgent => "user_agent = $id",
        EntityType::Finding => "event_id IN (SELECT event_id FROM findings WHERE finding_id = $id)",
        _ => "false",
    };
    format!(
        "({part} OR (actor_type = $type AND actor_id = $id) OR (parent_type = $type AND parent_id = $id) OR (origin_type = $type AND origin_id = $id) \
         OR array_any_match(links, link -> link['type'] = $type AND link['id'] = $id))"
    )
}

/// A page of records, latest first.
pub(crate) async fn list(lake: &GraphLake, filter: &Filter, size: usize, after: Option<Cursor>, raw: bool, rules: &RuleSet) -> Answer<Page<Event, Cursor>> {
    let mut parameters = Parameters::new();
    let mut condition = filter.condition(&mut parameters);
    if let Some(after) = after {
        parameters.time("after_time", Timestamp(after.time));
        parameters.date("after_date", Timestamp(after.time));
        parameters.text("after_id", after.id);
        condition += " AND date <= $after_date AND time <= $after_time AND (time < $after_time OR event_id < $after_id)";
    }
    let sql = format!("SELECT time, event_id FROM events WHERE {condition} ORDER BY time DESC, event_id DESC LIMIT {}", size + 1);
    let mut keys = Vec::new();
    rows::each(lake, &sql, parameters, |columns| {
        let (times, ids) = (columns.numbers("time")?, columns.texts("event_id")?);
        keys.extend((0..columns.len()).map(|row| (times.time(row), ids.get(row).to_owned())));
        Ok(true)
    })
    .await?;
    let mut page = Page::new(size);
    let (Some((latest, _)), Some((earliest, _))) = (keys.first(), keys.last()) else { return Ok(page) };

    let mut parameters = Parameters::new();
    // One more than the last: the window is half-open.
    let window = TimeWindow::new(*earliest, Timestamp(latest.0 + 1)).map_err(|error| gumshoe_runtime::status::internal(&error))?;
    let within = parameters.within("time", window);
    let ids: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(index, (_, id))| {
            parameters.text(format!("e{index}"), id);
            format!("$e{index}")
        })
        .collect();
    let text = if raw { ", raw" } else { "" };
    let sql = format!("SELECT {COLUMNS}{text} FROM events WHERE {within} AND event_id IN ({}) ORDER BY time DESC, event_id DESC", ids.join(", "));
    rows::each(lake, &sql, parameters, |columns| {
        for (event, cursor) in events(columns, raw, rules)? {
            if !page.push(event, cursor) {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await?;
    Ok(page)
}

/// Every record that the filter allows, with its text, in no order.
pub(crate) async fn all(lake: &GraphLake, filter: &Filter, rules: Arc<RuleSet>) -> Answer<impl Stream<Item = Answer<StreamEventsResponse>> + use<>> {
    let mut parameters = Parameters::new();
    let condition = filter.condition(&mut parameters);
    let sql = format!("SELECT {COLUMNS}, raw FROM events WHERE {condition}");
    let rows = rows::stream(lake, &sql, parameters).await?;
    Ok(rows
        .map_err(|error| rows::failure(error.into()))
        .and_then(move |batch| {
            let rules = Arc::clone(&rules);
            async move { messages(Columns(&batch), &rules) }
        })
        .map_ok(|messages| stream::iter(messages.into_iter().map(Ok)))
        .try_flatten())
}

/// A condition that holds for the events of a rule's finding: those of its day and actor, the first of its entities, that have the rule.
fn matched(finding: &str, rule: &str, day: &str, parameters: &mut Parameters) -> String {
    parameters.text("finding", finding);
    parameters.text("rule", rule);
    parameters.date("day", Timestamp::parse(&format!("{day}T00:00:00Z")).unwrap_or(Timestamp::MIN));
    "(date = $day AND strpos(rules, $rule) > 0 AND CASE WHEN actor_id = '' THEN concat('account:', account) ELSE concat(actor_type, ':', actor_id) END \
     IN (SELECT concat(entities[1]['type'], ':', entities[1]['id']) FROM findings WHERE finding_id = $finding))"
        .to_owned()
}

fn messages(columns: Columns<'_>, rules: &RuleSet) -> Answer<Vec<StreamEventsResponse>> {
    let events = events(columns, true, rules)?.into_iter().map(|(event, _)| event);
    Ok(page::messages(events, usize::MAX, page::MESSAGE_BYTES).into_iter().map(|events| StreamEventsResponse { events }).collect())
}

/// Events out of rows, with the rules of `rules` that they are marked with.
pub(crate) fn events(columns: Columns<'_>, raw: bool, rules: &RuleSet) -> Answer<Vec<(Event, Cursor)>> {
    let (ids, kinds, times) = (columns.texts("event_id")?, columns.texts("kind")?, columns.numbers("time")?);
    let (accounts, regions, actor_types, actor_ids) =
        (columns.texts("account")?, columns.texts("region")?, columns.texts("actor_type")?, columns.texts("actor_id")?);
    let (services, operations, errors) = (columns.texts("service")?, columns.texts("operation")?, columns.texts("error")?);
    let (addresses, user_agents) = (columns.texts("address")?, columns.texts("user_agent")?);
    let (objects, offsets) = (columns.texts("source_object")?, columns.numbers("offset")?);
    let marks = columns.texts("rules")?;
    let raws = if raw { Some(columns.texts("raw")?) } else { None };
    let mut events = Vec::with_capacity(columns.len());
    for row in 0..columns.len() {
        let actor = rows::optional_entity(actor_types.get(row), actor_ids.get(row))?;
        let event = Event {
            id: ids.get(row).to_owned(),
            kind: kinds.get(row).parse().map_or(0, record_kind_to_proto),
            time: Some(time_to_proto(times.time(row))),
            account_id: accounts.get(row).to_owned(),
            region: regions.get(row).to_owned(),
            actor: actor.as_ref().map(entity_to_proto),
            service: services.get(row).to_owned(),
            operation: operations.get(row).to_owned(),
            error: errors.get(row).to_owned(),
            address: addresses.get(row).to_owned(),
            user_agent: user_agents.get(row).to_owned(),
            source_object: objects.get(row).to_owned(),
            offset: offsets.count(row),
            raw: raws.as_ref().map(|raws| raws.get(row).to_owned()).unwrap_or_default(),
            rules: marked(rules, marks.get(row), !errors.get(row).is_empty()),
        };
        let cursor = Cursor { time: times.get(row), id: event.id.clone() };
        events.push((event, cursor));
    }
    Ok(events)
}

/// What marks stand for: rules that are there and reported.
fn marked(rules: &RuleSet, marks: &str, failed: bool) -> Vec<MatchedRule> {
    let known = marks.split(' ').filter(|id| !id.is_empty()).filter_map(|id| rules.get(id));
    let matched = known.map(|rule| MatchedRule {
        id: rule.id.clone(),
        title: rule.title.clone(),
        level: rule.level_if(failed).as_str().to_owned(),
        tactics: rule.tactics.iter().map(|tactic| tactic.as_str().to_owned()).collect(),
        techniques: rule.techniques.iter().map(ToString::to_string).collect(),
        only_if_new: rule.only_if_new,
    });
    matched.collect()
}
