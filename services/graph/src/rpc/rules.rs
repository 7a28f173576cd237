//! The RPCs for detection rules.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, LazyLock},
};

use futures::{Stream, StreamExt as _};
use gumshoe_api::{
    convert::{record_kind_to_proto, time_to_proto, window_from_proto},
    graph::v1::{self as proto, hunt_rule_request, rule_service_server::RuleService},
};
use gumshoe_detections::{Correlations, LoadError, Problem, Rule, RuleSet, set::ids};
use gumshoe_lake::{Engine, Lake};
use gumshoe_model::{DeadLetter, Event, GraphArn, time::MICROS_PER_DAY};
use gumshoe_records::{Options, Sink, Stop, read};
use gumshoe_runtime::{
    Clock, PageTokens,
    page::Scope,
    status::{self, Chain, Failure},
    token::Caller,
};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::{Listing, field, page};
use crate::{
    hunt,
    rows::{self, Answer},
    rules::{Effective, Origin, Rules},
    store::{StoreError, StoredRule},
};

/// The longest rule, in bytes.
const MAX_DOCUMENT_BYTES: usize = 64 << 10;
/// Rules of a graph.
const MAX_RULES: usize = 1_000;
/// The longest text to filter by, in bytes.
const MAX_TEXT_BYTES: usize = 256;
/// Records to try a rule on, in bytes.
const MAX_RECORD_BYTES: usize = 1 << 20;
/// Places of matching records that are told.
const MAX_PLACES: usize = 1_000;
/// Problems that are told.
const MAX_PROBLEMS: usize = 100;
/// The longest time that is hunted through, in days.
const MAX_HUNT_DAYS: i64 = 366;
/// Matches after which a hunt ends.
const MAX_MATCHES: i32 = 10_000;
const DEFAULT_MATCHES: i32 = 1_000;
/// Hunts at once.
const HUNTS: usize = 4;
/// How often a change is tried that others were faster than.
const TRIES: usize = 5;
/// What a rule that is being tried is called, where it has no id.
const DOCUMENT: &str = "document";

/// The service.
#[derive(Clone)]
pub(crate) struct RuleRpc {
    lake: Arc<Lake>,
    engine: Engine,
    rules: Arc<Rules>,
    pages: PageTokens,
    clock: Arc<dyn Clock>,
    hunts: Arc<Semaphore>,
}

impl RuleRpc {
    pub(crate) fn new(lake: Arc<Lake>, engine: Engine, rules: Arc<Rules>, pages: PageTokens, clock: Arc<dyn Clock>) -> Self {
        Self { lake, engine, rules, pages, clock, hunts: Arc::new(Semaphore::new(HUNTS)) }
    }

    async fn newest(&self, graph: &GraphArn) -> Answer<Arc<Effective>> {
        self.rules.newest(graph).await.map_err(|error| failure(&error))
    }

    /// Writes a rule, for which one with its id must or must not be there.
    async fn write(&self, graph: &GraphArn, author: &str, document: String, new: bool) -> Answer<proto::Rule> {
        let id = one_id(&document)?;
        for _ in 0..TRIES {
            let now = self.newest(graph).await?;
            match (now.own(&id), new) {
                (Some(_), true) => return Err(status::already_exists("rule", &id)),
                (None, false) => return Err(status::not_found("rule", &id)),
                (None, true) if now.own.len() >= MAX_RULES => return Err(status::quota_exceeded(format!("a graph has at most {MAX_RULES} rules"))),
                _ => {}
            }
            let mut files = now.own_but(&id);
            files.push((id.clone(), document.clone()));
            let (set, revision) = (Arc::clone(&now), now.revision);
            blocking(move || set.with(&files)).await?.map_err(|error| refused(&id, &problems(error)))?;
            let time = self.clock.now();
            let rule = StoredRule { id: id.clone(), document: document.clone(), author: author.to_owned(), create_time: time, update_time: time };
            if self.rules.store().put_rule(graph, revision, &rule).await.map_err(|error| failure(&error))? {
                let now = self.newest(graph).await?;
                return described(&now, &id).ok_or_else(|| status::conflict("the rule was changed meanwhile"));
            }
        }
        Err(status::conflict("the graph's rules are changed by others at the same time"))
    }
}

