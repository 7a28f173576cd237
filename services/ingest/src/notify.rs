//! Notifications of new objects, out of an SQS queue.
//!
//! They make ingestion quick; listing goes on beside them, so that a lost one loses nothing. A message is deleted once
//! its objects are in the ledger.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_sqs::{
    Client,
    config::{Credentials, Region},
    types::{Message, MessageSystemAttributeName},
};
use gumshoe_model::Timestamp;
use gumshoe_runtime::{Clock as _, SystemClock, status::Chain};
use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::{
    bucket::{Bucket, Listed, endpoint, plain_etag},
    config,
    discover::{Discovery, is_log},
    error::Error,
    store::{Settings, Source},
};

/// How long SQS holds a request open for messages to come, its longest.
const WAIT_SECONDS: i32 = 20;
const MESSAGES: i32 = 10;
/// The pause after the queue has failed.
const PAUSE: Duration = Duration::from_secs(5);

/// An object that a notification names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Notice {
    bucket: String,
    key: String,
    /// Empty if the notification does not say.
    etag: String,
    size: u64,
    time: Option<Timestamp>,
}

/// The queue of a source.
pub(crate) struct Queue<'s> {
    pub(crate) source: &'s Source,
    pub(crate) bucket: &'s Bucket,
    pub(crate) discovery: &'s Discovery,
    pub(crate) config: &'s config::Sources,
}

impl Queue<'_> {
    /// Receives notifications for ever; calls `wake` when objects may have been added.
    pub(crate) async fn run(&self, wake: impl Fn()) {
        let client = client(&self.source.settings, self.config).await;
        loop {
            let received = client
                .receive_message()
                .queue_url(&self.source.settings.sqs_queue_url)
                .max_number_of_messages(MESSAGES)
                .wait_time_seconds(WAIT_SECONDS)
                .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
                .send()
                .await;
            let messages = match received {
                Ok(received) => received.messages.unwrap_or_default(),
                Err(error) => {
                    tracing::warn!(source = self.source.name, error = %Chain(&error), "the queue does not answer");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            for message in messages {
                if self.take(&message).await
                    && let Some(receipt) = &message.receipt_handle
                    && let Err(error) = client.delete_message().queue_url(&self.source.settings.sqs_queue_url).receipt_handle(receipt).send().await
                {
                    // It comes again, and its objects are known then.
                    tracing::warn!(source = self.source.name, error = %Chain(&error), "a notification cannot be deleted");
                }
            }
            wake();
        }
    }

    /// Adds the objects that a message names to the ledger. Whether the message has served its purpose.
    async fn take(&self, message: &Message) -> bool {
        let body = message.body.as_deref().unwrap_or_default();
        let notices = match parse(body) {
            Ok(notices) => notices,
            Err(reason) => {
                let receives = message
                    .attributes
                    .as_ref()
                    .and_then(|attributes| attributes.get(&MessageSystemAttributeName::ApproximateReceiveCount))
                    .and_then(|count| count.parse().ok())
                    .unwrap_or(1_u32);
                let delete = receives >= self.config.notification_receives;
                tracing::warn!(source = self.source.name, message_id = message.message_id, receives, delete, reason, "a notification cannot be read");
                return delete;
            }
        };
        match self.add(notices).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(source = self.source.name, error = %Chain(&error), "a notification is left in the queue");
                false
            }
        }
    }

    async fn add(&self, notices: Vec<Notice>) -> Result<(), Error> {
        let Bucket::S3 { bucket, prefix, .. } = self.bucket else { return Ok(()) };
        let now = SystemClock.now();
        let mut objects = Vec::new();
        for notice in notices.into_iter().filter(|notice| notice.bucket == *bucket && notice.key.starts_with(prefix) && is_log(&notice.key)) {
            // A notification that tells no etag does not tell the object's state; of one that is gone, only its name is left.
            let present = if notice.etag.is_empty() { self.bucket.head(&notice.key).await.map_err(Error::Listing)? } else { None };
            objects.push(present.unwrap_or(Listed { key: notice.key, etag: notice.etag, size: notice.size.max(1), modify_time: notice.time.unwrap_or(now) }));
        }
        self.discovery.add(self.source, objects, now).await
    }
}

