//! Hot profiles as the messages that are kept in Redis.

use gumshoe_api::{convert, graph::v1 as proto};
use gumshoe_lake::{Table, Versions};
use gumshoe_model::EntityKey;
use prost::Message as _;

use crate::hot::digest::{Digest, Hourly, Seen, Values};

/// A digest that is complete up to `versions`.
pub(crate) fn encode(entity: &EntityKey, digest: &Digest, versions: &Versions) -> Vec<u8> {
    let hour = |(hour, sum): (&i64, &Hourly)| proto::HotHour { hour: *hour, count: sum.count, errors: sum.errors, last_time: sum.last };
    #[expect(clippy::borrowed_box, reason = "items of the map as they are")]
    let value = |(value, seen): (&Box<str>, &Seen)| proto::HotValue {
        value: value.to_string(),
        hour_before: seen.before,
        hour_since: seen.since,
        last_time: seen.last,
    };
    let values = |values: &Values| proto::HotValues { crowded: values.crowded, values: values.seen.iter().map(value).collect() };
    let message = proto::HotProfile {
        entity: Some(convert::entity_to_proto(entity)),
        edges_version: versions.of(Table::Edges),
        entities_version: versions.of(Table::Entities),
        base_hour: digest.base,
        account_id: digest.account.1.clone(),
        account_time: digest.account.0,
        hours: digest.hours.iter().map(hour).collect(),
        failures: digest
            .failed
            .iter()
            .map(|(operation, hours)| proto::HotFailure { operation: operation.clone(), errors: hours.iter().map(|(hour, errors)| (*hour, *errors)).collect() })
            .collect(),
        values: digest.values.iter().map(values).collect(),
    };
    message.encode_to_vec()
}

/// What [`encode`] made of the digest of `entity`; `None` for anything else, since the store is shared and not ours alone.
pub(crate) fn decode(entity: &EntityKey, bytes: &[u8]) -> Option<(Digest, Versions)> {
    let message = proto::HotProfile::decode(bytes).ok()?;
    if convert::entity_from_proto("entity", message.entity.as_ref()).ok()? != *entity {
        return None;
    }
    let mut versions = Versions::default();
    versions.set(Table::Edges, message.edges_version);
    versions.set(Table::Entities, message.entities_version);
    let value = |value: proto::HotValue| {
        let seen = Seen { before: value.hour_before, since: value.hour_since, last: value.last_time };
        (value.value.into_boxed_str(), seen)
    };
    let values = |values: proto::HotValues| Values { crowded: values.crowded, seen: values.values.into_iter().map(value).collect() };
    let hour = |hour: proto::HotHour| (hour.hour, Hourly { count: hour.count, errors: hour.errors, last: hour.last_time });
    let digest = Digest {
        base: message.base_hour,
        account: (message.account_time, message.account_id),
        hours: message.hours.into_iter().map(hour).collect(),
        failed: message.failures.into_iter().map(|failure| (failure.operation, failure.errors.into_iter().collect())).collect(),
        values: message.values.into_iter().map(values).collect::<Vec<_>>().try_into().ok()?,
    };
    Some((digest, versions))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::*;

    #[test]
    fn a_digest_comes_back_as_it_was_and_nothing_else_does() {
        let entity: EntityKey = "user:alice".parse().unwrap();
        let mut digest = Digest::new(480_000);
        digest.account = (7, "111122223333".to_owned());
        digest.hours.insert(479_000, Hourly { count: 5, errors: 2, last: 9 });
        digest.failed.insert("s3.amazonaws.com/GetObject".to_owned(), BTreeMap::from([(480_001, 3)]));
        digest.values[0].seen = HashMap::from([("BR".into(), Seen { before: None, since: Some(480_002), last: 11 })]);
        digest.values[4].crowded = true;
        let mut versions = Versions::default();
        versions.set(Table::Edges, 3);
        versions.set(Table::Entities, 4);
        let bytes = encode(&entity, &digest, &versions);
        assert_eq!(decode(&entity, &bytes), Some((digest, versions)));
        assert_eq!(decode(&"user:bob".parse().unwrap(), &bytes), None);
        assert_eq!(decode(&entity, b"\xffspoilt"), None);
        assert_eq!(decode(&entity, b""), None);
    }
}