fn failure(error: &StoreError) -> Failure {
    tracing::warn!(error = %Chain(error), "the store of rules does not answer");
    status::unavailable("the store of rules")
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| status::internal(&error))
}

fn problems(error: LoadError) -> Vec<Problem> {
    match error {
        LoadError::Wrong(problems) => problems,
        LoadError::Unreadable { .. } => vec![Problem { file: String::new(), field: String::new(), reason: "cannot be read".to_owned() }],
    }
}

/// The id of the one rule in a document.
fn one_id(document: &str) -> Answer<String> {
    if document.is_empty() || document.len() > MAX_DOCUMENT_BYTES {
        return Err(status::invalid_argument("document", format!("must have 1 to {MAX_DOCUMENT_BYTES} bytes")));
    }
    let mut found = ids(DOCUMENT, document).map_err(|problems| refused(DOCUMENT, &problems))?;
    match (found.pop(), found.len()) {
        (Some((id, _)), 0) => Ok(id),
        (_, others) => Err(status::invalid_argument("document", format!("must hold one rule, but has {}", others + 1))),
    }
}

/// Why a rule is not taken: fields of it, or what it does to others.
fn refused(id: &str, problems: &[Problem]) -> Failure {
    let violation = |problem: &Problem| {
        if problem.file != id {
            return ("document".to_owned(), format!("does not go with another rule: {problem}"));
        }
        let dot = if problem.field.is_empty() { "" } else { "." };
        (format!("document{dot}{}", problem.field), problem.reason.clone())
    };
    let mut violations = problems.iter().take(MAX_PROBLEMS).map(violation);
    let (first, reason) = violations.next().unwrap_or_else(|| ("document".to_owned(), "is not right".to_owned()));
    violations.fold(status::invalid_argument(&first, reason), |failure, (field, reason)| failure.with_field(field, reason))
}

fn problem(problem: &Problem) -> proto::RuleProblem {
    proto::RuleProblem { file: problem.file.clone(), field: problem.field.clone(), reason: problem.reason.clone() }
}

/// A rule of a set.
fn rule_of<'s>(set: &'s RuleSet, id: &str) -> Option<&'s Arc<Rule>> {
    set.get(id).or_else(|| set.single().find(|rule| rule.id == id))
}

fn described(rules: &Effective, id: &str) -> Option<proto::Rule> {
    static SHIPPED: LazyLock<HashMap<String, Arc<Rule>>> = LazyLock::new(|| {
        let set = RuleSet::shipped().unwrap_or_default();
        set.single().chain(set.iter()).map(|rule| (rule.id.clone(), Arc::clone(rule))).collect()
    });
    if let Some(rule) = rule_of(&rules.set, id) {
        return Some(owned(rules, &rule.source, describe(&rules.set, rule, true)));
    }
    let file = rules.off.get(id)?;
    let unknown = || proto::Rule { id: id.to_owned(), ..Default::default() };
    Some(owned(rules, file, SHIPPED.get(id).map_or_else(unknown, |rule| describe(&rules.set, rule, false))))
}

fn describe(set: &RuleSet, rule: &Rule, enabled: bool) -> proto::Rule {
    let correlation = set.is_correlation(&rule.id);
    proto::Rule {
        id: rule.id.clone(),
        title: rule.title.clone(),
        description: rule.description.clone(),
        level: rule.level.as_str().to_owned(),
        tactics: rule.tactics.iter().map(|tactic| proto::Tactic { id: tactic.id().to_owned(), name: tactic.as_str().to_owned() }).collect(),
        techniques: rule.techniques.iter().map(ToString::to_string).collect(),
        enabled,
        kind: if correlation { 0 } else { record_kind_to_proto(rule.kind) },
        only_if_new: rule.only_if_new,
        correlation,
        part: set.is_part(&rule.id),
        false_positives: rule.false_positives.clone(),
        references: rule.references.clone(),
        ..Default::default()
    }
}

