//! From events to edges and entities: first counted in cells, then spread over everyone involved.
//!
//! A cell is all calls of one hour that agree in every dimension. Records repeat far more than cells do, so a record costs
//! one look-up and the dozen edges of a call are made once a cell. What each edge holds is documented in `docs/lake.md`.

use std::{borrow::Cow, net::IpAddr};

use gumshoe_model::{EntityType, Measures, RecordKind, Relation, Timestamp};
use gumshoe_records::columns::{EventRow, EventRows, RowEntity};
use hashbrown::{HashMap, HashTable};

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

    /// All texts, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(|text| &**text)
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
    parent: Option<Node>,
    origin: Text,
    origin_kind: Option<EntityType>,
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
    texts: Texts<'a>,
    operations: Map<(Text, Text), Text>,
    cells: Map<Cell, Measures>,
    links: Map<LinkCell, Measures>,
    entities: Map<EntityRow, (i64, i64)>,
    findings: Vec<FindingAt>,
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

impl<'a> Extraction<'a> {
    pub(crate) fn new() -> Self {
        Self {
            texts: Texts::new(),
            operations: Map::default(),
            cells: Map::default(),
            links: Map::default(),
            entities: Map::default(),
            findings: Vec::new(),
            volumes: Map::default(),
        }
    }

    /// Counts the rows of a batch that `keep` names.
    pub(crate) fn add(&mut self, batch: usize, rows: &EventRows<'a>, keep: &[bool]) {
        for (index, _) in keep.iter().enumerate().filter(|(_, keep)| **keep) {
            if let Some(row) = rows.get(index) {
                self.add_row(batch, index, &row, rows);
            }
        }
    }

    fn node(&mut self, entity: RowEntity<'a>) -> Option<Node> {
        entity.map(|(kind, id)| Node { kind, id: self.texts.intern(id) })
    }

    fn see(&mut self, node: Node, name: Text, alias: Text, account: Text, row: &EventRow<'_>) {
        let (first, last) = self.entities.entry(EntityRow { node, name, alias, account }).or_insert((row.time, row.end_time));
        *first = (*first).min(row.time);
        *last = (*last).max(row.end_time);
    }

