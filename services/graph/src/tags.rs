//! Tags of entities, as calls that tag tell them, and findings of the resources that they are about.
//!
//! A call's tags count from its time on until a later call changes them. Findings tell what tags their resource had, and remove none.

use gumshoe_lake::LakeError;
use gumshoe_model::{EntityKey, EntityType, PRODUCT, Timestamp};
use gumshoe_records::{entity_of_arn, events::EventBatch};
use serde_json::Value;

use crate::{
    behavior::Scope,
    rows::{self, Answer, Columns, Parameters},
    store::tags::TagChanges,
    sweep::Hours,
};

/// Calls that tag.
const OPERATIONS: [&str; 13] = [
    "CreateRole",
    "CreateTags",
    "CreateUser",
    "DeleteBucketTagging",
    "DeleteTags",
    "PutBucketTagging",
    "RunInstances",
    "TagResources",
    "TagRole",
    "TagUser",
    "UntagResources",
    "UntagRole",
    "UntagUser",
];
/// The longest key and value that AWS allows, in characters.
const MAX_KEY: usize = 128;
const MAX_VALUE: usize = 256;
/// Tags of one step of the sweep that are written down.
const MAX_TAGS: usize = 100_000;

/// What is not there.
static NULL: Value = Value::Null;

/// What is said of an entity's tags.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Has(Vec<(String, String)>),
    HasOnly(Vec<(String, String)>),
    Lost(Vec<String>),
}

/// Adds what became of tags in some hours.
pub(crate) async fn read(hours: &Hours, changes: &mut TagChanges) -> Answer<()> {
    let window = Scope::window(hours.from, hours.to)?;
    let mut parameters = Parameters::new();
    let within = parameters.within("time", window);
    let operations = rows::quoted(OPERATIONS);
    let sql = format!("SELECT * FROM events WHERE {within} AND kind = 'cloudtrail' AND error = '' AND operation IN ({operations}) ORDER BY time, event_id");
    rows::each_of(&hours.snapshot, &sql, parameters, |batch| {
        let wrong = |error| rows::failure(LakeError::Parquet(error));
        let events = EventBatch::of_rows(batch).map_err(wrong)?;
        let (all, raw) = (events.rows().map_err(wrong)?, Columns(batch).texts("raw")?);
        for row in 0..all.len() {
            let Some(event) = all.event(row, raw.get(row)) else { continue };
            // Without text nothing is known of tags.
            let Ok(call) = serde_json::from_str::<Value>(raw.get(row)) else { continue };
            let links: Vec<EntityKey> = event.links.iter().map(|link| link.entity.to_key()).collect();
            let (entities, said) = of_call(&event.operation, &links, &call);
            for entity in entities {
                note(changes, &entity, event.time, said.clone());
            }
        }
        Ok(())
    })
    .await?;
    let mut parameters = Parameters::new();
    parameters.time("from", window.start());
    parameters.time("to", window.end());
    parameters.text("product", PRODUCT);
    let sql = "SELECT update_time, raw FROM findings WHERE update_time >= $from AND update_time < $to AND product <> $product ORDER BY update_time, event_id";
    rows::each_of(&hours.snapshot, sql, parameters, |batch| {
        let columns = Columns(batch);
        let (times, raws) = (columns.numbers("update_time")?, columns.texts("raw")?);
        for row in 0..columns.len() {
            let Ok(finding) = serde_json::from_str::<Value>(raws.get(row)) else { continue };
            for (entity, tags) in of_finding(&finding) {
                note(changes, &entity, times.time(row), Said::Has(tags));
            }
        }
        Ok(())
    })
    .await?;
    if changes.tags.len() >= MAX_TAGS {
        tracing::warn!(graph = %hours.lake.arn(), limit = MAX_TAGS, "so many tags are told at once that some may be left out");
    }
    Ok(())
}

/// Adds what was said of an entity, unless something later was said.
fn note(changes: &mut TagChanges, entity: &EntityKey, time: Timestamp, said: Said) {
    let entity = entity.to_string();
    let tags: Vec<(String, Option<String>)> = match said {
        Said::Has(tags) => tags.into_iter().map(|(key, value)| (key, Some(value))).collect(),
        Said::HasOnly(tags) => {
            let before = changes.tags.range((entity.clone(), String::new())..).take_while(|((other, _), _)| *other == entity);
            let gone: Vec<String> = before.filter(|(_, (told, _))| *told < time).map(|((_, key), _)| key.clone()).collect();
            for key in gone {
                changes.tags.remove(&(entity.clone(), key));
            }
            let replaced = changes.replaced.entry(entity.clone()).or_insert(time);
            *replaced = (*replaced).max(time);
            tags.into_iter().map(|(key, value)| (key, Some(value))).collect()
        }
        Said::Lost(keys) => keys.into_iter().map(|key| (key, None)).collect(),
    };
    // Postgres cannot store NUL.
    let fits = |text: &str, most: usize| text.chars().count() <= most && !text.contains('\0');
    for (key, value) in tags {
        if key.is_empty() || !fits(&key, MAX_KEY) || value.as_deref().is_some_and(|value| !fits(value, MAX_VALUE)) || entity.contains('\0') {
            continue;
        }
        let place = (entity.clone(), key);
        let later = changes.tags.get(&place).is_some_and(|(told, _)| *told > time);
        if !later && (changes.tags.len() < MAX_TAGS || changes.tags.contains_key(&place)) {
            changes.tags.insert(place, (time, value));
        }
    }
}

