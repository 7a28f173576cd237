//! What is read without the query engine, against plain SQL over the same lake.

use std::collections::{BTreeMap, BTreeSet};

use arrow::{
    array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::DataType,
};
use gumshoe_api::{
    convert::{entity_from_proto, relation_from_proto},
    graph::v1 as proto,
};
use gumshoe_enrich::Places;
use gumshoe_lake::{Alone, BatchCounts, GraphLake, Group, Lake, Table, encode};
use gumshoe_model::{
    EntityKey, EntityType, Measures, Relation, TimeWindow, Timestamp,
    time::{MICROS_PER_DAY, MICROS_PER_HOUR},
};
use proptest::prelude::*;

use crate::{
    activity::{self, Keep},
    neighbors,
    rows::{self, Columns, Parameters, SUMS},
    search,
};

const DAY: i64 = 20_000;
const START: i64 = DAY * MICROS_PER_DAY;

/// A row of edges.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    entity: (EntityType, String),
    peer: (EntityType, String),
    relation: Relation,
    side: &'static str,
    /// Since [`START`].
    hour: i64,
    texts: [String; 5],
    numbers: [i64; 3],
    measures: [i64; 6],
}

/// What an edge may be told apart by: operation, address, country, user agent, error.
const TEXTS: [&str; 5] = ["operation", "address", "country", "user_agent", "error"];
const MEASURES: [&str; 6] = ["count", "errors", "bytes_in", "bytes_out", "packets_in", "packets_out"];

async fn lake_of(folder: &std::path::Path, memory_bytes: usize, commits: Vec<Vec<Edge>>) -> std::sync::Arc<GraphLake> {
    let config = serde_json::json!({ "url": format!("file://{}", folder.display()), "query_memory_bytes": memory_bytes });
    let lake = Lake::open(&serde_json::from_value(config).unwrap()).await.unwrap();
    let graph = lake.graph(&"arn:aws:detective:us-east-1:111122223333:graph:0123456789abcdef0123456789abcdef".parse().unwrap()).await.unwrap();
    for (number, mut edges) in commits.into_iter().enumerate() {
        edges.sort_by_key(|edge| (edge.entity.0.as_str(), edge.entity.1.clone(), edge.peer.0.as_str(), edge.peer.1.clone()));
        let days: BTreeSet<i64> = edges.iter().map(|edge| edge.hour.div_euclid(24)).collect();
        let files = days.into_iter().map(|day| {
            let rows = batch(&edges.iter().filter(|edge| edge.hour.div_euclid(24) == day).collect::<Vec<_>>());
            encode(Table::Edges, Some(DAY + day), &rows).unwrap()
        });
        let batches = vec![(format!("b{number}"), BatchCounts::default())];
        let staged = graph.stage(Group { batches, files: files.collect() }).await.unwrap();
        graph.commit(&staged, &Alone).await.unwrap();
    }
    graph
}

fn batch(edges: &[&Edge]) -> RecordBatch {
    let texts = |text: &dyn Fn(&Edge) -> &str| std::sync::Arc::new(StringArray::from_iter_values(edges.iter().map(|edge| text(edge)))) as ArrayRef;
    let longs = |number: &dyn Fn(&Edge) -> i64| std::sync::Arc::new(Int64Array::from_iter_values(edges.iter().map(|edge| number(edge)))) as ArrayRef;
    let times = |edge: &Edge| START + edge.hour * MICROS_PER_HOUR;
    let column = |name: &str, data_type: &DataType| -> ArrayRef {
        if let Some(place) = TEXTS.iter().position(|text| *text == name) {
            return texts(&|edge| &edge.texts[place]);
        }
        if let Some(place) = MEASURES.iter().position(|measure| *measure == name) {
            return longs(&|edge| edge.measures[place]);
        }
        let time = |late: i64| {
            let values = edges.iter().map(|edge| times(edge) + late * (1 + edge.measures[0]));
            std::sync::Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC")) as ArrayRef
        };
        match name {
            "hour" => time(0),
            "first_time" => time(1),
            "last_time" => time(2),
            "entity_type" => texts(&|edge| edge.entity.0.as_str()),
            "entity_id" => texts(&|edge| &edge.entity.1),
            "peer_type" => texts(&|edge| edge.peer.0.as_str()),
            "peer_id" => texts(&|edge| &edge.peer.1),
            "side" => texts(&|edge| edge.side),
            "relation" => texts(&|edge| edge.relation.as_str()),
            "asn" => longs(&|edge| edge.numbers[0]),
            _ => {
                assert_eq!(data_type, &DataType::Int32, "{name}");
                let place = if name == "port" { 1 } else { 2 };
                std::sync::Arc::new(Int32Array::from_iter_values(edges.iter().map(|edge| i32::try_from(edge.numbers[place]).unwrap())))
            }
        }
    };
    let schema = Table::Edges.schema();
    let columns = schema.fields().iter().map(|field| column(field.name(), field.data_type())).collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

fn one_of<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(values.to_vec())
}

