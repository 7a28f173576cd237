//! From events to edges and entities: first counted in cells, then spread over everyone involved.
//!
//! A cell is all calls of one hour that agree in every dimension. Records repeat far more than cells do, so a record costs
//! one look-up and the dozen edges of a call are made once a cell. What each edge holds is documented in `docs/lake.md`.

use std::{borrow::Cow, net::IpAddr};

use gumshoe_detections::{Rule, RuleSet};
use gumshoe_model::{EntityType, Measures, RecordKind, Relation, Timestamp};
use gumshoe_records::events::{EventRows, TextColumn};
use hashbrown::{HashMap, HashTable};

use crate::{
    made::Made,
    matches::{self, Match, Seen},
};

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A text by its number in [`Texts`]; 0 is the empty text.
pub(crate) type Text = u32;

/// Texts, each kept once.
#[derive(Debug)]
pub(crate) struct Texts<'a> {
    texts: Vec<Cow<'a, str>>,
    table: HashTable<Text>,
    hasher: foldhash::fast::RandomState,
}

impl<'a> Texts<'a> {
    fn new() -> Self {
        let mut texts = Self { texts: Vec::new(), table: HashTable::new(), hasher: foldhash::fast::RandomState::default() };
        texts.intern("");
        texts
    }

    fn intern(&mut self, text: &'a str) -> Text {
        if text.is_empty() && !self.texts.is_empty() {
            return 0;
        }
        self.insert(Cow::Borrowed(text))
    }

    fn insert(&mut self, text: Cow<'a, str>) -> Text {
        let Self { texts, table, hasher } = self;
        let hash = |text: &str| std::hash::BuildHasher::hash_one(&*hasher, text);
        let known = |number: Text| texts.get(number as usize).map_or("", |text| &**text);
        let key = hash(&text);
        if let Some(number) = table.find(key, |number| known(*number) == &*text) {
            return *number;
        }
        let number = Text::try_from(texts.len()).unwrap_or(Text::MAX);
        table.insert_unique(key, number, |number| hash(known(*number)));
        texts.push(text);
        number
    }

    /// The text of a number.
    pub(crate) fn get(&self, text: Text) -> &str {
        self.texts.get(text as usize).map_or("", |text| &**text)
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }
}

/// An entity by type and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) kind: EntityType,
    pub(crate) id: Text,
}

/// What tells one edge row from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct EdgeKey {
    pub(crate) hour: i64,
    pub(crate) entity: Node,
    /// Whether the row is kept under the subject.
    pub(crate) out: bool,
    pub(crate) relation: Relation,
    pub(crate) peer: Node,
    pub(crate) dimensions: Dimensions,
}

/// Dimensions of an edge; those that its reader does not need are left empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Dimensions {
    pub(crate) operation: Text,
    pub(crate) address: Text,
    pub(crate) user_agent: Text,
    pub(crate) error: Text,
    pub(crate) port: i32,
    pub(crate) protocol: i32,
}

const NO_DIMENSIONS: Dimensions = Dimensions { operation: 0, address: 0, user_agent: 0, error: 0, port: -1, protocol: -1 };

/// What tells one entity row from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct EntityRow {
    pub(crate) node: Node,
    pub(crate) name: Text,
    pub(crate) alias: Text,
    pub(crate) account: Text,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Cell {
    hour: i64,
    actor: Node,
    actor_name: Text,
    actor_alias: Text,
    parent: Option<Node>,
    parent_alias: Text,
    origin: Option<Node>,
    account: Text,
    service: Text,
    access_key: Text,
    flow: Option<Relation>,
    dimensions: Dimensions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct LinkCell {
    hour: i64,
    relation: Relation,
    link: Node,
    name: Text,
    actor: Node,
    parent: Option<Node>,
    dimensions: Dimensions,
}

/// A finding's row and the entities it affects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FindingAt {
    /// Which batch of the group.
    pub(crate) batch: usize,
    /// Which row of the batch.
    pub(crate) row: usize,
}