async fn client(settings: &Settings, config: &config::Sources) -> Client {
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(region) = Some(&settings.region).filter(|region| !region.is_empty()).or(config.s3.region.as_ref()) {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = endpoint(settings, config) {
        loader = loader.endpoint_url(endpoint);
    }
    if let (Some(id), Some(secret)) = (&config.s3.access_key_id, &config.s3.secret_access_key) {
        let credentials = Credentials::builder().access_key_id(id).secret_access_key(secret.expose_secret()).provider_name("configuration").build();
        loader = loader.credentials_provider(credentials);
    }
    Client::new(&loader.load().await)
}

/// The objects that a message names: S3's own notifications, EventBridge's, CloudTrail's, each also wrapped by SNS.
/// S3's test message names none.
fn parse(body: &str) -> Result<Vec<Notice>, String> {
    let value: Value = serde_json::from_str(body).map_err(|error| format!("not JSON: {error}"))?;
    let value = match value.get("Message") {
        Some(Value::String(inner)) if value.get("TopicArn").is_some() => {
            serde_json::from_str(inner).map_err(|error| format!("its message is not JSON: {error}"))?
        }
        _ => value,
    };
    if value.get("Event").and_then(Value::as_str) == Some("s3:TestEvent") {
        return Ok(Vec::new());
    }
    if let Some(records) = value.get("Records").and_then(Value::as_array) {
        return records.iter().filter(|record| text(record, "/eventName").is_none_or(is_creation)).map(s3_notice).collect();
    }
    if let Some(keys) = value.get("s3ObjectKey").and_then(Value::as_array) {
        let bucket = text(&value, "/s3Bucket").ok_or("no bucket")?;
        let notice = |key: &Value| {
            let key = key.as_str().ok_or("a key is not a text")?;
            Ok(Notice { bucket: bucket.to_owned(), key: key.to_owned(), etag: String::new(), size: 0, time: None })
        };
        return keys.iter().map(notice).collect();
    }
    if text(&value, "/source") == Some("aws.s3") {
        if text(&value, "/detail-type") != Some("Object Created") {
            return Ok(Vec::new());
        }
        return notice(&value, "/detail/bucket/name", "/detail/object", "/etag", "/time", false).map(|notice| vec![notice]);
    }
    Err("not a notification of S3".to_owned())
}

fn is_creation(event: &str) -> bool {
    event.trim_start_matches("s3:").starts_with("ObjectCreated:")
}

fn s3_notice(record: &Value) -> Result<Notice, String> {
    notice(record, "/s3/bucket/name", "/s3/object", "/eTag", "/eventTime", true)
}

fn notice(value: &Value, bucket: &str, object: &str, etag: &str, time: &str, encoded: bool) -> Result<Notice, String> {
    let bucket = text(value, bucket).ok_or("no bucket")?;
    let key = text(value, &format!("{object}/key")).filter(|key| !key.is_empty()).ok_or("no key")?;
    let key = if encoded { percent_decode_str(&key.replace('+', " ")).decode_utf8().map_err(|_| "a key is not UTF-8")?.into_owned() } else { key.to_owned() };
    Ok(Notice {
        bucket: bucket.to_owned(),
        key,
        etag: plain_etag(text(value, &format!("{object}{etag}")).unwrap_or_default()),
        size: value.pointer(&format!("{object}/size")).and_then(Value::as_u64).unwrap_or(0),
        time: text(value, time).and_then(|time| Timestamp::parse(time).ok()),
    })
}

fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S3: &str = r#"{"Records":[
        {"eventName":"ObjectCreated:Put","eventTime":"2024-07-30T21:31:10.000Z","s3":{"bucket":{"name":"logs"},"object":{"key":"a+b/c%2Bd%C3%A9.json","size":5,"eTag":"e1"}}},
        {"eventName":"ObjectRemoved:Delete","s3":{"bucket":{"name":"logs"},"object":{"key":"gone"}}},
        {"eventName":"s3:ObjectCreated:CompleteMultipartUpload","s3":{"bucket":{"name":"logs"},"object":{"key":"x","eTag":"\"e2-3\""}}}]}"#;

    fn names(body: &str) -> Vec<(String, String)> {
        parse(body).unwrap().into_iter().map(|notice| (notice.key, notice.etag)).collect()
    }

    #[test]
    fn every_wrapping_of_a_notification_is_read() {
        let expected = vec![("a b/c+dé.json".to_owned(), "e1".to_owned()), ("x".to_owned(), "e2-3".to_owned())];
        assert_eq!(names(S3), expected);
        let sns = serde_json::json!({"Type": "Notification", "TopicArn": "arn:aws:sns:us-east-1:1:t", "Message": S3}).to_string();
        assert_eq!(names(&sns), expected);
        let event_bridge = r#"{"source":"aws.s3","detail-type":"Object Created","time":"2024-07-30T21:31:10Z",
            "detail":{"bucket":{"name":"logs"},"object":{"key":"a+b%20","size":1,"etag":"e3"}}}"#;
        assert_eq!(names(event_bridge), [("a+b%20".to_owned(), "e3".to_owned())]);
        assert_eq!(names(r#"{"s3Bucket":"logs","s3ObjectKey":["k1","k2"]}"#), [("k1".to_owned(), String::new()), ("k2".to_owned(), String::new())]);
        assert_eq!(parse(S3).unwrap()[0].time, Some(Timestamp::parse("2024-07-30T21:31:10Z").unwrap()));
    }

    #[test]
    fn test_messages_name_nothing_and_garbage_is_refused() {
        assert_eq!(names(r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2014-10-13T15:57:02.089Z","Bucket":"logs"}"#), []);
        assert_eq!(names(r#"{"source":"aws.s3","detail-type":"Object Deleted","detail":{}}"#), []);
        for bad in [
            "",
            "garbage",
            "[]",
            "{}",
            "{\"Records\":[{}]}",
            "{\"Records\":[{\"s3\":{\"bucket\":{\"name\":\"b\"},\"object\":{\"key\":\"%ff\"}}}]}",
            "{\"TopicArn\":\"t\",\"Message\":\"x\"}",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