/// With who it is from.
fn owned(rules: &Effective, file: &str, rule: proto::Rule) -> proto::Rule {
    let origin = match rules.origin(file) {
        Origin::Shipped => proto::RuleOrigin::Shipped,
        Origin::Directory => proto::RuleOrigin::Directory,
        Origin::Graph => proto::RuleOrigin::Graph,
    };
    let own = rules.own(file);
    proto::Rule {
        origin: origin.into(),
        file: if own.is_some() { String::new() } else { file.to_owned() },
        author: own.map(|own| own.author.clone()).unwrap_or_default(),
        create_time: own.map(|own| time_to_proto(own.create_time)),
        update_time: own.map(|own| time_to_proto(own.update_time)),
        ..rule
    }
}

/// Whether a rule holds a text, which is in lower case.
fn holds(rule: &proto::Rule, text: &str) -> bool {
    let has = |other: &str| other.to_lowercase().contains(text);
    has(&rule.id) || has(&rule.title) || rule.techniques.iter().any(|id| has(id)) || rule.tactics.iter().any(|tactic| has(&tactic.id) || has(&tactic.name))
}

/// The last rule of a page.
#[derive(Debug, Serialize, Deserialize)]
struct Cursor(String);

/// Tries a rule on records.
struct Try<'r> {
    set: &'r RuleSet,
    rule: &'r Rule,
    /// For a rule about several events.
    correlations: Option<Correlations>,
    records: i64,
    unreadable: i64,
    matched: Vec<i64>,
}

impl Sink for Try<'_> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        let matches = match &mut self.correlations {
            Some(correlations) => correlations.observe(self.set, event).iter().any(|found| found.rule.id == self.rule.id),
            None => self.rule.matches(event),
        };
        if matches && self.matched.len() < MAX_PLACES {
            self.matched.push(self.records);
        }
        self.records += 1;
        Ok(())
    }

    fn dead_letter(&mut self, _: &DeadLetter<'_>) -> Result<(), Stop> {
        self.records += 1;
        self.unreadable += 1;
        Ok(())
    }
}

/// Tries the rule of `id` in `set` on its cases and on records.
fn tried(set: &RuleSet, id: &str, records: &[u8]) -> proto::TestRuleResponse {
    let Some(rule) = rule_of(set, id) else { return proto::TestRuleResponse::default() };
    let attempt = |records: &[u8]| {
        let correlations = set.is_correlation(id).then(Correlations::new);
        let mut attempt = Try { set, rule, correlations, records: 0, unreadable: 0, matched: Vec::new() };
        // Nothing stops it, and reading from memory does not fail.
        let _ = read(records, &Options::default(), &mut attempt);
        attempt
    };
    let failed = rule.cases.iter().filter(|case| attempt(case.text(rule.kind).as_bytes()).matched.is_empty() == case.matches);
    let failed_cases = failed.map(|case| proto::FailedCase { name: case.name.clone(), matches: case.matches }).collect();
    let whole = attempt(records);
    proto::TestRuleResponse {
        rule: Some(proto::Rule { origin: proto::RuleOrigin::Graph.into(), ..describe(set, rule, true) }),
        problems: Vec::new(),
        cases: i32::try_from(rule.cases.len()).unwrap_or(i32::MAX),
        failed_cases,
        records: whole.records,
        matched_records: whole.matched,
        unreadable_records: whole.unreadable,
    }
}