/// Everything that a group of events says.
#[derive(Debug)]
pub(crate) struct Extraction<'a> {
    rules: &'a RuleSet,
    texts: Texts<'a>,
    operations: Map<(Text, Text), Text>,
    cells: Map<Cell, Measures>,
    links: Map<LinkCell, Measures>,
    entities: Map<EntityRow, (i64, i64)>,
    findings: Vec<FindingAt>,
    matches: Map<matches::Key<'a>, Match<'a>>,
    volumes: Map<Source, Volume>,
}

/// Whose records of which kind came in which batch of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    pub(crate) batch: usize,
    pub(crate) account: Text,
    pub(crate) kind: RecordKind,
}

/// Records, and bytes of their text.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Volume {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

impl Volume {
    pub(crate) fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

/// The columns of a batch with its texts' numbers in the group in place of those in the batch.
struct Columns<'r, 'a> {
    rows: &'r EventRows<'a>,
    /// By the number of the marks, the rules whose matches may be findings.
    told: Vec<Vec<&'a Rule>>,
    account: Vec<Text>,
    region: Vec<Text>,
    actor_id: Vec<Text>,
    actor_name: Vec<Text>,
    actor_alias: Vec<Text>,
    parent_id: Vec<Text>,
    parent_alias: Vec<Text>,
    origin_id: Vec<Text>,
    service: Vec<Text>,
    operation: Vec<Text>,
    error: Vec<Text>,
    address: Vec<Text>,
    user_agent: Vec<Text>,
    access_key: Vec<Text>,
    corrects: Vec<Text>,
    link_id: Vec<Text>,
    link_name: Vec<Text>,
}

impl<'r, 'a> Columns<'r, 'a> {
    fn new(rows: &'r EventRows<'a>, rules: &'a RuleSet, texts: &mut Texts<'a>) -> Self {
        let told = rows.rules.values().map(|marks| matches::told(rules, marks)).collect();
        let mut numbers = |column: &TextColumn<'a>| column.values().map(|text| texts.intern(text)).collect();
        Self {
            told,
            account: numbers(&rows.account),
            region: numbers(&rows.region),
            actor_id: numbers(&rows.actor_id),
            actor_name: numbers(&rows.actor_name),
            actor_alias: numbers(&rows.actor_alias),
            parent_id: numbers(&rows.parent_id),
            parent_alias: numbers(&rows.parent_alias),
            origin_id: numbers(&rows.origin_id),
            service: numbers(&rows.service),
            operation: numbers(&rows.operation),
            error: numbers(&rows.error),
            address: numbers(&rows.address),
            user_agent: numbers(&rows.user_agent),
            access_key: numbers(&rows.access_key),
            corrects: numbers(&rows.corrects),
            link_id: numbers(&rows.links.id),
            link_name: numbers(&rows.links.name),
            rows,
        }
    }
}

fn number(numbers: &[Text], column: &TextColumn<'_>, row: usize) -> Text {
    numbers.get(column.key(row)).copied().unwrap_or_default()
}

fn at<T: Copy + Default>(column: &[T], row: usize) -> T {
    column.get(row).copied().unwrap_or_default()
}

fn unsigned(column: &[i64], row: usize) -> u64 {
    u64::try_from(at(column, row)).unwrap_or_default()
}

fn node(kind: Option<EntityType>, id: Text) -> Option<Node> {
    kind.filter(|_| id != 0).map(|kind| Node { kind, id })
}

impl<'a> Extraction<'a> {
    /// `rules` say what findings of their matches tell.
    pub(crate) fn new(rules: &'a RuleSet) -> Self {
        Self {
            rules,
            texts: Texts::new(),
            operations: Map::default(),
            cells: Map::default(),
            links: Map::default(),
            entities: Map::default(),
            findings: Vec::new(),
            matches: Map::default(),
            volumes: Map::default(),
        }
    }