    fn add_row(&mut self, batch: usize, index: usize, row: &EventRow<'a>, rows: &EventRows<'a>) {
        let account = self.texts.intern(row.account);
        let volume = self.volumes.entry(Source { batch, account, kind: row.kind }).or_default();
        volume.records += 1;
        volume.bytes += u64::try_from(row.raw.len()).unwrap_or(u64::MAX);
        let hour = Timestamp(row.time).hour().0;
        let failed = !row.error.is_empty();
        let measures = Measures {
            count: 1,
            errors: u64::from(failed),
            bytes_in: row.bytes_in,
            bytes_out: row.bytes_out,
            packets_in: row.packets_in,
            packets_out: row.packets_out,
            first: Timestamp(row.time),
            last: Timestamp(row.end_time),
        };
        if account != 0 {
            self.see(Node { kind: EntityType::Account, id: account }, 0, 0, account, row);
        }
        let actor = self.node(row.actor);
        let parent = self.node(row.parent);
        if let Some(actor) = actor {
            let (name, alias) = (self.texts.intern(row.actor_name), self.texts.intern(row.actor_alias));
            self.see(actor, name, alias, account, row);
        }
        if let Some(parent) = parent {
            let alias = self.texts.intern(row.parent_alias);
            self.see(parent, 0, alias, account, row);
        }
        if let Some(finding) = row.finding {
            self.findings.push(FindingAt { batch, row: index });
            let node = Node { kind: EntityType::Finding, id: self.texts.intern(finding.id) };
            let title = self.texts.intern(finding.title);
            self.see(node, title, 0, account, row);
            // A finding is one fact however often it is updated: its edges have no count but 1 an update.
            for link in rows.links(index) {
                let entity = Node { kind: link.kind, id: self.texts.intern(link.id) };
                let name = self.texts.intern(link.name);
                self.see(entity, name, 0, 0, row);
                self.count_link(
                    LinkCell { hour, relation: Relation::AffectedBy, link: entity, actor: node, parent: None, dimensions: NO_DIMENSIONS },
                    &measures,
                );
            }
            return;
        }
        // A correction is no second call, and an interval without data is no traffic.
        let counts = row.corrects.is_empty() && (row.kind != RecordKind::VpcFlow || row.flow.is_some());
        let (service, operation) = (self.texts.intern(row.service), self.texts.intern(row.operation));
        let dimensions = Dimensions {
            operation: self.operation(service, operation),
            address: self.texts.intern(row.address),
            user_agent: self.texts.intern(row.user_agent),
            error: self.texts.intern(row.error),
            port: row.port,
            protocol: row.protocol,
        };
        for link in rows.links(index) {
            let entity = Node { kind: link.kind, id: self.texts.intern(link.id) };
            let name = self.texts.intern(link.name);
            self.see(entity, name, 0, 0, row);
            if let Some(actor) = actor.filter(|_| counts) {
                self.count_link(LinkCell { hour, relation: link.relation, link: entity, actor, parent, dimensions }, &measures);
            }
        }
        let origin = self.node(row.origin);
        if let Some(origin) = origin {
            self.see(origin, 0, 0, 0, row);
        }
        if let Some(actor) = actor.filter(|_| counts && (service != 0 || row.flow.is_some())) {
            let cell = Cell {
                hour,
                actor,
                parent,
                origin: origin.map_or(0, |origin| origin.id),
                origin_kind: origin.map(|origin| origin.kind),
                account,
                service,
                access_key: self.texts.intern(row.access_key),
                flow: row.flow,
                dimensions,
            };
            self.cells.entry(cell).or_insert(Measures::ZERO).merge(&measures);
        }
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
        let mut graph =
            Graph { texts: self.texts, edges: Vec::new(), entities: self.entities, findings: self.findings, volumes: self.volumes, addresses: Map::default() };
        graph.edges.reserve(self.cells.len() * 12 + self.links.len() * 3);
        for (cell, measures) in &self.cells {
            match cell.flow {
                Some(relation) => graph.add_flow(cell, relation, measures),
                None => graph.add_call(cell, measures),
            }
        }
        for (cell, measures) in &self.links {
            graph.add_link(cell, measures);
        }
        graph
    }
}

/// Edges, entities and findings of a group.
#[derive(Debug)]
pub(crate) struct Graph<'a> {
    pub(crate) texts: Texts<'a>,
    /// Edges, equal ones not summed yet.
    pub(crate) edges: Vec<(EdgeKey, Measures)>,
    pub(crate) entities: Map<EntityRow, (i64, i64)>,
    pub(crate) findings: Vec<FindingAt>,
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
        self.edges.push((EdgeKey { hour, entity, out, relation, peer, dimensions }, *measures));
    }

    /// An edge under both its ends, with the same dimensions.
    fn add_both(&mut self, hour: i64, subject: Node, relation: Relation, object: Node, dimensions: Dimensions, measures: &Measures) {
        self.add(hour, subject, true, relation, object, dimensions, measures);
        self.add(hour, object, false, relation, subject, dimensions, measures);
    }

    fn see(&mut self, node: Node, measures: &Measures) {
        let row = EntityRow { node, name: 0, alias: 0, account: 0 };
        let (first, last) = self.entities.entry(row).or_insert((measures.first.0, measures.last.0));
        *first = (*first).min(measures.first.0);
        *last = (*last).max(measures.last.0);
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
        if let Some(kind) = cell.origin_kind {
            self.add_both(hour, Node { kind, id: cell.origin }, Relation::Assumed, actor, NO_DIMENSIONS, measures);
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