#[tonic::async_trait]
impl RuleService for RuleRpc {
    async fn list_rules(&self, request: Request<proto::ListRulesRequest>) -> Result<Response<proto::ListRulesResponse>, Status> {
        let graph = Caller::of(&request)?.require_graph(&request.get_ref().graph_arn)?;
        let mut body = request.into_inner();
        let token = std::mem::take(&mut body.page_token);
        let size = page::page_size("page_size", std::mem::take(&mut body.page_size), 100)?;
        if body.text.len() > MAX_TEXT_BYTES {
            return Err(status::invalid_argument("text", format!("must have at most {MAX_TEXT_BYTES} bytes")).into());
        }
        let origin = proto::RuleOrigin::try_from(body.origin).map_err(|_| status::invalid_argument("origin", "must be a known origin"))?;
        let listing = Listing { tokens: &self.pages, scope: Scope::new("ListRules", &graph.to_string(), body.encode_to_vec()) };
        let after: Option<Cursor> = listing.resume(&token)?;
        let rules = self.newest(&graph).await?;
        let mut known: Vec<&str> =
            rules.set.single().chain(rules.set.iter()).map(|rule| rule.id.as_str()).chain(rules.off.keys().map(String::as_str)).collect();
        known.sort_unstable();
        known.dedup();
        let text = body.text.to_lowercase();
        let mut page = page::Page::new(size);
        for id in known.into_iter().filter(|id| after.as_ref().is_none_or(|after| *id > after.0.as_str())) {
            let Some(rule) = described(&rules, id) else { continue };
            if origin != proto::RuleOrigin::Unspecified && rule.origin != i32::from(origin) || !holds(&rule, &text) {
                continue;
            }
            let cursor = Cursor(rule.id.clone());
            if !page.push(rule, cursor) {
                break;
            }
        }
        let (found, next_page_token) = listing.finish(page)?;
        let problems = self.rules.problems().iter().chain(&rules.problems).take(MAX_PROBLEMS).map(problem).collect();
        Ok(Response::new(proto::ListRulesResponse { rules: found, next_page_token, problems }))
    }

    async fn get_rule(&self, request: Request<proto::GetRuleRequest>) -> Result<Response<proto::GetRuleResponse>, Status> {
        let graph = Caller::of(&request)?.require_graph(&request.get_ref().graph_arn)?;
        let id = request.into_inner().id.to_ascii_lowercase();
        let rules = self.newest(&graph).await?;
        let rule = described(&rules, &id).ok_or_else(|| status::not_found("rule", &id))?;
        let file = if rule.file.is_empty() { &rule.id } else { &rule.file };
        let document = rules.text(file).unwrap_or_default().to_owned();
        Ok(Response::new(proto::GetRuleResponse { rule: Some(rule), document }))
    }