    /// Counts the rows of a batch that `keep` names.
    pub(crate) fn add(&mut self, batch: usize, rows: &EventRows<'a>, keep: &[bool]) {
        let columns = Columns::new(rows, self.rules, &mut self.texts);
        let mut volume: Option<(Source, Volume)> = None;
        for (row, _) in keep.iter().enumerate().filter(|(_, keep)| **keep) {
            let Some(kind) = rows.kind.get(row) else { continue };
            let account = number(&columns.account, &rows.account, row);
            // Neighbours are mostly of one source.
            let source = Source { batch, account, kind };
            if let Some((known, sum)) = volume.take_if(|(known, _)| *known != source) {
                self.volumes.entry(known).or_default().add(&sum);
            }
            volume.get_or_insert((source, Volume::default())).1.add(&Volume { records: 1, bytes: unsigned(rows.length, row) });
            self.add_row(&columns, batch, row, kind, account);
        }
        if let Some((source, sum)) = volume {
            self.volumes.entry(source).or_default().add(&sum);
        }
    }

    fn add_row(&mut self, columns: &Columns<'_, 'a>, batch: usize, row: usize, kind: RecordKind, account: Text) {
        let rows = columns.rows;
        let (time, end_time) = (at(rows.time, row), at(rows.end_time, row));
        let hour = Timestamp(time).hour().0;
        let error = number(&columns.error, &rows.error, row);
        let measures = Measures {
            count: 1,
            errors: u64::from(error != 0),
            bytes_in: unsigned(rows.bytes_in, row),
            bytes_out: unsigned(rows.bytes_out, row),
            packets_in: unsigned(rows.packets_in, row),
            packets_out: unsigned(rows.packets_out, row),
            first: Timestamp(time),
            last: Timestamp(end_time),
        };
        let actor = node(rows.actor_type.get(row), number(&columns.actor_id, &rows.actor_id, row));
        let parent = node(rows.parent_type.get(row), number(&columns.parent_id, &rows.parent_id, row));
        let origin = node(rows.origin_type.get(row), number(&columns.origin_id, &rows.origin_id, row));
        let mut cell = Cell {
            hour,
            // A row without an actor is no cell.
            actor: actor.unwrap_or(Node { kind: EntityType::Account, id: 0 }),
            actor_name: number(&columns.actor_name, &rows.actor_name, row),
            actor_alias: number(&columns.actor_alias, &rows.actor_alias, row),
            parent,
            parent_alias: number(&columns.parent_alias, &rows.parent_alias, row),
            origin,
            account,
            service: 0,
            access_key: 0,
            flow: rows.flow.get(row),
            dimensions: NO_DIMENSIONS,
        };
        if let Some(text) = rows.finding(row) {
            self.findings.push(FindingAt { batch, row });
            self.see_involved(&cell, &measures);
            let finding = Node { kind: EntityType::Finding, id: self.texts.intern(&text.finding.id) };
            let title = self.texts.intern(&text.finding.title);
            self.see(finding, title, 0, account, &measures);
            // A finding is one fact however often it is updated: its edges have no count but 1 an update.
            for index in rows.links.range(row) {
                let Some((_, link, name)) = link(columns, index) else { continue };
                let cell = LinkCell { hour, relation: Relation::AffectedBy, link, name, actor: finding, parent: None, dimensions: NO_DIMENSIONS };
                self.count_link(cell, &measures);
            }
            return;
        }
        let (service, operation) = (number(&columns.service, &rows.service, row), number(&columns.operation, &rows.operation, row));
        cell.service = service;
        cell.access_key = number(&columns.access_key, &rows.access_key, row);
        cell.dimensions = Dimensions {
            operation: self.operation(service, operation),
            address: number(&columns.address, &rows.address, row),
            user_agent: number(&columns.user_agent, &rows.user_agent, row),
            error,
            port: at(rows.port, row),
            protocol: at(rows.protocol, row),
        };
        // A correction is no second call, and an interval without data is no traffic.
        let counts = number(&columns.corrects, &rows.corrects, row) == 0 && (kind != RecordKind::VpcFlow || cell.flow.is_some());
        if let Some(told) = columns.told.get(rows.rules.key(row)).filter(|told| counts && !told.is_empty()) {
            self.add_matches(told, columns, row, &cell);
        }
        let actor = actor.filter(|_| counts);
        for index in rows.links.range(row) {
            let Some((relation, link, name)) = link(columns, index) else { continue };
            match actor {
                Some(actor) => self.count_link(LinkCell { hour, relation, link, name, actor, parent, dimensions: cell.dimensions }, &measures),
                None => self.see(link, name, 0, 0, &measures),
            }
        }
        if actor.is_some() && (service != 0 || cell.flow.is_some()) {
            self.cells.entry(cell).or_insert(Measures::ZERO).merge(&measures);
        } else {
            self.see_involved(&cell, &measures);
        }
    }

