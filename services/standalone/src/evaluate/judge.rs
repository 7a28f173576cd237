//! One scenario: its logs into a graph of its own, an investigation of all in it, and what that says.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use gumshoe_api::{
    common::v1::{EntityKey, TimeRange},
    convert::{entity_from_proto, time_from_proto, window_to_proto},
    graph::v1::{BatchGetRiskRequest, FindingSummary, ListEventsRequest, ListFindingsRequest},
    ingest::v1::{BatchResult, RecordsPiece, StreamRecordsRequest},
    investigation::v1::{
        GetInvestigationRequest, GetInvestigationResponse, Indicator, IndicatorType, InvestigationSeverity, InvestigationStatus, ListIndicatorsRequest,
        StartInvestigationRequest, indicator::Detail,
    },
    membership::v1::{CreateGraphRequest, DeleteGraphRequest},
};
use gumshoe_model::{
    PRODUCT, TimeWindow, Timestamp,
    time::{MICROS_PER_DAY, MICROS_PER_HOUR},
};
use serde_json::{Value, json};

use super::scenario::Scenario;
use crate::rpc::{Connection, Failure};

/// Bytes of one message; the server takes up to 2 MiB.
const PIECE: usize = 1 << 20;
const POLL: Duration = Duration::from_millis(10);
/// Risks of one call.
const RISKS: usize = 10;
/// From here on a finding is high.
const HIGH: f64 = 7.0;
/// The longest scope time.
const MAX_SCOPE: i64 = 30 * MICROS_PER_DAY;

/// What was found about one principal.
#[derive(Debug, Clone, PartialEq)]
pub struct Suspect {
    /// The principal.
    pub entity: gumshoe_model::EntityKey,
    /// Techniques told of it.
    pub techniques: Vec<String>,
    /// Its points, 0 to 100.
    pub points: u32,
    /// Whether its indicators together are HIGH or CRITICAL.
    pub grave: bool,
    /// Whether its risk is high or critical.
    pub risky: bool,
}

/// What was found in one scenario.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// Events that its logs hold.
    pub events: u64,
    /// Principals, gravest first.
    pub suspects: Vec<Suspect>,
    /// Own findings of a high severity.
    pub findings: u64,
    /// From the first byte sent to the last indicator.
    pub time: Duration,
}

impl Verdict {
    /// How many high alarms there are: of principals, and of own findings.
    pub fn alarms(&self) -> u64 {
        let principals = self.suspects.iter().filter(|suspect| suspect.grave || suspect.risky).count();
        self.findings + u64::try_from(principals).unwrap_or(u64::MAX)
    }
}

/// Judges scenarios with a server.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    /// The server.
    pub connection: &'a Connection,
    /// Where the logs are.
    pub folder: &'a Path,
    /// Texts to take out of them.
    pub blanks: &'a [String],
    /// Days that accounts are known before.
    pub history: u8,
}