    async fn create_rule(&self, request: Request<proto::CreateRuleRequest>) -> Result<Response<proto::CreateRuleResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let graph = caller.require_graph(&request.get_ref().graph_arn)?;
        let rule = self.write(&graph, &caller.principal, request.into_inner().document, true).await?;
        Ok(Response::new(proto::CreateRuleResponse { rule: Some(rule) }))
    }

    async fn update_rule(&self, request: Request<proto::UpdateRuleRequest>) -> Result<Response<proto::UpdateRuleResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let graph = caller.require_graph(&request.get_ref().graph_arn)?;
        let rule = self.write(&graph, &caller.principal, request.into_inner().document, false).await?;
        Ok(Response::new(proto::UpdateRuleResponse { rule: Some(rule) }))
    }

    async fn delete_rule(&self, request: Request<proto::DeleteRuleRequest>) -> Result<Response<proto::DeleteRuleResponse>, Status> {
        let graph = Caller::of(&request)?.require_graph(&request.get_ref().graph_arn)?;
        let id = request.into_inner().id.to_ascii_lowercase();
        for _ in 0..TRIES {
            let now = self.newest(&graph).await?;
            if now.own(&id).is_none() {
                return Err(status::not_found("rule", &id).into());
            }
            let (files, set, revision) = (now.own_but(&id), Arc::clone(&now), now.revision);
            if let Err(error) = blocking(move || set.with(&files)).await? {
                return Err(status::conflict(format!("other rules need it: {error}")).into());
            }
            if self.rules.store().delete_rule(&graph, revision, &id).await.map_err(|error| failure(&error))? {
                return Ok(Response::new(proto::DeleteRuleResponse {}));
            }
        }
        Err(status::conflict("the graph's rules are changed by others at the same time").into())
    }

    async fn test_rule(&self, request: Request<proto::TestRuleRequest>) -> Result<Response<proto::TestRuleResponse>, Status> {
        let graph = Caller::of(&request)?.require_graph(&request.get_ref().graph_arn)?;
        let body = request.into_inner();
        if body.document.is_empty() || body.document.len() > MAX_DOCUMENT_BYTES {
            return Err(status::invalid_argument("document", format!("must have 1 to {MAX_DOCUMENT_BYTES} bytes")).into());
        }
        if body.records.len() > MAX_RECORD_BYTES {
            return Err(status::invalid_argument("records", format!("must have at most {MAX_RECORD_BYTES} bytes")).into());
        }
        let rules = self.newest(&graph).await?;
        let answer = blocking(move || {
            let wrong = |found: &[Problem]| {
                let problems = found.iter().take(MAX_PROBLEMS).map(problem).collect();
                proto::TestRuleResponse { problems, ..Default::default() }
            };
            let id = match ids(DOCUMENT, &body.document).map(|found| found.as_slice().first().filter(|_| found.len() == 1).cloned()) {
                Ok(Some((id, _))) => id,
                Ok(None) => return wrong(&[Problem { file: DOCUMENT.to_owned(), field: String::new(), reason: "must hold one rule".to_owned() }]),
                Err(problems) => return wrong(&problems),
            };
            let mut files = rules.own_but(&id);
            files.push((DOCUMENT.to_owned(), body.document));
            match rules.with(&files) {
                Ok(set) => tried(&set, &id, &body.records),
                Err(error) => wrong(&problems(error)),
            }
        });
        Ok(Response::new(answer.await?))
    }

    type HuntRuleStream = Pin<Box<dyn Stream<Item = Result<proto::HuntRuleResponse, Status>> + Send>>;

    async fn hunt_rule(&self, request: Request<proto::HuntRuleRequest>) -> Result<Response<Self::HuntRuleStream>, Status> {
        let graph = Caller::of(&request)?.require_graph(&request.get_ref().graph_arn)?;
        let body = request.into_inner();
        let scope = window_from_proto("scope", body.scope.as_ref()).map_err(field)?.ok_or_else(|| status::invalid_argument("scope", "is required"))?;
        if scope.end().0 - scope.start().0 > MAX_HUNT_DAYS * MICROS_PER_DAY {
            return Err(status::invalid_argument("scope", format!("must be at most {MAX_HUNT_DAYS} days")).into());
        }
        let most = match body.max_matches {
            0 => DEFAULT_MATCHES,
            most @ 1..=MAX_MATCHES => most,
            _ => return Err(status::invalid_argument("max_matches", format!("must be 1 to {MAX_MATCHES}")).into()),
        };
        let rules = self.newest(&graph).await?;
        let (set, id, name) = match body.rule {
            Some(hunt_rule_request::Rule::Id(id)) => (Arc::clone(&rules.set), id.to_ascii_lowercase(), "id"),
            Some(hunt_rule_request::Rule::Document(document)) => {
                let id = one_id(&document)?;
                let mut files = rules.own_but(&id);
                files.push((DOCUMENT.to_owned(), document));
                let all = Arc::clone(&rules);
                let set = blocking(move || all.with(&files)).await?.map_err(|error| refused(DOCUMENT, &problems(error)))?;
                (Arc::new(set), id, "document")
            }
            None => return Err(status::invalid_argument("rule", "is required").into()),
        };
        if set.is_correlation(&id) {
            return Err(status::invalid_argument(name, "must be a rule about one event").into());
        }
        let rule = rule_of(&set, &id).cloned().ok_or_else(|| status::not_found("rule", &id))?;
        let permit = Arc::clone(&self.hunts).try_acquire_owned();
        let permit = permit.map_err(|_| status::resource_exhausted(format!("{HUNTS} hunts are under way"), std::time::Duration::from_secs(30)))?;
        let lake = self.lake.graph(&graph).await.map_err(rows::failure)?;
        lake.freshen().await.map_err(rows::failure)?;
        let found = hunt::hunt(self.engine.clone(), lake, rule, Arc::clone(&rules.set), scope, usize::try_from(most).unwrap_or_default());
        // The permit is given back when the stream ends.
        let stream = found.map(move |message| {
            let _ = &permit;
            message.map_err(Status::from)
        });
        Ok(Response::new(Box::pin(stream)))
    }
}