    /// Counts an event for the findings of the rules that it matches, and ties these to whom it names.
    fn add_matches(&mut self, told: &[&'a Rule], columns: &Columns<'_, 'a>, row: usize, cell: &Cell) {
        let rows = columns.rows;
        let (time, end_time) = (at(rows.time, row), at(rows.end_time, row));
        let actor = node(rows.actor_type.get(row), number(&columns.actor_id, &rows.actor_id, row));
        let Some(actor) = actor.or_else(|| node(Some(EntityType::Account), cell.account)) else { return };
        let mut named = vec![(actor, cell.actor_name, 0)];
        named.extend(cell.parent.into_iter().chain(cell.origin).map(|entity| (entity, 0, 1)));
        let address = cell.dimensions.address;
        if self.texts.get(address).parse::<IpAddr>().is_ok() {
            named.push((Node { kind: EntityType::IpAddress, id: address }, 0, 2));
        }
        named.extend(rows.links.range(row).filter_map(|index| link(columns, index)).map(|(_, entity, name)| (entity, name, 3)));
        for rule in told.iter().copied() {
            let Some(level) = matches::level(rule, cell.dimensions.error != 0) else { continue };
            let seen = Seen { level, time, end_time, event: rows.id(row), account: cell.account, region: number(&columns.region, &rows.region, row) };
            let day = Timestamp(time).day();
            let Self { texts, matches, .. } = self;
            let found = matches.entry(matches::Key { rule: &rule.id, actor, day }).or_insert_with(|| {
                let id = matches::id(&rule.id, actor.kind, texts.get(actor.id), Timestamp(time));
                Match::new(rule, texts.insert(Cow::Owned(id)), &seen)
            });
            found.add(&seen);
            named.iter().for_each(|(entity, _, rank)| found.name(*entity, *rank));
            let finding = Node { kind: EntityType::Finding, id: found.id };
            let title = self.texts.intern(&rule.title);
            let measures = Measures { count: 1, first: Timestamp(time), last: Timestamp(end_time), ..Measures::ZERO };
            self.see(finding, title, 0, cell.account, &measures);
            for (link, name, _) in &named {
                let cell = LinkCell {
                    hour: cell.hour,
                    relation: Relation::AffectedBy,
                    link: *link,
                    name: *name,
                    actor: finding,
                    parent: None,
                    dimensions: NO_DIMENSIONS,
                };
                self.count_link(cell, &measures);
            }
        }
    }

    /// A finding that the graph made itself, tied to what it affects as one that came in is.
    pub(crate) fn add_made(&mut self, made: &'a Made) {
        let finding = &made.finding;
        let measures = Measures { count: 1, first: finding.first_seen, last: finding.last_seen, ..Measures::ZERO };
        let node = Node { kind: EntityType::Finding, id: self.texts.intern(&finding.id) };
        let (title, account) = (self.texts.intern(&finding.title), self.texts.intern(&made.account));
        self.see(node, title, 0, account, &measures);
        let hour = finding.last_seen.hour().0;
        for entity in &made.entities {
            let link = Node { kind: entity.kind, id: self.texts.intern(&entity.id) };
            self.count_link(LinkCell { hour, relation: Relation::AffectedBy, link, name: 0, actor: node, parent: None, dimensions: NO_DIMENSIONS }, &measures);
        }
    }

    fn see(&mut self, node: Node, name: Text, alias: Text, account: Text, measures: &Measures) {
        see(&mut self.entities, EntityRow { node, name, alias, account }, measures);
    }

    fn see_involved(&mut self, cell: &Cell, measures: &Measures) {
        see_involved(&mut self.entities, cell, measures);
    }

    fn count_link(&mut self, cell: LinkCell, measures: &Measures) {
        self.links.entry(cell).or_insert(Measures::ZERO).merge(measures);
    }

    /// `SERVICE/OPERATION`, put together once a pair.
    fn operation(&mut self, service: Text, operation: Text) -> Text {
        if operation == 0 {
            return 0;
        }
        if let Some(known) = self.operations.get(&(service, operation)) {
            return *known;
        }
        let text = format!("{}/{}", self.texts.get(service), self.texts.get(operation));
        let text = self.texts.insert(Cow::Owned(text));
        self.operations.insert((service, operation), text);
        text
    }

    /// Spreads the cells over everyone involved.
    pub(crate) fn finish(self) -> Graph<'a> {
        let mut graph = Graph {
            texts: self.texts,
            edges: Vec::with_capacity(self.cells.len() * 6 + self.links.len() * 2),
            sums: Map::default(),
            entities: self.entities,
            findings: self.findings,
            matches: self.matches.into_values().collect(),
            volumes: self.volumes,
            addresses: Map::default(),
        };
        for (cell, measures) in &self.cells {
            see_involved(&mut graph.entities, cell, measures);
            match cell.flow {
                Some(relation) => graph.add_flow(cell, relation, measures),
                None => graph.add_call(cell, measures),
            }
        }
        for (cell, measures) in &self.links {
            see(&mut graph.entities, EntityRow { node: cell.link, name: cell.name, alias: 0, account: 0 }, measures);
            graph.add_link(cell, measures);
        }
        graph.edges.extend(std::mem::take(&mut graph.sums));
        graph
    }
}

fn link(columns: &Columns<'_, '_>, index: usize) -> Option<(Relation, Node, Text)> {
    let links = &columns.rows.links;
    let node = node(links.entity_type.get(index), number(&columns.link_id, &links.id, index))?;
    Some((links.relation.get(index)?, node, number(&columns.link_name, &links.name, index)))
}

fn see(entities: &mut Map<EntityRow, (i64, i64)>, row: EntityRow, measures: &Measures) {
    let (first, last) = entities.entry(row).or_insert((measures.first.0, measures.last.0));
    *first = (*first).min(measures.first.0);
    *last = (*last).max(measures.last.0);
}

/// Account, actor, parent and origin.
fn see_involved(entities: &mut Map<EntityRow, (i64, i64)>, cell: &Cell, measures: &Measures) {
    let account = cell.account;
    let mut see = |node: Node, name, alias, account| {
        if node.id != 0 {
            see(entities, EntityRow { node, name, alias, account }, measures);
        }
    };
    see(Node { kind: EntityType::Account, id: account }, 0, 0, account);
    see(cell.actor, cell.actor_name, cell.actor_alias, account);
    if let Some(parent) = cell.parent {
        see(parent, 0, cell.parent_alias, account);
    }
    if let Some(origin) = cell.origin {
        see(origin, 0, 0, 0);
    }
}

/// Edges, entities and findings of a group.
#[derive(Debug)]
pub(crate) struct Graph<'a> {
    pub(crate) texts: Texts<'a>,
    /// Edges, equal ones not summed yet.
    pub(crate) edges: Vec<(EdgeKey, Measures)>,
    /// Edges of few dimensions while they are made: many cells fall on each.
    sums: Map<EdgeKey, Measures>,
    pub(crate) entities: Map<EntityRow, (i64, i64)>,
    pub(crate) findings: Vec<FindingAt>,
    pub(crate) matches: Vec<Match<'a>>,
    pub(crate) volumes: Map<Source, Volume>,
    addresses: Map<Text, Option<IpAddr>>,
}

