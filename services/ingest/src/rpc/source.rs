//! A source's settings: checked when they come in, given back as they were taken.

use std::time::Duration;

use gumshoe_api::{convert, ingest::v1 as api};
use gumshoe_model::{GraphArn, Timestamp};
use url::Url;

use crate::{
    bucket::Bucket,
    config,
    error::Error,
    rpc::receive::result,
    store::{Counts, Object, ObjectState, Progress, Settings, Source},
};

const MAX_URL_BYTES: usize = 1024;
const MAX_INTERVAL: Duration = Duration::from_secs(366 * 86_400);

/// A new source.
///
/// # Errors
/// [`Error::Field`] when the name or a setting cannot be used.
pub fn new(graph: GraphArn, name: &str, settings: Option<api::SourceSettings>, config: &config::Sources, now: Timestamp) -> Result<Source, Error> {
    check_name(name)?;
    let settings = check(settings.ok_or_else(|| Error::field("settings", "is required"))?, config)?;
    Ok(Source {
        graph,
        name: name.to_owned(),
        id: uuid::Uuid::now_v7().to_string(),
        settings,
        create_time: now,
        last_list_time: None,
        last_error: String::new(),
    })
}

/// Checks a source's name.
///
/// # Errors
/// [`Error::Field`].
pub fn check_name(name: &str) -> Result<(), Error> {
    let valid = (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if valid { Ok(()) } else { Err(Error::field("name", "must be 1 to 64 letters, digits, `-` or `_`")) }
}

fn check(settings: api::SourceSettings, config: &config::Sources) -> Result<Settings, Error> {
    let poll = Duration::from_secs(config.poll_seconds);
    let poll_interval = duration("settings.poll_interval", settings.poll_interval.as_ref(), Duration::from_secs(1), poll)?;
    let lookback = Duration::from_secs(config.lookback_hours.saturating_mul(3_600));
    let lookback = duration("settings.lookback", settings.lookback.as_ref(), Duration::ZERO, lookback)?;
    for (field, value) in [
        ("settings.url", &settings.url),
        ("settings.sqs_queue_url", &settings.sqs_queue_url),
        ("settings.endpoint_url", &settings.endpoint_url),
        ("settings.eks_cluster", &settings.eks_cluster),
    ] {
        if value.len() > MAX_URL_BYTES {
            return Err(Error::field(field, format!("must be at most {MAX_URL_BYTES} bytes")));
        }
    }
    let region = &settings.region;
    if region.len() > 32 || !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(Error::field("settings.region", "must be a region such as `us-east-1`"));
    }
    if !settings.sqs_queue_url.is_empty() {
        let queue = Url::parse(&settings.sqs_queue_url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        if queue.is_none() || !settings.url.starts_with("s3://") {
            return Err(Error::field("settings.sqs_queue_url", "must be the URL of a queue, of an `s3://` source"));
        }
    }
    if !settings.endpoint_url.is_empty() {
        let endpoint = Url::parse(&settings.endpoint_url).map_err(|_| Error::field("settings.endpoint_url", "must be a URL"))?;
        // Otherwise whoever may create sources could make this service call any host in its network.
        let allowed = config.s3.allowed_endpoints.iter().chain(&config.s3.endpoint_url).any(|allowed| *allowed == endpoint);
        if !allowed {
            return Err(Error::field("settings.endpoint_url", "is not among the endpoints that the operator allows"));
        }
    }
    let settings = Settings {
        url: settings.url,
        poll_interval,
        lookback,
        sqs_queue_url: settings.sqs_queue_url,
        region: settings.region,
        endpoint_url: settings.endpoint_url,
        eks_cluster: settings.eks_cluster,
    };
    Bucket::open(&settings, config).map_err(|reason| Error::field("settings.url", reason))?;
    Ok(settings)
}

fn duration(field: &str, value: Option<&prost_types::Duration>, least: Duration, default: Duration) -> Result<Duration, Error> {
    let Some(value) = value else { return Ok(default) };
    let seconds = u64::try_from(value.seconds).ok();
    let nanos = u32::try_from(value.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    seconds
        .zip(nanos)
        .map(|(seconds, nanos)| Duration::new(seconds, nanos / 1_000 * 1_000))
        .filter(|duration| (least..=MAX_INTERVAL).contains(duration))
        .ok_or_else(|| Error::field(field, format!("must be between {} and {} seconds", least.as_secs(), MAX_INTERVAL.as_secs())))
}

/// A source with its progress as a message.
pub(crate) fn to_proto(source: &Source, progress: &[Progress], now: Timestamp) -> api::Source {
    let settings = &source.settings;
    api::Source {
        name: source.name.clone(),
        settings: Some(api::SourceSettings {
            url: settings.url.clone(),
            poll_interval: Some(duration_to_proto(settings.poll_interval)),
            lookback: Some(duration_to_proto(settings.lookback)),
            sqs_queue_url: settings.sqs_queue_url.clone(),
            region: settings.region.clone(),
            endpoint_url: settings.endpoint_url.clone(),
            eks_cluster: settings.eks_cluster.clone(),
        }),
        create_time: Some(convert::time_to_proto(source.create_time)),
        last_list_time: source.last_list_time.map(convert::time_to_proto),
        last_error: source.last_error.clone(),
        progress: progress.iter().map(|progress| progress_to_proto(progress, now)).collect(),
    }
}

fn progress_to_proto(progress: &Progress, now: Timestamp) -> api::SourceProgress {
    let lag = progress.oldest_to_do.map_or(0, |oldest| now.0.saturating_sub(oldest.0).max(0));
    let Counts { records, events, duplicates, dead_letters, bytes, .. } = progress.counts;
    api::SourceProgress {
        account_id: progress.account.clone(),
        region: progress.region.clone(),
        seen: progress.seen,
        done: progress.done,
        failed: progress.failed,
        records,
        events,
        duplicates,
        dead_letters,
        bytes,
        newest_object_time: Some(convert::time_to_proto(progress.newest)),
        lag: Some(duration_to_proto(Duration::from_micros(lag.unsigned_abs()))),
        gaps: progress.gaps.iter().copied().map(convert::window_to_proto).collect(),
    }
}

fn duration_to_proto(duration: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX), nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0) }
}

/// A row of the ledger as a message.
pub(crate) fn object_to_proto(object: Object) -> api::SourceObject {
    let state = match object.state {
        ObjectState::Seen => api::ObjectState::Seen,
        ObjectState::Done => api::ObjectState::Done,
        ObjectState::Failed => api::ObjectState::Failed,
    };
    let done = object.finish_time.filter(|_| object.state == ObjectState::Done);
    api::SourceObject {
        key: object.key,
        etag: object.etag,
        size: object.size,
        state: state.into(),
        failure: object.failure,
        attempts: object.attempts,
        modify_time: Some(convert::time_to_proto(object.modify_time)),
        seen_time: Some(convert::time_to_proto(object.seen_time)),
        done_time: done.map(convert::time_to_proto),
        result: Some(result(object.id, &object.counts)),
    }
}
