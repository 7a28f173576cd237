//! Messages of the API as JSON, and the small conversions that printing and asking need.

use std::io::{self, Write as _};

use chrono::SecondsFormat;
use gumshoe_api::common::v1 as common;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};

use super::Failure;
use crate::output::{Output, safe_json};

/// Prints a message, named `gumshoe.graph.v1.Risk` and the like, as JSON.
///
/// # Errors
/// When standard output is gone.
pub fn print(output: Output, name: &str, message: &impl Message) -> Result<(), Failure> {
    output.json_text(&to_json(&descriptor(name)?, message, true)?)
}

/// A message as JSON, for a document of several.
///
/// # Errors
/// When the API has no such message.
pub fn value(name: &str, message: &impl Message) -> Result<serde_json::Value, Failure> {
    serde_json::from_str(&to_json(&descriptor(name)?, message, false)?).map_err(|error| Failure::Broken(error.to_string()))
}

/// Writes messages of one kind as JSON lines, buffered.
pub struct Lines {
    out: io::BufWriter<io::StdoutLock<'static>>,
    descriptor: MessageDescriptor,
}

impl Lines {
    /// Lines of messages with a name.
    ///
    /// # Errors
    /// When the API has no such message.
    pub fn new(name: &str) -> Result<Self, Failure> {
        Ok(Self { descriptor: descriptor(name)?, out: io::BufWriter::with_capacity(1 << 16, io::stdout().lock()) })
    }

    /// Writes one line.
    ///
    /// # Errors
    /// When standard output is gone.
    pub fn write(&mut self, message: &impl Message) -> Result<(), Failure> {
        let text = to_json(&self.descriptor, message, false)?;
        self.out.write_all(safe_json(&text).as_bytes()).and_then(|()| self.out.write_all(b"\n")).map_err(Failure::output)
    }

    /// Shows what was written so far.
    ///
    /// # Errors
    /// When standard output is gone.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::output)
    }

    /// Writes what is still buffered.
    ///
    /// # Errors
    /// When standard output is gone.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::output)
    }
}

/// A time in UTC, to the second; empty for none.
pub fn time(time: Option<&prost_types::Timestamp>) -> String {
    let time = time.and_then(|time| chrono::DateTime::from_timestamp(time.seconds, 0));
    time.map_or_else(String::new, |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// A time range in UTC: `2026-01-05T08:00:00Z to 2026-01-06T08:00:00Z`.
pub fn range(range: Option<&common::TimeRange>) -> String {
    range.map_or_else(String::new, |range| format!("{} to {}", time(range.start_time.as_ref()), time(range.end_time.as_ref())))
}

/// A duration to ask with.
pub fn duration(duration: std::time::Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX), nanos: 0 }
}

/// A duration that was answered.
pub fn seconds(duration: Option<&prost_types::Duration>) -> std::time::Duration {
    std::time::Duration::from_secs(duration.and_then(|duration| u64::try_from(duration.seconds).ok()).unwrap_or(0))
}

/// An entity as `type:id`; empty for none.
pub fn entity(entity: Option<&common::EntityKey>) -> String {
    entity.map_or_else(String::new, |entity| format!("{}:{}", entity_type(entity.r#type), entity.id))
}

/// The name of an entity type.
pub fn entity_type(number: i32) -> &'static str {
    gumshoe_api::convert::entity_type_from_proto(number).map_or("unknown", gumshoe_model::EntityType::as_str)
}

fn descriptor(name: &str) -> Result<MessageDescriptor, Failure> {
    let pool = DescriptorPool::decode(gumshoe_api::FILE_DESCRIPTOR_SET).map_err(|error| Failure::Broken(error.to_string()))?;
    pool.get_message_by_name(name).ok_or_else(|| Failure::Broken(format!("the API has no message `{name}`")))
}

fn to_json(descriptor: &MessageDescriptor, message: &impl Message, pretty: bool) -> Result<String, Failure> {
    let broken = |error: &dyn std::fmt::Display| Failure::Broken(error.to_string());
    let dynamic = DynamicMessage::decode(descriptor.clone(), message.encode_to_vec().as_slice()).map_err(|error| broken(&error))?;
    let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false).skip_default_fields(false);
    let mut out = Vec::new();
    let result = if pretty {
        dynamic.serialize_with_options(&mut serde_json::Serializer::pretty(&mut out), &options)
    } else {
        dynamic.serialize_with_options(&mut serde_json::Serializer::new(&mut out), &options)
    };
    result.map_err(|error| broken(&error))?;
    String::from_utf8(out).map_err(|error| broken(&error))
}

#[cfg(test)]
mod tests {
    use gumshoe_api::{common::v1::EntityKey, graph::v1::Risk};

    use super::*;

    #[test]
    fn messages_become_json_that_says_the_same() {
        let time = Some(prost_types::Timestamp { seconds: 1_767_571_200, nanos: 0 });
        let risk = Risk { entity: Some(EntityKey { r#type: 9, id: "evil\u{202e}\u{1b}".to_owned() }), score: 12.5, time, ..Risk::default() };
        let text = safe_json(&to_json(&descriptor("gumshoe.graph.v1.Risk").unwrap(), &risk, true).unwrap()).into_owned();
        assert!(!text.contains('\u{202e}') && !text.contains('\u{1b}'), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["entity"]["id"], "evil\u{202e}\u{1b}");
        assert_eq!(value["entity"]["type"], "ENTITY_TYPE_IP_ADDRESS");
        assert_eq!(value["score"], 12.5);
        assert_eq!(value["time"], "2026-01-05T00:00:00Z");
        assert_eq!(value["parts"], serde_json::json!([]));
        assert!(descriptor("gumshoe.graph.v1.Nothing").is_err());
    }

    #[test]
    fn large_counts_stay_numbers() {
        let statistics = gumshoe_api::graph::v1::GetGraphStatisticsResponse { edges: 1 << 53, ..Default::default() };
        let text = to_json(&descriptor("gumshoe.graph.v1.GetGraphStatisticsResponse").unwrap(), &statistics, false).unwrap();
        assert!(text.contains("\"edges\":9007199254740992"), "{text}");
    }
}