fn some_edge() -> impl Strategy<Value = Edge> {
    let text = |prefix: &'static str, most: u32| prop_oneof![1 => Just(String::new()), 4 => (0..most).prop_map(move |number| format!("{prefix}{number}"))];
    let texts = (text("svc/Op", 6), text("10.0.0.", 5), one_of(&["", "DE", "US"]), text("agent/", 4), text("Error", 3));
    let numbers = [prop_oneof![Just(0_i64), 1..4_i64].boxed(), (-1..3_i64).boxed(), (-1..2_i64).boxed()];
    let entity = (one_of(EntityType::ALL), 0..2_u32).prop_map(|(kind, number)| (kind, format!("e{number}")));
    let peer = (one_of(EntityType::ALL), 0..6_u32).prop_map(|(kind, number)| (kind, format!("p{number}")));
    (entity, peer, one_of(Relation::ALL), one_of(&["in", "out"]), 0..24 * 60_i64, texts, numbers, prop::array::uniform6(0..9_i64)).prop_map(
        |(entity, peer, relation, side, hour, (operation, address, country, agent, error), numbers, mut measures)| {
            measures[0] += 1;
            measures[1] = measures[1].min(measures[0]);
            Edge { entity, peer, relation, side, hour, texts: [operation, address, country.to_owned(), agent, error], numbers, measures }
        },
    )
}

/// Which rows of a type are its activity.
fn counted(kind: EntityType) -> &'static str {
    match kind {
        EntityType::Account
        | EntityType::User
        | EntityType::Role
        | EntityType::RoleSession
        | EntityType::FederatedUser
        | EntityType::Root
        | EntityType::KubernetesSubject => "side = 'out' AND relation IN ('called', 'failed_to_call')",
        EntityType::AwsService => "relation IN ('called', 'failed_to_call')",
        EntityType::IpAddress => "side = 'in' AND relation IN ('used', 'connected_to', 'accepted_from', 'rejected_from')",
        EntityType::UserAgent | EntityType::AccessKey => "side = 'in' AND relation = 'used'",
        EntityType::Finding => "false",
        _ => {
            "(side = 'out' AND (relation IN ('connected_to', 'accepted_from', 'rejected_from', 'called', 'failed_to_call') \
             OR (relation = 'affected_by' AND peer_type <> 'finding'))) OR (side = 'in' AND relation = 'used')"
        }
    }
}

/// The list that a row's peer belongs to, by the name of the answer's field.
fn list(kind: EntityType) -> &'static str {
    match kind {
        EntityType::Finding => "CASE WHEN side = 'in' AND relation = 'affected_by' THEN 'principals' ELSE '' END",
        _ => {
            "CASE WHEN relation IN ('connected_to', 'accepted_from', 'rejected_from') THEN 'flows' \
             WHEN relation = 'assumed' AND side = 'in' THEN 'assumed_by' \
             WHEN relation = 'assumed' AND peer_type IN ('role', 'role_session') THEN 'roles_assumed' \
             WHEN relation = 'affected_by' AND side = 'in' THEN 'resources' \
             WHEN relation = 'affected_by' AND peer_type <> 'finding' THEN 'principals' \
             WHEN relation IN ('used', 'called', 'failed_to_call', 'logged_in') AND side = 'in' THEN 'principals' ELSE '' END"
        }
    }
}

/// List and value, to what was measured and whether it is new.
type Values = BTreeMap<(String, String), (Measures, bool)>;

fn of_entity(entity: &EntityKey) -> Parameters {
    let mut parameters = Parameters::new();
    parameters.text("type", entity.kind.as_str());
    parameters.text("id", &entity.id);
    parameters
}

