//! Records by patterns, over any time, earliest first.

use std::sync::Arc;

use futures::{Stream, TryStreamExt, stream};
use gumshoe_api::graph::v1::HuntEventsResponse;
use gumshoe_detections::RuleSet;
use gumshoe_lake::{Engine, GraphLake};
use gumshoe_model::{RecordKind, TimeWindow};

use super::RECORDS_ORDER;
use crate::{
    events,
    rows::{Answer, Columns, Parameters, Records},
    rpc::page,
    search,
};

/// Columns that say who acted.
pub(crate) const ACTORS: &[&str] = &["actor_id", "actor_name", "actor_alias", "parent_id", "parent_alias", "origin_id", "access_key"];

/// A condition: one of `any` matches one of `columns`. Of no patterns, it always holds.
#[derive(Debug, Clone)]
pub(crate) struct Patterns {
    /// Columns of text.
    pub(crate) columns: &'static [&'static str],
    /// With `*` for any characters and `?` for one.
    pub(crate) any: Vec<String>,
}

/// Which records.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hunt {
    pub(crate) scope: Option<TimeWindow>,
    pub(crate) kind: Option<RecordKind>,
    /// All of them hold.
    pub(crate) patterns: Vec<Patterns>,
    /// At most so many records; 0 for all.
    pub(crate) limit: u32,
}

impl Hunt {
    fn condition(&self, parameters: &mut Parameters) -> String {
        let mut condition = self.scope.map_or_else(|| "true".to_owned(), |scope| parameters.within("time", scope));
        if let Some(kind) = self.kind {
            condition += &format!(" AND kind = '{kind}'");
        }
        let mut number = 0;
        for patterns in self.patterns.iter().filter(|patterns| !patterns.any.is_empty()) {
            let mut matches = Vec::new();
            for pattern in &patterns.any {
                let name = format!("p{number}");
                number += 1;
                // What is given whole is compared, which tells of most files' pages that they lack it.
                let compare = if pattern.contains(['*', '?']) { "LIKE" } else { "=" };
                parameters.text(&name, if compare == "LIKE" { search::pattern(pattern) } else { pattern.clone() });
                // Success is an empty error, which `*` is not meant to find.
                let empty = if pattern == "*" { " AND {column} <> ''" } else { "" };
                matches.extend(patterns.columns.iter().map(|column| format!("({column} {compare} ${name}{})", empty.replace("{column}", column))));
            }
            condition += &format!(" AND ({})", matches.join(" OR "));
        }
        condition
    }
}

/// The records as rows with `columns` of the events table, by time and id: also for who looks at them with rules.
pub(crate) async fn records(engine: &Engine, lake: &GraphLake, hunt: &Hunt, columns: &str) -> Answer<impl Stream<Item = Answer<Records>> + use<>> {
    let mut parameters = Parameters::new();
    let condition = hunt.condition(&mut parameters);
    let limit = if hunt.limit == 0 { String::new() } else { format!(" LIMIT {}", hunt.limit) };
    let sql = format!("SELECT {columns} FROM events WHERE {condition} ORDER BY {RECORDS_ORDER}{limit}");
    super::run(engine, lake, sql, parameters, hunt.scope).await
}

/// The records as messages.
pub(crate) async fn messages(
    engine: &Engine,
    lake: &GraphLake,
    hunt: &Hunt,
    raw: bool,
    rules: Arc<RuleSet>,
) -> Answer<impl Stream<Item = Answer<HuntEventsResponse>> + use<>> {
    let columns = if raw { format!("{}, raw", events::COLUMNS) } else { events::COLUMNS.to_owned() };
    let rows = records(engine, lake, hunt, &columns).await?;
    Ok(rows
        .and_then(move |rows| {
            let rules = Arc::clone(&rules);
            async move {
                let events = events::events(Columns(&rows), raw, &rules)?.into_iter().map(|(event, _)| event);
                let messages = page::messages(events, usize::MAX, page::MESSAGE_BYTES);
                Ok(stream::iter(messages.into_iter().map(|events| Ok(HuntEventsResponse { events }))))
            }
        })
        .try_flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_never_enter_the_query() {
        let patterns = vec![
            Patterns { columns: &["operation"], any: vec!["Get*".to_owned(), "x' OR 1=1".to_owned()] },
            Patterns { columns: &["service"], any: Vec::new() },
            Patterns { columns: &["error"], any: vec!["*".to_owned()] },
            Patterns { columns: &["actor_id", "actor_name"], any: vec!["ana".to_owned()] },
        ];
        let mut parameters = Parameters::new();
        let hunt = Hunt { kind: Some(RecordKind::CloudTrail), patterns, ..Hunt::default() };
        assert_eq!(
            hunt.condition(&mut parameters),
            "true AND kind = 'cloudtrail' AND ((operation LIKE $p0) OR (operation = $p1)) AND ((error LIKE $p2 AND error <> '')) \
             AND ((actor_id = $p3) OR (actor_name = $p3))"
        );
        assert_eq!(parameters.into_values().len(), 4);
    }
}
