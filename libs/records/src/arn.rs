//! Amazon Resource Names: their parts, and the entity each one names.

use std::borrow::Cow;

use gumshoe_model::{EntityKey, EntityType, Event, Relation, entity::MAX_ID_BYTES};

use crate::json::cut;

/// The parts of `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arn<'a> {
    pub(crate) partition: &'a str,
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
    pub(crate) account: &'a str,
    pub(crate) resource: &'a str,
}

impl<'a> Arn<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("arn:")?;
        let mut parts = rest.splitn(5, ':');
        let arn = Self { partition: parts.next()?, service: parts.next()?, region: parts.next()?, account: parts.next()?, resource: parts.next()? };
        (!arn.resource.is_empty()).then_some(arn)
    }
}

/// The partition that a region belongs to.
pub(crate) fn partition(region: &str) -> &'static str {
    match region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        region if region.starts_with("us-isob-") => "aws-iso-b",
        region if region.starts_with("us-iso-") => "aws-iso",
        region if region.starts_with("eusc-") => "aws-eusc",
        _ => "aws",
    }
}

/// Whether `text` is a 12-digit account id.
pub(crate) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The last part of a path: `name` of `role/path/name`.
pub(crate) fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The entity that an ARN names: its type, its id, and a name where the id does not say it all.
pub(crate) fn entity(arn: Cow<'_, str>) -> (EntityType, Cow<'_, str>, Cow<'_, str>) {
    let Some(parsed) = Arn::parse(&arn) else {
        return (EntityType::Resource, arn, Cow::Borrowed(""));
    };
    // What to cut out of the ARN: `None` keeps it whole.
    let (kind, id, name) = match (parsed.service, parsed.resource.split_once('/')) {
        ("s3", object) if parsed.account.is_empty() && parsed.region.is_empty() => {
            (EntityType::S3Bucket, Some(object.map_or(parsed.resource, |(bucket, _)| bucket)), "")
        }
        ("iam", Some(("role", path))) => (EntityType::Role, None, last_part(path)),
        ("iam", Some(("user", path))) => (EntityType::User, None, last_part(path)),
        ("iam", None) if parsed.resource == "root" => (EntityType::Root, None, ""),
        ("sts", Some(("assumed-role", path))) => (EntityType::RoleSession, None, last_part(path)),
        ("sts", Some(("federated-user", name))) => (EntityType::FederatedUser, None, name),
        ("ec2", Some(("instance", id))) if id.starts_with("i-") => (EntityType::Ec2Instance, Some(id), ""),
        ("ec2", Some(("network-interface", id))) if id.starts_with("eni-") => (EntityType::NetworkInterface, Some(id), ""),
        ("eks", Some(("cluster", name))) => (EntityType::EksCluster, None, name),
        (_, Some((_, path))) => (EntityType::Resource, None, last_part(path)),
        (_, None) => (EntityType::Resource, None, parsed.resource.rsplit(':').next().unwrap_or_default()),
    };
    let part = |part: &str| match &arn {
        _ if part.is_empty() => Cow::Borrowed(""),
        Cow::Borrowed(whole) => {
            let start = part.as_ptr() as usize - whole.as_ptr() as usize;
            Cow::Borrowed(whole.get(start..start + part.len()).unwrap_or_default())
        }
        Cow::Owned(_) => Cow::Owned(part.to_owned()),
    };
    let name = part(name);
    match id {
        Some(id) => (kind, part(id), name),
        None => (kind, arn, name),
    }
}

/// The entity that an ARN names, as events link it; `None` for what is no ARN.
#[must_use]
pub fn entity_of_arn(arn: &str) -> Option<EntityKey> {
    Arn::parse(arn)?;
    let (kind, id, _) = entity(Cow::Borrowed(arn));
    Some(EntityKey { kind, id: cut(id, MAX_ID_BYTES).into_owned() })
}

/// The ARN of the role whose session `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION` is; the role's path is not in there.
pub(crate) fn role_of_session(arn: &str) -> Option<String> {
    let arn = Arn::parse(arn).filter(|arn| arn.service == "sts")?;
    let role = arn.resource.strip_prefix("assumed-role/")?.split('/').next()?;
    Some(format!("arn:{}:iam::{}:role/{role}", arn.partition, arn.account))
}

/// The most links an event carries; the rest stays in its raw text.
pub(crate) const MAX_LINKS: usize = 64;

/// Adds a link with its id and name cut to the model's limits.
pub(crate) fn link<'a>(event: &mut Event<'a>, relation: Relation, kind: EntityType, id: impl Into<Cow<'a, str>>, name: impl Into<Cow<'a, str>>) {
    if event.links.len() < MAX_LINKS {
        event.link(relation, kind, cut(id.into(), MAX_ID_BYTES), cut(name.into(), MAX_ID_BYTES));
    }
}

/// Adds a link to what an ARN names. Text that is no ARN adds nothing.
pub(crate) fn link_arn<'a>(event: &mut Event<'a>, relation: Relation, arn: impl Into<Cow<'a, str>>) {
    let arn = arn.into();
    if Arn::parse(&arn).is_some() {
        let (kind, id, name) = entity(arn);
        link(event, relation, kind, id, name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_name_entities() {
        for (arn, kind, id, name) in [
            ("arn:aws:s3:::bucket/a/b", EntityType::S3Bucket, "bucket", ""),
            ("arn:aws:s3:us-east-1:123456789012:accesspoint/ap", EntityType::Resource, "arn:aws:s3:us-east-1:123456789012:accesspoint/ap", "ap"),
            ("arn:aws-cn:iam::123456789012:role/path/r", EntityType::Role, "arn:aws-cn:iam::123456789012:role/path/r", "r"),
            ("arn:aws:iam::123456789012:root", EntityType::Root, "arn:aws:iam::123456789012:root", ""),
            ("arn:aws:ec2:us-east-1:123456789012:instance/i-1", EntityType::Ec2Instance, "i-1", ""),
            ("arn:aws:sqs:us-east-1:123456789012:queue", EntityType::Resource, "arn:aws:sqs:us-east-1:123456789012:queue", "queue"),
        ] {
            for text in [Cow::Borrowed(arn), Cow::Owned(arn.to_owned())] {
                assert_eq!(entity(text), (kind, Cow::Borrowed(id), Cow::Borrowed(name)), "{arn}");
            }
        }
        assert_eq!(Arn::parse("arn:aws:iam"), None);
        assert_eq!(entity_of_arn("arn:aws:s3:::bucket/a"), Some(EntityKey { kind: EntityType::S3Bucket, id: "bucket".to_owned() }));
        assert_eq!(entity_of_arn("bucket"), None);
    }
}