/// The same by plain SQL: of each value, what the rows in the scope add up to, if there are any.
async fn values_by_sql(lake: &GraphLake, entity: &EntityKey, scope: TimeWindow) -> Values {
    let mut values = Values::new();
    let baseline = scope.before(activity::BASELINE_DAYS);
    let whole = TimeWindow::new(baseline.start(), scope.end()).unwrap();
    let turned = "side = 'in' AND relation IN ('connected_to', 'accepted_from', 'rejected_from')";
    let sums = [("bytes_in", "bytes_out"), ("bytes_out", "bytes_in"), ("packets_in", "packets_out"), ("packets_out", "packets_in")]
        .map(|(name, other)| format!("sum(CASE WHEN hour < $scope THEN 0 WHEN {turned} THEN {other} ELSE {name} END) AS {name}"))
        .join(", ");
    let sums = format!(
        "sum(CASE WHEN hour >= $scope THEN count ELSE 0 END) AS count, sum(CASE WHEN hour >= $scope THEN errors ELSE 0 END) AS errors, {sums}, \
         min(CASE WHEN hour >= $scope THEN first_time END) AS first_time, max(CASE WHEN hour >= $scope THEN last_time END) AS last_time, \
         min(hour) >= $scope AS fresh"
    );
    let counted = counted(entity.kind);
    let plain = |list: &str, value: &str| (format!("'{list}'"), value.to_owned(), format!("({counted}) AND {value} <> ''"));
    let peer = "concat(peer_type, ':', peer_id, '|', CASE WHEN relation = 'failed_to_call' THEN 'called' ELSE relation END)";
    let peers = list(entity.kind);
    let flow = format!("CASE WHEN {peers} = 'flows' THEN concat({peer}, '|', port, '|', protocol) ELSE {peer} END");
    for (list, value, condition) in [
        plain("operations", "operation"),
        plain("addresses", "address"),
        plain("user_agents", "user_agent"),
        plain("errors", "error"),
        (peers.to_owned(), flow, format!("{peers} <> ''")),
        ("'totals'".to_owned(), "''".to_owned(), counted.to_owned()),
        ("'hours'".to_owned(), "CAST(CAST(hour AS BIGINT) AS VARCHAR)".to_owned(), counted.to_owned()),
    ] {
        let mut parameters = of_entity(entity);
        let within = parameters.within("hour", whole);
        parameters.time("scope", scope.start());
        let sql = format!(
            "SELECT {list} AS list, {value} AS value, {sums} FROM edges WHERE entity_type = $type AND entity_id = $id AND {within} AND ({condition}) GROUP BY 1, 2"
        );
        let take = |columns: Columns<'_>| {
            let (lists, found, fresh, measures) = (columns.texts("list")?, columns.texts("value")?, columns.flags("fresh")?, columns.measures()?);
            for row in 0..columns.len() {
                if measures.get(row).count > 0 {
                    values.insert((lists.get(row).to_owned(), found.get(row).to_owned()), (measures.get(row), fresh.value(row)));
                }
            }
            Ok(true)
        };
        rows::each(lake, &sql, parameters, take).await.unwrap();
    }
    values
}

fn measures(found: Option<&proto::Measures>) -> Measures {
    let found = found.unwrap();
    let time = |time: Option<&prost_types::Timestamp>| Timestamp(time.map_or(0, |time| time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000));
    Measures {
        count: found.successes + found.failures,
        errors: found.failures,
        bytes_in: found.bytes_in,
        bytes_out: found.bytes_out,
        packets_in: found.packets_in,
        packets_out: found.packets_out,
        first: time(found.first_time.as_ref()),
        last: time(found.last_time.as_ref()),
    }
}

async fn values_read(lake: &GraphLake, entity: &EntityKey, scope: TimeWindow) -> Values {
    let places = Places::default();
    let found = activity::read(lake, &places, entity, &[], scope, Keep::All(100_000)).await.unwrap();
    let mut values = Values::new();
    if found.totals.count > 0 {
        values.insert(("totals".to_owned(), String::new()), (found.totals, true));
    }
    for (hour, sum) in found.hours {
        values.insert(("hours".to_owned(), hour.0.to_string()), (sum, true));
    }
    let relation = |item: &proto::Activity| relation_from_proto(item.relation).unwrap();
    let peer = |item: &proto::Activity| format!("{}|{}", entity_from_proto("peer", item.entity.as_ref()).unwrap(), relation(item));
    let mut add = |list: &str, tops: activity::Tops, value: &dyn Fn(&proto::Activity) -> String| {
        let items = tops.finish();
        assert_eq!(items.total, items.items.len() as u64);
        for item in items.items {
            let known = values.insert((list.to_owned(), value(&item)), (measures(item.measures.as_ref()), item.new_in_scope));
            assert_eq!(known, None, "{list} has a value twice");
        }
    };
    add("operations", found.operations, &|item| format!("{}/{}", item.service, item.name));
    add("addresses", found.addresses, &|item| item.name.clone());
    add("user_agents", found.user_agents, &|item| item.name.clone());
    add("errors", found.errors, &|item| item.name.clone());
    add("resources", found.resources, &peer);
    add("principals", found.principals, &peer);
    add("roles_assumed", found.roles_assumed, &peer);
    add("assumed_by", found.assumed_by, &peer);
    add("flows", found.flows, &|item| format!("{}|{}|{}", peer(item), item.port, item.protocol));
    values
}