/// Which entities a call tags, of those that it names, and how.
fn of_call(operation: &str, links: &[EntityKey], call: &Value) -> (Vec<EntityKey>, Said) {
    let request = member(call, "requestParameters");
    let at = |pointer: &str| request.pointer(pointer).unwrap_or(&NULL);
    let named = |kind: EntityType| links.iter().filter(|link| link.kind == kind).cloned().collect::<Vec<_>>();
    let owner = || named(if operation.ends_with("Role") { EntityType::Role } else { EntityType::User });
    let by_id = || list(at("/resourcesSet/items")).filter_map(|item| of_id(text(member(item, "resourceId")))).collect::<Vec<_>>();
    let by_arn = || list(at("/resourceARNList")).filter_map(|arn| entity_of_arn(text(arn))).collect::<Vec<_>>();
    match operation {
        "CreateUser" | "CreateRole" | "TagUser" | "TagRole" => (owner(), Said::Has(pairs(at("/tags")))),
        "UntagUser" | "UntagRole" => (owner(), Said::Lost(texts(at("/tagKeys")))),
        "CreateTags" => (by_id(), Said::Has(pairs(at("/tagSet/items")))),
        "DeleteTags" => (by_id(), Said::Lost(pairs(at("/tagSet/items")).into_iter().map(|(key, _)| key).collect())),
        "RunInstances" => {
            let of_instances = list(at("/tagSpecificationSet/items")).filter(|item| text(member(item, "resourceType")) == "instance");
            (named(EntityType::Ec2Instance), Said::Has(of_instances.flat_map(|item| pairs(member(item, "tags"))).collect()))
        }
        "PutBucketTagging" => (named(EntityType::S3Bucket), Said::HasOnly(pairs(at("/Tagging/TagSet/Tag")))),
        "DeleteBucketTagging" => (named(EntityType::S3Bucket), Said::HasOnly(Vec::new())),
        "TagResources" => (by_arn(), Said::Has(pairs(at("/tags")))),
        "UntagResources" => (by_arn(), Said::Lost(texts(at("/tagKeys")))),
        _ => (Vec::new(), Said::Has(Vec::new())),
    }
}

/// The tags of resources that a finding of GuardDuty or Security Hub tells.
fn of_finding(finding: &Value) -> Vec<(EntityKey, Vec<(String, String)>)> {
    let mut found = Vec::new();
    let resource = member(finding, "resource");
    let instance = member(resource, "instanceDetails");
    found.extend(of_id(text(member(instance, "instanceId"))).map(|entity| (entity, pairs(member(instance, "tags")))));
    for bucket in list(member(resource, "s3BucketDetails")) {
        let id = text(member(bucket, "name")).to_owned();
        if !id.is_empty() {
            found.push((EntityKey { kind: EntityType::S3Bucket, id }, pairs(member(bucket, "tags"))));
        }
    }
    let cluster = member(resource, "eksClusterDetails");
    found.extend(entity_of_arn(text(member(cluster, "arn"))).map(|entity| (entity, pairs(member(cluster, "tags")))));
    for resource in list(member(finding, "resources")) {
        found.extend(entity_of_arn(text(member(resource, "id"))).map(|entity| (entity, pairs(member(resource, "tags")))));
    }
    found
}

/// An instance or network interface by its id; none of other things, which the graph knows by ARN.
fn of_id(id: &str) -> Option<EntityKey> {
    let kind = match id.split_once('-')? {
        ("i", _) => EntityType::Ec2Instance,
        ("eni", _) => EntityType::NetworkInterface,
        _ => return None,
    };
    Some(EntityKey { kind, id: id.to_owned() })
}

