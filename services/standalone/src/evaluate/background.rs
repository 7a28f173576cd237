//! Benign logs, generated, and the false alarms in their last day.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use gumshoe_api::{
    common::v1::{EntityKey, EntityType},
    convert::entity_from_proto,
    graph::v1::SearchEntitiesRequest,
    investigation::v1::StartInvestigationRequest,
};
use gumshoe_investigation::investigation::Subject;
use gumshoe_model::{TimeWindow, Timestamp, time::MICROS_PER_DAY};
use serde::Serialize;

use super::{
    BACKGROUND_REGION,
    judge::{Judge, is_grave},
};
use crate::{
    arguments::Evaluate,
    generate::{Amount, Kind, Options, run as generate},
    rpc::Failure,
};

/// 2026-01-05, a Monday.
const START: u64 = 1_767_571_200;
/// Files sent, and investigations run, at the same time.
const AT_ONCE: usize = 4;

/// What was found in the background.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Background {
    /// Events in the graph.
    pub events: u64,
    /// Events of the day that was looked at.
    pub events_of_the_day: u64,
    /// Principals whose risk was asked for.
    pub principals: u64,
    /// Those of them that were investigated.
    pub investigated: u64,
    /// Alarms, in words.
    pub alarms: Vec<String>,
    /// Seconds from the first byte to the last answer.
    pub seconds: f64,
}

/// Generates, sends and looks.
pub async fn run(arguments: &Evaluate, judge: &Judge<'_>, folder: &Path) -> Result<Background, Failure> {
    let options = Options {
        kind: Kind::Mixed,
        amount: Amount::Records(arguments.background),
        seed: arguments.seed,
        out: folder.to_owned(),
        gzip: false,
        file_size: None,
        start: START,
        days: arguments.background_days,
        minutes_per_file: None,
        attack: false,
    };
    let made = tokio::task::spawn_blocking(move || generate(&options, &|_| {})).await.map_err(|error| Failure::Broken(error.to_string()))?;
    made.map_err(|source| Failure::File { action: "write", path: folder.to_owned(), source })?;
    let begin = Instant::now();
    let graph = judge.create_graph(BACKGROUND_REGION).await?;
    let mut files = Vec::new();
    walk(folder, &mut files)?;
    let graph_arn = graph.as_str();
    let send = |path: PathBuf| async move {
        let bytes = tokio::fs::read(&path).await.map_err(|source| Failure::File { action: "read", path: path.clone(), source })?;
        let name = path.display().to_string();
        // Names are as long as a batch's id may be, at most.
        let batch = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        judge.send(graph_arn, &batch, &name, &bytes).await.map(|batch| batch.events)
    };
    let events = stream::iter(files.into_iter().map(send)).buffer_unordered(AT_ONCE).try_fold(0_u64, |sum, events| async move { Ok(sum + events) }).await?;

    let end = i64::try_from(START).unwrap_or(0) * 1_000_000 + i64::try_from(arguments.background_days).unwrap_or(0) * MICROS_PER_DAY;
    let scope = TimeWindow::new(Timestamp(end - MICROS_PER_DAY), Timestamp(end)).map_err(|error| Failure::Broken(error.to_string()))?;
    let principals = principals(judge, graph_arn).await?;
    let mut alarms = Vec::new();
    let risky = judge.risky(graph_arn, &principals, scope.end()).await?;
    let (mut first, mut others): (Vec<EntityKey>, Vec<EntityKey>) = (Vec::new(), Vec::new());
    for (entity, risky) in principals.iter().zip(risky) {
        if risky {
            alarms.push(format!("risk of {}", entity.id));
        }
        // Records name users and roles that are none, such as patterns of them.
        if entity_from_proto("entity", Some(entity)).is_ok_and(|entity| Subject::of(entity).is_ok()) {
            (if risky { &mut first } else { &mut others }).push(entity.clone());
        }
    }
    // Spread over all of them, as they come by type and name.
    let wanted = usize::try_from(arguments.principals).unwrap_or(usize::MAX).saturating_sub(first.len());
    let wanted = wanted.min(others.len());
    first.extend((0..wanted).filter_map(|number| others.get(number * others.len() / wanted).cloned()));
    let investigated = u64::try_from(first.len()).unwrap_or(u64::MAX);
    let investigate = |entity: EntityKey| async move {
        let request = StartInvestigationRequest { entity: Some(entity.clone()), ..judge.request(graph_arn, scope) };
        let (found, _) = judge.investigate(graph_arn, request).await?;
        let grave = found.investigation.as_ref().is_some_and(|found| is_grave(found.severity()));
        let why: Vec<_> = found.reasons.iter().map(|reason| format!("{} {}", reason.points, reason.description)).collect();
        Ok::<_, Failure>(grave.then(|| format!("investigation of {}: {}", entity.id, why.join("; "))))
    };
    let found: Vec<Option<String>> = stream::iter(first.into_iter().map(investigate)).buffer_unordered(AT_ONCE).try_collect().await?;
    alarms.extend(found.into_iter().flatten());
    alarms.extend(judge.own_findings(graph_arn, None).await?.into_iter().map(|finding| format!("finding {}: {}", finding.r#type, finding.id)));
    Ok(Background {
        events,
        events_of_the_day: events / arguments.background_days.max(1),
        principals: u64::try_from(principals.len()).unwrap_or(u64::MAX),
        investigated,
        alarms,
        seconds: begin.elapsed().as_secs_f64(),
    })
}

/// Everybody in the graph but sessions, which are their roles.
async fn principals(judge: &Judge<'_>, graph: &str) -> Result<Vec<EntityKey>, Failure> {
    let types = [EntityType::User, EntityType::Role, EntityType::Root, EntityType::FederatedUser, EntityType::KubernetesSubject];
    let mut request = SearchEntitiesRequest {
        graph_arn: graph.to_owned(),
        text: "*".to_owned(),
        types: types.map(i32::from).to_vec(),
        page_size: 1_000,
        page_token: String::new(),
    };
    let mut client = judge.connection.graph_service().await?;
    let mut principals = Vec::new();
    loop {
        let page = client.search_entities(request.clone()).await?.into_inner();
        principals.extend(page.entities.into_iter().filter_map(|found| found.entity));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok(principals);
        }
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |source| Failure::File { action: "read", path: folder.to_owned(), source };
    let mut paths = std::fs::read_dir(folder).map_err(failed)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    paths.sort();
    for path in paths {
        if path.is_dir() { walk(&path, files)? } else { files.push(path) }
    }
    Ok(())
}