/// All neighbours of a walk with pages of `size`.
async fn walk(lake: &GraphLake, filter: &neighbors::Filter, size: usize) -> Vec<(String, Measures)> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = neighbors::list(lake, filter, size, after).await.unwrap();
        assert!(page.items.len() == size || page.next.is_none());
        for item in page.items {
            let side = if item.direction == proto::Direction::In as i32 { "in" } else { "out" };
            let peer = entity_from_proto("peer", item.entity.as_ref()).unwrap();
            found.push((format!("{peer}|{}|{side}", relation_from_proto(item.relation).unwrap()), measures(item.measures.as_ref())));
        }
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

async fn neighbors_by_sql(lake: &GraphLake, filter: &neighbors::Filter) -> Vec<(String, Measures)> {
    let mut parameters = of_entity(&filter.entity);
    let mut condition = "entity_type = $type AND entity_id = $id".to_owned();
    if let Some(scope) = filter.scope {
        condition += &format!(" AND {}", parameters.within("hour", scope));
    }
    if let Some(relation) = filter.relations.first() {
        condition += &format!(" AND relation = '{relation}'");
    }
    if let Some(kind) = filter.peer_type {
        condition += &format!(" AND peer_type = '{kind}'");
    }
    if let Some(side) = filter.side {
        condition += &format!(" AND side = '{side}'");
    }
    let sql = format!("SELECT peer_type, peer_id, relation, side, {SUMS} FROM edges WHERE {condition} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4");
    let mut found = Vec::new();
    let take = |columns: Columns<'_>| {
        let [types, ids, relations, sides] = ["peer_type", "peer_id", "relation", "side"].map(|name| columns.texts(name).unwrap());
        let sums = columns.measures()?;
        for row in 0..columns.len() {
            let seen = rows::seen_from(sides.get(row), rows::relation(relations.get(row))?, sums.get(row));
            found.push((format!("{}:{}|{}|{}", types.get(row), ids.get(row), relations.get(row), sides.get(row)), seen));
        }
        Ok(true)
    };
    rows::each(lake, &sql, parameters, take).await.unwrap();
    found
}

fn hours(from: i64, to: i64) -> TimeWindow {
    TimeWindow::new(Timestamp(START + from * MICROS_PER_HOUR), Timestamp(START + to * MICROS_PER_HOUR)).unwrap()
}

fn in_runtime<F: Future<Output = ()>>(test: F) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]

    #[test]
    fn activities_and_neighbours_agree_with_sql(
        commits in prop::collection::vec(prop::collection::vec(some_edge(), 1..400), 1..4),
        (from, length) in (0..24 * 60_i64, 1..48_i64),
        size in 1..8_usize,
        relation in prop::option::of(one_of(Relation::ALL)),
        peer_type in prop::option::of(one_of(EntityType::ALL)),
        side in prop::option::of(one_of(&["in", "out"])),
        is_scoped in any::<bool>(),
    ) {
        in_runtime(async {
            let folder = tempfile::tempdir().unwrap();
            let lake = lake_of(folder.path(), 64 << 20, commits).await;
            let scope = hours(from, from + length);
            for kind in EntityType::ALL {
                let entity = EntityKey::new(*kind, "e0").unwrap();
                let mut expected = values_by_sql(&lake, &entity, scope).await;
                // Of an hour, or the whole, it is not asked whether it is new.
                expected.iter_mut().filter(|((list, _), _)| list == "hours" || list == "totals").for_each(|(_, (_, fresh))| *fresh = true);
                assert_eq!(values_read(&lake, &entity, scope).await, expected, "{entity}");
                let all = neighbors::Filter { entity, scope: None, relations: Vec::new(), peer_type: None, side: None };
                assert_eq!(walk(&lake, &all, 1_000).await, neighbors_by_sql(&lake, &all).await);
                assert_eq!(walk(&lake, &all, size).await, neighbors_by_sql(&lake, &all).await);
                let narrow = neighbors::Filter { scope: is_scoped.then_some(scope), relations: relation.into_iter().collect(), peer_type, side, ..all };
                assert_eq!(walk(&lake, &narrow, size).await, neighbors_by_sql(&lake, &narrow).await, "{narrow:?}");
            }
        });
    }
}