/// A member of an object, whose name may also begin with a capital letter or be in lower case; null if there is none.
fn member<'a>(value: &'a Value, name: &str) -> &'a Value {
    let capital = || name.get(..1).unwrap_or_default().to_ascii_uppercase() + name.get(1..).unwrap_or_default();
    value.get(name).or_else(|| value.get(capital())).or_else(|| value.get(name.to_ascii_lowercase())).unwrap_or(&NULL)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn texts(value: &Value) -> Vec<String> {
    list(value).filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Keys and values out of a list of objects, one such object, or an object by key.
fn pairs(tags: &Value) -> Vec<(String, String)> {
    let pair = |tag: &Value| Some((member(tag, "key").as_str()?.to_owned(), text(member(tag, "value")).to_owned()));
    match tags {
        Value::Array(tags) => tags.iter().filter_map(pair).collect(),
        Value::Object(by_key) => match pair(tags).filter(|_| member(tags, "value").is_string()) {
            Some(one) => vec![one],
            None => by_key.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect(),
        },
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(text: &str) -> EntityKey {
        text.parse().unwrap()
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn calls_say_whom_they_tag_and_how() {
        let links = [key("user:arn:aws:iam::111122223333:user/ann"), key("ec2_instance:i-1"), key("s3_bucket:b")];
        let of = |operation: &str, request: Value| of_call(operation, &links, &json!({ "requestParameters": request }));
        let tags = json!([{ "key": "env", "value": "prod" }, { "key": "empty", "value": "" }]);
        let both = owned(&[("env", "prod"), ("empty", "")]);
        assert_eq!(of("TagUser", json!({ "userName": "ann", "tags": tags })), (vec![links[0].clone()], Said::Has(both.clone())));
        assert_eq!(of("UntagUser", json!({ "tagKeys": ["env"] })), (vec![links[0].clone()], Said::Lost(vec!["env".to_owned()])));
        let items = json!({ "items": [{ "resourceId": "i-2" }, { "resourceId": "eni-3" }, { "resourceId": "vol-4" }] });
        let request = json!({ "resourcesSet": items, "tagSet": { "items": tags } });
        assert_eq!(of("CreateTags", request.clone()), (vec![key("ec2_instance:i-2"), key("network_interface:eni-3")], Said::Has(both.clone())));
        assert_eq!(of("DeleteTags", request).1, Said::Lost(vec!["env".to_owned(), "empty".to_owned()]));
        let specifications = json!([{ "resourceType": "volume", "tags": [{ "key": "x", "value": "y" }] }, { "resourceType": "instance", "tags": tags }]);
        let request = json!({ "tagSpecificationSet": { "items": specifications } });
        assert_eq!(of("RunInstances", request), (vec![links[1].clone()], Said::Has(both)));
        let one = json!({ "Tagging": { "TagSet": { "Tag": { "Key": "env", "Value": "prod" } } } });
        assert_eq!(of("PutBucketTagging", one), (vec![links[2].clone()], Said::HasOnly(owned(&[("env", "prod")]))));
        let request = json!({ "resourceARNList": ["arn:aws:s3:::vault", "nonsense"], "tags": { "env": "prod" } });
        assert_eq!(of("TagResources", request), (vec![key("s3_bucket:vault")], Said::Has(owned(&[("env", "prod")]))));
        assert_eq!(of_call("TagUser", &links, &NULL).1, Said::Has(Vec::new()));
    }

    #[test]
    fn findings_tell_the_tags_of_their_resources() {
        let guard_duty = json!({ "resource": {
            "instanceDetails": { "instanceId": "i-1", "tags": [{ "key": "env", "value": "prod" }] },
            "s3BucketDetails": [{ "name": "vault", "tags": [{ "key": "class", "value": "secret" }] }],
        } });
        let expected = [(key("ec2_instance:i-1"), owned(&[("env", "prod")])), (key("s3_bucket:vault"), owned(&[("class", "secret")]))];
        assert_eq!(of_finding(&guard_duty), expected);
        let security_hub = json!({ "Resources": [{ "Type": "AwsIamRole", "Id": "arn:aws:iam::111122223333:role/r", "Tags": { "env": "prod" } }] });
        assert_eq!(of_finding(&security_hub), [(key("role:arn:aws:iam::111122223333:role/r"), owned(&[("env", "prod")]))]);
        assert_eq!(of_finding(&json!("nonsense")), []);
    }

    #[test]
    fn what_was_said_last_counts() {
        let (mut changes, bucket) = (TagChanges::default(), key("s3_bucket:b"));
        let at = |key: &str| ("s3_bucket:b".to_owned(), key.to_owned());
        note(&mut changes, &bucket, Timestamp(1), Said::Has(owned(&[("a", "1"), ("b", "1")])));
        note(&mut changes, &bucket, Timestamp(3), Said::HasOnly(owned(&[("b", "3")])));
        note(&mut changes, &bucket, Timestamp(2), Said::Lost(vec!["b".to_owned()]));
        assert_eq!(changes.tags.iter().collect::<Vec<_>>(), [(&at("b"), &(Timestamp(3), Some("3".to_owned())))]);
        assert_eq!(changes.replaced.get("s3_bucket:b"), Some(&Timestamp(3)));
        note(&mut changes, &bucket, Timestamp(4), Said::Lost(vec!["b".to_owned()]));
        assert_eq!(changes.tags.get(&at("b")), Some(&(Timestamp(4), None)));
        note(&mut changes, &bucket, Timestamp(5), Said::Has(owned(&[("", "x"), ("nul\0", "x"), (&"k".repeat(129), "x")])));
        assert_eq!(changes.tags.len(), 1);
    }
}