impl Graph<'_> {
    /// The IP address that a text is, if it is one: callers may also be named by the DNS name of a service.
    pub(crate) fn address(&mut self, text: Text) -> Option<IpAddr> {
        let texts = &self.texts;
        *self.addresses.entry(text).or_insert_with(|| texts.get(text).parse().ok())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of an edge's key, in its order")]
    fn add(&mut self, hour: i64, entity: Node, out: bool, relation: Relation, peer: Node, dimensions: Dimensions, measures: &Measures) {
        let key = EdgeKey { hour, entity, out, relation, peer, dimensions };
        if (Dimensions { operation: 0, ..dimensions }) == NO_DIMENSIONS {
            self.sums.entry(key).or_insert(Measures::ZERO).merge(measures);
        } else {
            self.edges.push((key, *measures));
        }
    }

    /// An edge under both its ends, with the same dimensions.
    fn add_both(&mut self, hour: i64, subject: Node, relation: Relation, object: Node, dimensions: Dimensions, measures: &Measures) {
        self.add(hour, subject, true, relation, object, dimensions, measures);
        self.add(hour, object, false, relation, subject, dimensions, measures);
    }

    fn see(&mut self, node: Node, measures: &Measures) {
        see(&mut self.entities, EntityRow { node, name: 0, alias: 0, account: 0 }, measures);
    }

    fn add_call(&mut self, cell: &Cell, measures: &Measures) {
        let (hour, actor, all) = (cell.hour, cell.actor, cell.dimensions);
        let relation = if all.error == 0 { Relation::Called } else { Relation::FailedToCall };
        let service = Node { kind: EntityType::AwsService, id: cell.service };
        let operation = Dimensions { operation: all.operation, ..NO_DIMENSIONS };
        self.see(service, measures);
        let account = Node { kind: EntityType::Account, id: cell.account };
        let accounts = (cell.account != 0 && actor != account).then_some(account);
        for caller in [Some(actor), cell.parent, accounts].into_iter().flatten() {
            self.add(hour, caller, true, relation, service, all, measures);
        }
        self.add(hour, service, false, relation, actor, operation, measures);
        if self.address(all.address).is_some() {
            let address = Node { kind: EntityType::IpAddress, id: all.address };
            self.see(address, measures);
            self.add(hour, address, false, Relation::Used, actor, Dimensions { address: 0, ..all }, measures);
            self.add(hour, actor, true, Relation::Used, address, NO_DIMENSIONS, measures);
        }
        if all.user_agent != 0 {
            let user_agent = Node { kind: EntityType::UserAgent, id: all.user_agent };
            self.see(user_agent, measures);
            self.add(hour, user_agent, false, Relation::Used, actor, Dimensions { address: all.address, ..operation }, measures);
        }
        if cell.access_key != 0 {
            let access_key = Node { kind: EntityType::AccessKey, id: cell.access_key };
            self.see(access_key, measures);
            self.add(hour, access_key, false, Relation::Used, actor, Dimensions { error: 0, ..all }, measures);
            self.add(hour, actor, true, Relation::Used, access_key, NO_DIMENSIONS, measures);
        }
        if let Some(role) = cell.parent {
            self.add_both(hour, actor, Relation::Assumed, role, NO_DIMENSIONS, measures);
        }
        if let Some(origin) = cell.origin {
            self.add_both(hour, origin, Relation::Assumed, actor, NO_DIMENSIONS, measures);
        }
    }

    fn add_flow(&mut self, cell: &Cell, relation: Relation, measures: &Measures) {
        let (hour, all) = (cell.hour, cell.dimensions);
        if self.address(all.address).is_none() {
            return;
        }
        let remote = Node { kind: EntityType::IpAddress, id: all.address };
        self.see(remote, measures);
        for local in [Some(cell.actor), cell.parent].into_iter().flatten() {
            self.add(hour, local, true, relation, remote, all, measures);
        }
        self.add(hour, remote, false, relation, cell.actor, Dimensions { address: 0, ..all }, measures);
    }

    fn add_link(&mut self, cell: &LinkCell, measures: &Measures) {
        let (hour, actor, link, all) = (cell.hour, cell.actor, cell.link, cell.dimensions);
        let operation = Dimensions { operation: all.operation, ..NO_DIMENSIONS };
        match cell.relation {
            Relation::AffectedBy => {
                self.add(hour, link, true, Relation::AffectedBy, actor, Dimensions { user_agent: 0, port: -1, protocol: -1, ..all }, measures);
                for principal in [Some(actor), cell.parent].into_iter().flatten() {
                    self.add(hour, principal, false, Relation::AffectedBy, link, operation, measures);
                }
            }
            Relation::Assumed | Relation::LoggedIn => self.add_both(hour, actor, cell.relation, link, all, measures),
            // An address that an interface has, an image that a pod runs: how it was used is in the calls.
            relation => self.add_both(hour, actor, relation, link, operation, measures),
        }
    }
}