/// Edges of a hub: `count` callers of an address in one hour, each with a user agent of its own.
fn hub(count: usize) -> Vec<Edge> {
    let edge = |number: usize| Edge {
        entity: (EntityType::IpAddress, "203.0.113.99".to_owned()),
        peer: (EntityType::User, format!("user-{number:06}")),
        relation: Relation::Used,
        side: "in",
        hour: 48,
        texts: ["svc/Op".to_owned(), String::new(), String::new(), format!("agent/{number}"), String::new()],
        numbers: [0, -1, -1],
        measures: [1 + i64::try_from(number % 7).unwrap(), 0, 0, 0, 0, 0],
    };
    (0..count).map(edge).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_into_memory_is_summed_in_several_passes() {
    let folder = tempfile::tempdir().unwrap();
    // Room for some eight thousand values of sixty thousand.
    let lake = lake_of(folder.path(), 4 << 20, vec![hub(30_000)]).await;
    let entity = EntityKey::new(EntityType::IpAddress, "203.0.113.99").unwrap();
    let found = activity::read(&lake, &Places::default(), &entity, &[], hours(48, 72), Keep::All(20_000)).await.unwrap();
    let (principals, agents) = (found.principals.finish(), found.user_agents.finish());
    assert_eq!((principals.total, principals.total_new, agents.total), (30_000, 30_000, 30_000));
    assert!(principals.cardinality_capped && agents.cardinality_capped, "so many are marked");
    let operations = found.operations.finish();
    assert_eq!((operations.total, operations.cardinality_capped), (1, false));
    let expected: u64 = (0..30_000_u64).map(|number| 1 + number % 7).sum();
    assert_eq!(found.totals.count, expected, "totals are of one pass");
    let names: BTreeSet<_> = principals.items.iter().map(|item| item.name.clone()).collect();
    assert_eq!(names.len(), 20_000);
    let counts: Vec<_> = principals.items.iter().map(|item| measures(item.measures.as_ref()).count).collect();
    assert!(counts.is_sorted_by(|one, other| one >= other) && counts[0] == 7);

    let tiny = tempfile::tempdir().unwrap();
    let lake = lake_of(tiny.path(), 64 << 10, vec![hub(1_000)]).await;
    assert!(activity::read(&lake, &Places::default(), &entity, &[], hours(48, 72), Keep::All(10)).await.is_err(), "there is no memory at all");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entitys_rows_are_summed_up_oldest_first() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_of(folder.path(), 64 << 20, Vec::new()).await;
    // Name, alias, account, and days of the first and the last record.
    type Row = (&'static str, &'static str, &'static str, i64, i64);
    let commits: [&[Row]; 3] =
        [&[("old", "a", "1", 3, 5), ("", "b", "", 4, 9)], &[("new", "", "2", 6, 8), ("old", "a", "1", 1, 2)], &[("old", "a", "1", 2, 7)]];
    for (number, given) in commits.into_iter().enumerate() {
        let texts = |text: &dyn Fn(usize) -> String| std::sync::Arc::new(StringArray::from_iter_values((0..given.len()).map(text))) as ArrayRef;
        let times = |time: &dyn Fn(usize) -> i64| {
            std::sync::Arc::new(TimestampMicrosecondArray::from_iter_values((0..given.len()).map(|row| time(row) * MICROS_PER_DAY)).with_timezone("UTC"))
                as ArrayRef
        };
        let columns = vec![
            texts(&|_| "user".to_owned()),
            texts(&|_| "u".to_owned()),
            texts(&|row| given[row].0.to_owned()),
            texts(&|row| given[row].1.to_owned()),
            texts(&|row| given[row].2.to_owned()),
            times(&|row| given[row].3),
            times(&|row| given[row].4),
        ];
        let file = encode(Table::Entities, None, &RecordBatch::try_new(Table::Entities.schema(), columns).unwrap()).unwrap();
        let group = Group { batches: vec![(format!("e{number}"), BatchCounts::default())], files: vec![file] };
        lake.commit(&lake.stage(group).await.unwrap(), &Alone).await.unwrap();
    }
    let [known, unknown] = ["u", "v"].map(|id| EntityKey::new(EntityType::User, id).unwrap());
    let found = search::summaries(&lake, &[known.clone(), unknown]).await.unwrap();
    assert_eq!(found.len(), 1);
    let summary = &found[&known];
    assert_eq!((summary.name.as_str(), summary.account.as_str(), summary.aliases.as_slice()), ("new", "2", ["a", "b"].map(str::to_owned).as_slice()));
    assert_eq!((summary.first, summary.last), (Timestamp(MICROS_PER_DAY), Timestamp(9 * MICROS_PER_DAY)));
}