impl Judge<'_> {
    /// Judges a scenario, in a graph of its own in a region.
    ///
    /// # Errors
    /// [`Failure`] when a log cannot be read, or the server fails.
    pub async fn judge(&self, scenario: &Scenario, region: &str) -> Result<Verdict, Failure> {
        let logs = scenario.logs(self.folder, self.blanks)?;
        let graph = self.create_graph(region).await?;
        let begin = Instant::now();
        let mut events = 0;
        for (number, (name, bytes)) in logs.into_iter().enumerate() {
            events += self.send(&graph, &format!("log-{number}"), &name, &bytes).await?.events;
        }
        let sent = begin.elapsed();
        let verdict = match self.scope(&graph, scenario.start).await? {
            Some((scope, accounts)) => {
                if let Some(history) = history(&accounts, scope.start(), self.history) {
                    self.send(&graph, "history", "history", &history).await?;
                }
                let begin = Instant::now();
                let (suspects, findings) = self.look(&graph, scope).await?;
                Verdict { events, suspects, findings, time: sent + begin.elapsed() }
            }
            None => Verdict { events, time: sent, ..Verdict::default() },
        };
        self.connection.membership_service().await?.delete_graph(DeleteGraphRequest { graph_arn: graph }).await?;
        Ok(verdict)
    }

    /// A graph in a region.
    ///
    /// # Errors
    /// [`Failure`] when the server fails.
    pub async fn create_graph(&self, region: &str) -> Result<String, Failure> {
        let request = CreateGraphRequest { region: region.to_owned(), ..CreateGraphRequest::default() };
        let graph = self.connection.membership_service().await?.create_graph(request).await?.into_inner().graph;
        graph.map(|graph| graph.arn).ok_or_else(|| Failure::Broken("a graph was created without an ARN".to_owned()))
    }

    /// Sends a log.
    ///
    /// # Errors
    /// [`Failure`] when the server fails.
    pub async fn send(&self, graph: &str, batch: &str, name: &str, bytes: &[u8]) -> Result<BatchResult, Failure> {
        let pieces = bytes.len().div_ceil(PIECE).max(1);
        let piece = |number: usize| StreamRecordsRequest {
            graph_arn: graph.to_owned(),
            piece: Some(RecordsPiece {
                batch_id: batch.to_owned(),
                source_object: name.to_owned(),
                data: bytes.chunks(PIECE).nth(number).unwrap_or_default().to_vec().into(),
                last: number + 1 == pieces,
                eks_cluster: String::new(),
            }),
        };
        let requests: Vec<_> = (0..pieces).map(piece).collect();
        let mut answers = self.connection.ingest_service().await?.stream_records(futures::stream::iter(requests)).await?.into_inner();
        answers.message().await?.and_then(|answer| answer.result).ok_or_else(Failure::broken_off)
    }

    /// The day that ends with the latest record, or all from `start` to it, and the accounts of the latest records; `None` if there is
    /// no record.
    async fn scope(&self, graph: &str, start: Option<Timestamp>) -> Result<Option<(TimeWindow, BTreeSet<String>)>, Failure> {
        let request = ListEventsRequest { graph_arn: graph.to_owned(), page_size: 1_000, omit_raw: true, ..ListEventsRequest::default() };
        let latest = self.connection.graph_service().await?.list_events(request).await?.into_inner().events;
        let accounts = latest.iter().map(|event| event.account_id.clone()).filter(|account| !account.is_empty()).collect();
        let latest = latest.first().and_then(|event| event.time.as_ref()).and_then(|time| time_from_proto("time", time).ok());
        let Some(latest) = latest else { return Ok(None) };
        let now = Timestamp::from_chrono(chrono::Utc::now()).unwrap_or(Timestamp::MAX);
        let end = latest.0.saturating_add(MICROS_PER_HOUR).min(now.0);
        let first = start.map_or(end - MICROS_PER_DAY, |start| start.0.min(end - MICROS_PER_DAY).max(end - MAX_SCOPE));
        Ok(TimeWindow::new(Timestamp(first), Timestamp(end)).ok().map(|scope| (scope, accounts)))
    }

    /// What an investigation of the whole graph says of its principals, and how many high findings of its own the graph has.
    async fn look(&self, graph: &str, scope: TimeWindow) -> Result<(Vec<Suspect>, u64), Failure> {
        let whole = StartInvestigationRequest { whole_graph: true, ..self.request(graph, scope) };
        let (found, indicators) = self.investigate(graph, whole).await?;
        let principals: Vec<EntityKey> = found.principals.iter().filter_map(|principal| principal.entity.clone()).collect();
        let risky = self.risky(graph, &principals, scope.end()).await?;
        let suspect = |(principal, risky): (gumshoe_api::investigation::v1::InvestigatedPrincipal, bool)| {
            let of_it = indicators.iter().filter(|indicator| indicator.principal == principal.entity);
            Some(Suspect {
                entity: entity_from_proto("entity", principal.entity.as_ref()).ok()?,
                techniques: of_it.filter_map(technique).collect(),
                points: principal.points,
                grave: is_grave(principal.severity()),
                risky,
            })
        };
        let suspects = found.principals.into_iter().zip(risky).filter_map(suspect).collect();
        Ok((suspects, u64::try_from(self.own_findings(graph, None).await?.len()).unwrap_or(u64::MAX)))
    }

    /// A request without what is to be investigated.
    pub fn request(&self, graph: &str, scope: TimeWindow) -> StartInvestigationRequest {
        let scope: TimeRange = window_to_proto(scope);
        StartInvestigationRequest { graph_arn: graph.to_owned(), scope: Some(scope), ..StartInvestigationRequest::default() }
    }

    /// Runs an investigation to its end.
    ///
    /// # Errors
    /// [`Failure`] when it fails.
    pub async fn investigate(&self, graph: &str, request: StartInvestigationRequest) -> Result<(GetInvestigationResponse, Vec<Indicator>), Failure> {
        let mut client = self.connection.investigation_service().await?;
        let id = client.start_investigation(request).await?.into_inner().investigation_id;
        let get = GetInvestigationRequest { graph_arn: graph.to_owned(), investigation_id: id.clone() };
        let found = loop {
            let found = client.get_investigation(get.clone()).await?.into_inner();
            match found.investigation.as_ref().map(gumshoe_api::investigation::v1::Investigation::status) {
                Some(InvestigationStatus::Running) => tokio::time::sleep(POLL).await,
                Some(InvestigationStatus::Successful) => break found,
                _ => return Err(Failure::Partial(format!("investigation {id} of {graph} has failed"))),
            }
        };
        let mut list = ListIndicatorsRequest { graph_arn: graph.to_owned(), investigation_id: id, page_size: 100, ..ListIndicatorsRequest::default() };
        let mut indicators = Vec::new();
        loop {
            let page = client.list_indicators(list.clone()).await?.into_inner();
            indicators.extend(page.indicators);
            list.page_token = page.next_page_token;
            if list.page_token.is_empty() {
                return Ok((found, indicators));
            }
        }
    }

    /// Whether each of the entities has a high or critical risk at a time.
    ///
    /// # Errors
    /// [`Failure`] when the server fails.
    pub async fn risky(&self, graph: &str, entities: &[EntityKey], time: Timestamp) -> Result<Vec<bool>, Failure> {
        let mut client = self.connection.graph_service().await?;
        let mut risky = Vec::with_capacity(entities.len());
        for some in entities.chunks(RISKS) {
            let request = BatchGetRiskRequest { graph_arn: graph.to_owned(), entities: some.to_vec(), time: Some(gumshoe_api::convert::time_to_proto(time)) };
            let risks = client.batch_get_risk(request).await?.into_inner().risks;
            risky.extend(risks.iter().map(|risk| matches!(risk.level.as_str(), "high" | "critical")));
        }
        Ok(risky)
    }

    /// Own findings of a high severity, at most 1000.
    ///
    /// # Errors
    /// [`Failure`] when the server fails.
    pub async fn own_findings(&self, graph: &str, scope: Option<TimeWindow>) -> Result<Vec<FindingSummary>, Failure> {
        let request = ListFindingsRequest {
            graph_arn: graph.to_owned(),
            scope: scope.map(window_to_proto),
            min_severity: HIGH,
            product_pattern: PRODUCT.to_owned(),
            page_size: 1_000,
            ..ListFindingsRequest::default()
        };
        Ok(self.connection.graph_service().await?.list_findings(request).await?.into_inner().findings)
    }
}

