//! Conversions between messages and the domain model; failures name the field.

use gumshoe_model::{EntityKey, EntityType, Measures, RecordKind, Relation, TimeWindow, Timestamp};

use crate::{common::v1 as common, graph::v1 as graph};

/// A request field with a value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field in the request, such as `scope.end_time`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl FieldError {
    /// Names a field and what is wrong with it.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

/// The message's number for an entity type: the model's order, from 1.
#[must_use]
pub fn entity_type_to_proto(kind: EntityType) -> i32 {
    kind as i32 + 1
}

/// An entity type; `None` for unspecified or unknown numbers.
#[must_use]
pub fn entity_type_from_proto(number: i32) -> Option<EntityType> {
    usize::try_from(number).ok()?.checked_sub(1).and_then(|index| EntityType::ALL.get(index)).copied()
}

/// The message's number for a relation: the model's order, from 1.
#[must_use]
pub fn relation_to_proto(relation: Relation) -> i32 {
    relation as i32 + 1
}

/// A relation; `None` for unspecified or unknown numbers.
#[must_use]
pub fn relation_from_proto(number: i32) -> Option<Relation> {
    usize::try_from(number).ok()?.checked_sub(1).and_then(|index| Relation::ALL.get(index)).copied()
}

/// The message's number for a record kind: the model's order, from 1.
#[must_use]
pub fn record_kind_to_proto(kind: RecordKind) -> i32 {
    kind as i32 + 1
}

/// A record kind; `None` for unspecified or unknown numbers.
#[must_use]
pub fn record_kind_from_proto(number: i32) -> Option<RecordKind> {
    usize::try_from(number).ok()?.checked_sub(1).and_then(|index| RecordKind::ALL.get(index)).copied()
}

/// An entity key as a message.
#[must_use]
pub fn entity_to_proto(entity: &EntityKey) -> common::EntityKey {
    common::EntityKey { r#type: entity_type_to_proto(entity.kind), id: entity.id.clone() }
}

/// A required entity key.
///
/// # Errors
/// [`FieldError`] when it is absent, its type unknown or its id empty or too long.
pub fn entity_from_proto(field: &str, entity: Option<&common::EntityKey>) -> Result<EntityKey, FieldError> {
    let entity = entity.ok_or_else(|| FieldError::new(field, "is required"))?;
    let kind = entity_type_from_proto(entity.r#type).ok_or_else(|| FieldError::new(format!("{field}.type"), "is required and must be a known entity type"))?;
    EntityKey::new(kind, entity.id.clone()).map_err(|error| FieldError::new(format!("{field}.id"), error.reason))
}

/// A time as a message.
#[must_use]
pub fn time_to_proto(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.0.div_euclid(1_000_000), nanos: i32::try_from(time.0.rem_euclid(1_000_000) * 1000).unwrap_or(0) }
}

/// A time out of a message.
///
/// # Errors
/// [`FieldError`] when it is outside the years 1970 to 9999 or has impossible nanoseconds.
pub fn time_from_proto(field: &str, time: &prost_types::Timestamp) -> Result<Timestamp, FieldError> {
    let nanos = i64::from(time.nanos);
    Timestamp::from_seconds(time.seconds)
        .filter(|_| (0..1_000_000_000).contains(&nanos))
        .map(|whole| Timestamp(whole.0 + nanos / 1000))
        .ok_or_else(|| FieldError::new(field, "must lie in the years 1970 to 9999"))
}

/// A window as a message.
#[must_use]
pub fn window_to_proto(window: TimeWindow) -> common::TimeRange {
    common::TimeRange { start_time: Some(time_to_proto(window.start())), end_time: Some(time_to_proto(window.end())) }
}

/// A window out of a message; `None` if it is absent.
///
/// # Errors
/// [`FieldError`] when an end is missing, out of range, or start is not before end.
pub fn window_from_proto(field: &str, range: Option<&common::TimeRange>) -> Result<Option<TimeWindow>, FieldError> {
    let Some(range) = range else { return Ok(None) };
    let end = |name: &str, time: Option<&prost_types::Timestamp>| {
        let field = format!("{field}.{name}");
        time.ok_or_else(|| FieldError::new(field.clone(), "is required")).and_then(|time| time_from_proto(&field, time))
    };
    let window = TimeWindow::new(end("start_time", range.start_time.as_ref())?, end("end_time", range.end_time.as_ref())?)
        .map_err(|error| FieldError::new(field, error.reason))?;
    Ok(Some(window))
}

/// Measures as a message: `successes` is what is left of `count` after `errors`.
#[must_use]
pub fn measures_to_proto(measures: &Measures) -> graph::Measures {
    let time = |time: Timestamp| (measures.count > 0).then(|| time_to_proto(time));
    graph::Measures {
        successes: measures.count.saturating_sub(measures.errors),
        failures: measures.errors,
        bytes_in: measures.bytes_in,
        bytes_out: measures.bytes_out,
        packets_in: measures.packets_in,
        packets_out: measures.packets_out,
        first_time: time(measures.first),
        last_time: time(measures.last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enums_agree_with_the_model_by_name() {
        for kind in EntityType::ALL {
            let proto = common::EntityType::try_from(entity_type_to_proto(*kind)).unwrap();
            assert_eq!(proto.as_str_name(), format!("ENTITY_TYPE_{}", kind.as_str().to_uppercase()));
            assert_eq!(entity_type_from_proto(proto as i32), Some(*kind));
        }
        for relation in Relation::ALL {
            let proto = common::Relation::try_from(relation_to_proto(*relation)).unwrap();
            assert_eq!(proto.as_str_name(), format!("RELATION_{}", relation.as_str().to_uppercase()));
            assert_eq!(relation_from_proto(proto as i32), Some(*relation));
        }
        for kind in RecordKind::ALL {
            let proto = common::RecordKind::try_from(record_kind_to_proto(*kind)).unwrap();
            assert_eq!(proto.as_str_name(), format!("RECORD_KIND_{}", kind.as_str().to_uppercase()));
            assert_eq!(record_kind_from_proto(proto as i32), Some(*kind));
        }
        assert_eq!(entity_type_from_proto(0), None);
        assert_eq!(entity_type_from_proto(-1), None);
        assert_eq!(relation_from_proto(99), None);
    }
}
