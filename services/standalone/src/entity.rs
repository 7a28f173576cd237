//! From what a person types to an entity: by `type:id`, by the shape of the text, or by search.

use std::net::IpAddr;

use gumshoe_api::{
    convert,
    graph::v1::{EntitySummary, SearchEntitiesRequest},
};
use gumshoe_model::{EntityKey, EntityType};

use crate::rpc::{Connection, Failure, message};

/// How many candidates an ambiguous name lists.
const CANDIDATES: usize = 12;

/// The entity that `text` means.
///
/// # Errors
/// [`Failure`] when there is none, or several and the text does not say which.
pub async fn resolve(connection: &Connection, graph: &str, text: &str) -> Result<EntityKey, Failure> {
    if let Some(entity) = by_shape(text) {
        return Ok(entity);
    }
    let escaped = text.to_owned();
    let request = SearchEntitiesRequest { graph_arn: graph.to_owned(), text: escaped, page_size: 200, ..Default::default() };
    let found = connection.graph_service().await?.search_entities(request).await?.into_inner().entities;
    let exact: Vec<&EntitySummary> = found.iter().filter(|summary| says(summary, text)).collect();
    let candidates = if exact.is_empty() { found.iter().collect() } else { exact };
    match candidates.as_slice() {
        [] => Err(Failure::NotFound(format!("nothing in the graph is called `{text}`; try `gumshoe search '*{text}*'`"))),
        [one] => convert::entity_from_proto("entity", one.entity.as_ref()).map_err(|error| Failure::Broken(error.reason)),
        many => {
            let names: Vec<String> = many.iter().take(CANDIDATES).map(|summary| format!("\n  {}", message::entity(summary.entity.as_ref()))).collect();
            let more = many.len().saturating_sub(CANDIDATES);
            let rest = if more > 0 { format!("\n  and {more} more") } else { String::new() };
            Err(Failure::Usage(format!("`{text}` can mean several things; say which:{}{rest}", names.concat())))
        }
    }
}

fn says(summary: &EntitySummary, text: &str) -> bool {
    let id = summary.entity.as_ref().map_or("", |entity| entity.id.as_str());
    [id, summary.name.as_str()].into_iter().chain(summary.aliases.iter().map(String::as_str)).any(|name| name.eq_ignore_ascii_case(text))
}

/// The entity whose id can only be `text`; `None` if it takes a search to know.
fn by_shape(text: &str) -> Option<EntityKey> {
    if let Ok(entity) = text.parse::<EntityKey>() {
        return Some(match (entity.kind, entity.id.parse::<IpAddr>()) {
            (EntityType::IpAddress, Ok(address)) => EntityKey { kind: EntityType::IpAddress, id: address.to_canonical().to_string() },
            _ => entity,
        });
    }
    let key = |kind| EntityKey::new(kind, text).ok();
    if let Ok(address) = text.parse::<IpAddr>() {
        return EntityKey::new(EntityType::IpAddress, address.to_canonical().to_string()).ok();
    }
    if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return key(EntityType::Account);
    }
    let upper = |text: &str| text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    if text.len() >= 16 && (text.starts_with("AKIA") || text.starts_with("ASIA")) && upper(text) {
        return key(EntityType::AccessKey);
    }
    if text.split_once(':').is_some_and(|(id, name)| id.starts_with("AROA") && upper(id) && !name.is_empty()) {
        return key(EntityType::RoleSession);
    }
    let hex = |digits: &str| (8..=17).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if text.strip_prefix("i-").is_some_and(hex) {
        return key(EntityType::Ec2Instance);
    }
    if text.strip_prefix("eni-").is_some_and(hex) {
        return key(EntityType::NetworkInterface);
    }
    if text.ends_with(".amazonaws.com") && !text.contains([' ', '/', ':', '*', '?']) {
        return key(EntityType::AwsService);
    }
    by_arn(text)
}

fn by_arn(text: &str) -> Option<EntityKey> {
    let mut parts = text.splitn(6, ':');
    let (arn, _partition, service, _region, _account, resource) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if arn != "arn" || text.contains(['*', '?']) {
        return None;
    }
    let kind = match (service, resource) {
        // A session's own key is its principal id, which the ARN does not hold.
        ("sts", _) => return None,
        ("iam", "root") => EntityType::Root,
        ("iam", resource) if resource.starts_with("user/") => EntityType::User,
        ("iam", resource) if resource.starts_with("role/") => EntityType::Role,
        ("s3", bucket) if !bucket.contains('/') => return EntityKey::new(EntityType::S3Bucket, bucket).ok(),
        ("eks", resource) if resource.starts_with("cluster/") => EntityType::EksCluster,
        ("guardduty", resource) if resource.contains("/finding/") => EntityType::Finding,
        ("securityhub", resource) if resource.contains("/finding/") => EntityType::Finding,
        _ => EntityType::Resource,
    };
    EntityKey::new(kind, text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_say_what_they_are() {
        for (text, expected) in [
            ("203.0.113.7", "ip_address:203.0.113.7"),
            ("2001:DB8::0:1", "ip_address:2001:db8::1"),
            ("::ffff:203.0.113.7", "ip_address:203.0.113.7"),
            ("ip_address:2001:DB8::1", "ip_address:2001:db8::1"),
            ("123456789012", "account:123456789012"),
            ("AKIAIOSFODNN7EXAMPLE", "access_key:AKIAIOSFODNN7EXAMPLE"),
            ("AROAEXAMPLEID:session@example.com", "role_session:AROAEXAMPLEID:session@example.com"),
            ("i-0abc123def4567890", "ec2_instance:i-0abc123def4567890"),
            ("eni-0abc123def4567890", "network_interface:eni-0abc123def4567890"),
            ("s3.amazonaws.com", "aws_service:s3.amazonaws.com"),
            ("arn:aws:iam::123456789012:user/team/alice", "user:arn:aws:iam::123456789012:user/team/alice"),
            ("arn:aws:iam::123456789012:role/admin", "role:arn:aws:iam::123456789012:role/admin"),
            ("arn:aws:iam::123456789012:root", "root:arn:aws:iam::123456789012:root"),
            ("arn:aws:s3:::bucket", "s3_bucket:bucket"),
            ("arn:aws:lambda:us-east-1:123456789012:function:x", "resource:arn:aws:lambda:us-east-1:123456789012:function:x"),
            ("arn:aws:guardduty:us-east-1:1:detector/a/finding/b", "finding:arn:aws:guardduty:us-east-1:1:detector/a/finding/b"),
            ("user_agent:Boto3/1.35 md:x", "user_agent:Boto3/1.35 md:x"),
        ] {
            assert_eq!(by_shape(text).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn other_text_takes_a_search() {
        for text in ["alice", "AKIA", "i-nstance", "arn:aws:sts::123456789012:assumed-role/admin/alice", "arn:aws:iam::*:role/x", "orders-*", "", "12345678901"]
        {
            assert_eq!(by_shape(text), None, "{text}");
        }
    }
}