/// A record a day of somebody else in each account, up to a time, so that what is done afterwards can be new.
fn history(accounts: &BTreeSet<String>, end: Timestamp, days: u8) -> Option<Vec<u8>> {
    let record = |account: &String, day: u8| {
        let time = Timestamp(end.0.saturating_sub(i64::from(day) * MICROS_PER_DAY).max(0));
        json!({
            "eventVersion": "1.08", "eventTime": time.to_string(), "eventSource": "ec2.amazonaws.com", "eventName": "DescribeRegions",
            "eventID": format!("history-{account}-{day}"), "eventType": "AwsApiCall", "awsRegion": "us-east-1", "recipientAccountId": account,
            "sourceIPAddress": "192.0.2.1", "userAgent": "history", "readOnly": true,
            "userIdentity": {
                "type": "IAMUser", "principalId": "AIDAHISTORY", "arn": format!("arn:aws:iam::{account}:user/history"), "accountId": account, "userName": "history",
            },
        })
    };
    let records: Vec<Value> = accounts.iter().flat_map(|account| (1..=days).map(move |day| record(account, day))).collect();
    if records.is_empty() { None } else { serde_json::to_vec(&json!({ "Records": records })).ok() }
}

/// Whether a severity is an alarm.
pub fn is_grave(severity: InvestigationSeverity) -> bool {
    matches!(severity, InvestigationSeverity::High | InvestigationSeverity::Critical)
}

fn technique(indicator: &Indicator) -> Option<String> {
    match &indicator.detail {
        Some(Detail::TtpsObserved(ttps)) if indicator.r#type() == IndicatorType::TtpObserved => Some(ttps.technique.clone()),
        _ => None,
    }
}
