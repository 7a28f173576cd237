//! `sources`: what the server pulls from, and how far it is.

use std::time::Duration;

use gumshoe_api::ingest::v1::{
    CreateSourceRequest, DeleteSourceRequest, ListSourceObjectsRequest, ListSourceObjectsResponse, ListSourcesRequest, ListSourcesResponse,
    ObjectState as State, Source, SourceSettings, SyncSourceRequest, SyncSourceResponse,
};
use url::Url;

use super::{Session, next_page};
use crate::{
    arguments::{AddSource, ObjectState, Sources},
    output::{Rows, note},
    progress::Progress,
    quantity::{show_bytes, show_count, show_duration},
    rpc::{Failure, message},
};

pub async fn sources(session: &Session, command: Option<Sources>) -> Result<(), Failure> {
    let graph_arn = session.connection.graph().await?;
    match command.unwrap_or(Sources::List) {
        Sources::List => list(session, graph_arn).await,
        Sources::Add(source) => add(session, graph_arn, source).await,
        Sources::Sync { name } => sync(session, SyncSourceRequest { graph_arn, name }).await,
        Sources::Objects { name, state, limit } => objects(session, graph_arn, name, state, limit).await,
        Sources::Remove { name } => {
            session.connection.ingest_service().await?.delete_source(DeleteSourceRequest { graph_arn, name: name.clone() }).await?;
            if session.output.is_json() {
                return session.output.json(&serde_json::json!({ "removed": name }));
            }
            session.output.line(&format!("removed {name}; what it brought in stays in the graph"))
        }
    }
}

async fn list(session: &Session, graph_arn: String) -> Result<(), Failure> {
    let mut client = session.connection.ingest_service().await?;
    let mut all = ListSourcesResponse::default();
    loop {
        let request = ListSourcesRequest { graph_arn: graph_arn.clone(), page_size: 200, page_token: all.next_page_token.clone() };
        let page = client.list_sources(request).await?.into_inner();
        all.sources.extend(page.sources);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.ingest.v1.ListSourcesResponse", &all);
    }
    print(session, &all.sources)
}

fn print(session: &Session, sources: &[Source]) -> Result<(), Failure> {
    let mut rows = Rows::new(&["name", "url", "created", "last listed", "last error"]);
    for source in sources {
        let url = source.settings.as_ref().map(|settings| settings.url.clone()).unwrap_or_default();
        rows.add([
            source.name.clone(),
            url,
            message::time(source.create_time.as_ref()),
            message::time(source.last_list_time.as_ref()),
            source.last_error.clone(),
        ]);
    }
    session.output.table(&rows)?;
    for source in sources {
        let mut rows =
            Rows::new(&["account", "region", "#objects", "#done", "#failed", "#records", "#events", "#duplicates", "#dead letters", "#bytes", "lag", "gaps"]);
        for part in &source.progress {
            let gaps: Vec<String> = part.gaps.iter().take(3).map(|gap| message::range(Some(gap))).collect();
            let more = if part.gaps.len() > 3 { format!(" and {} more", part.gaps.len() - 3) } else { String::new() };
            let lag = message::seconds(part.lag.as_ref());
            rows.add([
                part.account_id.clone(),
                part.region.clone(),
                show_count(part.seen),
                show_count(part.done),
                show_count(part.failed),
                show_count(part.records),
                show_count(part.events),
                show_count(part.duplicates),
                show_count(part.dead_letters),
                show_bytes(part.bytes),
                if lag == Duration::ZERO { "none".to_owned() } else { show_duration(lag) },
                gaps.join(", ") + &more,
            ]);
        }
        session.output.section(&source.name, &rows)?;
    }
    Ok(())
}

/// A URL as it is, or that of a folder that is here.
fn url(text: &str) -> Result<String, Failure> {
    if Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "file" | "s3")) {
        return Ok(text.to_owned());
    }
    if text.contains("://") {
        return Err(Failure::Usage(format!("`{text}`: expected a folder, `file:///…` or `s3://bucket/prefix`")));
    }
    let path = std::fs::canonicalize(text).map_err(|source| Failure::File { action: "read", path: text.into(), source })?;
    Url::from_directory_path(&path).map(|url| url.to_string()).map_err(|()| Failure::Usage(format!("`{text}` is not a folder")))
}

async fn add(session: &Session, graph_arn: String, source: AddSource) -> Result<(), Failure> {
    let settings = SourceSettings {
        url: url(&source.url)?,
        poll_interval: source.poll_interval.map(message::duration),
        lookback: source.lookback.map(message::duration),
        sqs_queue_url: source.sqs_queue_url,
        region: source.region,
        endpoint_url: source.endpoint_url,
        eks_cluster: source.eks_cluster,
    };
    let request = CreateSourceRequest { graph_arn, name: source.name, settings: Some(settings) };
    let created = session.connection.ingest_service().await?.create_source(request).await?.into_inner();
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.ingest.v1.CreateSourceResponse", &created);
    }
    print(session, created.source.as_slice())
}

async fn sync(session: &Session, request: SyncSourceRequest) -> Result<(), Failure> {
    let name = request.name.clone();
    let mut stream = session.connection.ingest_service().await?.sync_source(request).await?.into_inner();
    let progress = Progress::new(0, "syncing");
    let mut last = SyncSourceResponse::default();
    while let Some(update) = stream.message().await? {
        progress.total(update.stored_bytes_total);
        progress.at(update.stored_bytes_finished, update.totals.as_ref().map_or(0, |totals| totals.records));
        last = update;
    }
    let elapsed = progress.finish();
    if !last.complete {
        return Err(Failure::Partial(format!("the server ended the pull of {name} early; it goes on in the background")));
    }
    if session.output.is_json() {
        message::print(session.output, "gumshoe.ingest.v1.SyncSourceResponse", &last)?;
    } else {
        let totals = last.totals.clone().unwrap_or_default();
        let mut rows = Rows::new(&["#objects", "#failed", "#records", "#events", "#duplicates", "#dead letters", "#bytes", "#time"]);
        rows.add([
            show_count(last.objects_finished),
            show_count(last.objects_failed),
            show_count(totals.records),
            show_count(totals.events),
            show_count(totals.duplicates),
            show_count(totals.dead_letters),
            show_bytes(totals.bytes),
            show_duration(elapsed),
        ]);
        session.output.table(&rows)?;
    }
    if last.objects_failed > 0 {
        return Err(Failure::Partial(format!(
            "{} objects failed and are tried again: see `gumshoe sources objects {name} --state failed`",
            last.objects_failed
        )));
    }
    Ok(())
}

async fn objects(session: &Session, graph_arn: String, name: String, state: Option<ObjectState>, limit: u32) -> Result<(), Failure> {
    let state = match state {
        None => State::Unspecified,
        Some(ObjectState::Seen) => State::Seen,
        Some(ObjectState::Done) => State::Done,
        Some(ObjectState::Failed) => State::Failed,
    };
    let mut client = session.connection.ingest_service().await?;
    let mut all = ListSourceObjectsResponse::default();
    while let Some(page_size) = next_page(limit, all.objects.len()) {
        let request = ListSourceObjectsRequest {
            graph_arn: graph_arn.clone(),
            name: name.clone(),
            state: state.into(),
            page_size,
            page_token: all.next_page_token.clone(),
        };
        let page = client.list_source_objects(request).await?.into_inner();
        all.objects.extend(page.objects);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.ingest.v1.ListSourceObjectsResponse", &all);
    }
    let mut rows = Rows::new(&["key", "state", "#size", "#tries", "#records", "#dead letters", "done", "failure"]);
    for object in &all.objects {
        let state = match State::try_from(object.state) {
            Ok(State::Seen) => "seen",
            Ok(State::Done) => "done",
            Ok(State::Failed) => "failed",
            Ok(State::Unspecified) | Err(_) => "",
        };
        let result = object.result.clone().unwrap_or_default();
        rows.add([
            object.key.clone(),
            state.to_owned(),
            show_bytes(object.size),
            object.attempts.to_string(),
            show_count(result.records),
            show_count(result.dead_letters),
            message::time(object.done_time.as_ref()),
            object.failure.clone(),
        ]);
    }
    session.output.table(&rows)?;
    if !all.next_page_token.is_empty() {
        note(&format!("there are more than {limit}; see --limit"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_become_urls() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().to_str().unwrap();
        assert!(url(text).unwrap().starts_with("file:///"));
        assert_eq!(url("s3://bucket/prefix").unwrap(), "s3://bucket/prefix");
        assert!(url("https://example.com/x").is_err());
        assert!(url("/no/such/folder").is_err());
    }
}
