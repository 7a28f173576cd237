//! What a CloudTrail call touched: `resources`, and the parameters and response elements that name something.

use std::borrow::Cow;

use gumshoe_model::{EntityType, Event, Relation};

use super::Record;
use crate::{
    arn::{is_account, link, link_arn, partition},
    json::{List, Text, lenient},
};

lenient! {
    struct Resource {
        arn: Text<'a> = "ARN" | "arn",
    }

    struct Parameters {
        access_key: Text<'a> = "accessKeyId",
        bucket: Text<'a> = "bucketName",
        cluster: Text<'a> = "cluster",
        cluster_name: Text<'a> = "clusterName",
        database: Text<'a> = "dBInstanceIdentifier" | "dbInstanceIdentifier",
        database_cluster: Text<'a> = "dBClusterIdentifier" | "dbClusterIdentifier",
        detector: Text<'a> = "detectorId",
        function: Text<'a> = "functionName",
        group_id: Text<'a> = "groupId",
        group_name: Text<'a> = "groupName",
        image: Text<'a> = "imageId",
        instance: Text<'a> = "instanceId",
        instance_profile: Text<'a> = "instanceProfileName",
        instance_set: Items<'a> = "instancesSet",
        instances: List<Text<'a>> = "instanceIds",
        interface: Text<'a> = "networkInterfaceId",
        key: Text<'a> = "keyId",
        log_group: Text<'a> = "logGroupName",
        name: Text<'a> = "name",
        names: List<Text<'a>> = "names",
        policy: Text<'a> = "policyArn",
        profile: NamedArn<'a> = "iamInstanceProfile",
        queue: Text<'a> = "queueUrl",
        repository: Text<'a> = "repositoryName",
        resource: Text<'a> = "resourceArn" | "resourceARN",
        role: Text<'a> = "role",
        role_arn: Text<'a> = "roleArn",
        role_name: Text<'a> = "roleName",
        secret: Text<'a> = "secretId",
        snapshot: Text<'a> = "snapshotId",
        source_identity: Text<'a> = "sourceIdentity",
        stack: Text<'a> = "stackName",
        stream: Text<'a> = "streamName",
        table: Text<'a> = "tableName",
        target: Text<'a> = "target",
        target_principal: Text<'a> = "targetPrincipal",
        topic: Text<'a> = "topicArn",
        user_name: Text<'a> = "userName",
        volume: Text<'a> = "volumeId",
    }

    struct Response {
        access_key: IssuedKey<'a> = "accessKey",
        arn: Text<'a> = "arn" | "aRN" | "ARN",
        assumed_role_user: NamedArn<'a> = "assumedRoleUser",
        cluster: NamedArn<'a> = "cluster",
        console_login: Text<'a> = "ConsoleLogin",
        credentials: IssuedKey<'a> = "credentials",
        database: Text<'a> = "dBInstanceArn",
        federated_user: NamedArn<'a> = "federatedUser",
        function: Text<'a> = "functionArn",
        group: NamedArn<'a> = "group",
        group_id: Text<'a> = "groupId",
        instance_profile: NamedArn<'a> = "instanceProfile",
        instance_set: Items<'a> = "instancesSet",
        interface: Item<'a> = "networkInterface",
        key: NamedArn<'a> = "keyMetadata",
        policy: NamedArn<'a> = "policy",
        role: NamedArn<'a> = "role",
        snapshot: Text<'a> = "snapshotId",
        table: NamedArn<'a> = "tableDescription",
        trail: Text<'a> = "trailARN",
        user: NamedArn<'a> = "user",
        volume: Text<'a> = "volumeId",
    }

    struct NamedArn {
        arn: Text<'a> = "arn" | "tableArn",
        id: Text<'a> = "assumedRoleId",
    }

    struct IssuedKey {
        access_key: Text<'a> = "accessKeyId",
        user_name: Text<'a> = "userName",
    }

    struct Items {
        items: List<Item<'a>> = "items",
    }

    struct Item {
        instance: Text<'a> = "instanceId",
        interface: Text<'a> = "networkInterfaceId",
        interfaces: Interfaces<'a> = "networkInterfaceSet",
    }

    struct Interfaces {
        items: List<Interface<'a>> = "items",
    }

    struct Interface {
        interface: Text<'a> = "networkInterfaceId",
    }
}

/// Links everything that the call names. A bare name becomes an ARN with the record's account and region.
pub(crate) fn touched<'a>(record: &mut Record<'a>, event: &mut Event<'a>) {
    for resource in &mut record.resources.0 {
        affected(event, resource.arn.take());
    }
    if record.request.is_none() && record.response.is_none() {
        return;
    }
    let mut request = record.request.take().unwrap_or_default();
    let mut response = record.response.take().unwrap_or_default();
    let (request, response) = (&mut *request, &mut *response);
    let service = event.service.clone();
    let service = service.strip_suffix(".amazonaws.com").unwrap_or(&service);

    link(event, Relation::AffectedBy, EntityType::S3Bucket, bucket(request.bucket.take()), "");
    for text in [&mut request.instance, &mut request.target].into_iter().chain(&mut request.instances.0) {
        instance(event, text.take());
    }
    for item in request.instance_set.items.0.iter_mut().chain(&mut response.instance_set.items.0) {
        instance(event, item.instance.take());
        interface(event, item.interface.take());
        for nested in &mut item.interfaces.items.0 {
            interface(event, nested.interface.take());
        }
    }
    interface(event, request.interface.take());
    interface(event, response.interface.interface.take());

    let names = Names { service };
    match service {
        "iam" => {
            names.iam(event, "user", [&mut response.user.arn, &mut request.user_name, &mut response.access_key.user_name]);
            names.iam(event, "role", [&mut response.role.arn, &mut request.role_name, &mut Text::default()]);
            names.iam(event, "group", [&mut response.group.arn, &mut request.group_name, &mut Text::default()]);
            names.iam(event, "instance-profile", [&mut response.instance_profile.arn, &mut request.instance_profile, &mut Text::default()]);
            for key in [&mut request.access_key, &mut response.access_key.access_key] {
                link(event, Relation::AffectedBy, EntityType::AccessKey, key.take(), "");
            }
        }
        "ec2" => {
            for text in [&mut request.group_id, &mut response.group_id] {
                names.add(event, "security-group/", text);
            }
            for text in [&mut request.snapshot, &mut response.snapshot] {
                names.add(event, "snapshot/", text);
            }
            for text in [&mut request.volume, &mut response.volume] {
                names.add(event, "volume/", text);
            }
            names.add(event, "image/", &mut request.image);
        }
        "eks" => {
            let cluster = if request.cluster_name.is_empty() { &mut request.name } else { &mut request.cluster_name };
            names.add(event, "cluster/", cluster);
        }
        "ecs" => {
            for text in [&mut request.cluster, &mut request.cluster_name] {
                names.add(event, "cluster/", text);
            }
        }
        "kms" => {
            let key = request.key.get();
            let path = if key.starts_with("alias/") || key.starts_with("key/") { "" } else { "key/" };
            names.add(event, path, &mut request.key);
        }
        "ssm" => {
            for text in [&mut request.name].into_iter().chain(&mut request.names.0) {
                let path = if text.get().starts_with('/') { "parameter" } else { "parameter/" };
                names.add(event, path, text);
            }
        }
        "rds" => {
            names.add(event, "db:", &mut request.database);
            names.add(event, "cluster:", &mut request.database_cluster);
        }
        "secretsmanager" => {
            let secret = if request.secret.is_empty() { &mut request.name } else { &mut request.secret };
            names.add(event, "secret:", secret);
        }
        "lambda" => names.add(event, "function:", &mut request.function),
        "dynamodb" => names.add(event, "table/", &mut request.table),
        "cloudtrail" => names.add(event, "trail/", &mut request.name),
        "guardduty" => names.add(event, "detector/", &mut request.detector),
        "logs" => names.add(event, "log-group:", &mut request.log_group),
        "kinesis" => names.add(event, "stream/", &mut request.stream),
        "firehose" => names.add(event, "deliverystream/", &mut request.stream),
        "cloudformation" => names.add(event, "stack/", &mut request.stack),
        "ecr" => names.add(event, "repository/", &mut request.repository),
        "sqs" => names.add(event, "", &mut Text(queue_name(request.queue.take()))),
        _ => {}
    }
    for text in [
        &mut request.role_arn,
        &mut request.role,
        &mut request.policy,
        &mut request.resource,
        &mut request.topic,
        &mut request.profile.arn,
        &mut response.arn,
        &mut response.cluster.arn,
        &mut response.database,
        &mut response.function,
        &mut response.key.arn,
        &mut response.policy.arn,
        &mut response.table.arn,
        &mut response.trail,
    ] {
        affected(event, text.take());
    }
}

fn affected<'a>(event: &mut Event<'a>, arn: Cow<'a, str>) {
    link_arn(event, Relation::AffectedBy, arn);
}

fn instance<'a>(event: &mut Event<'a>, id: Cow<'a, str>) {
    if id.starts_with("i-") {
        link(event, Relation::AffectedBy, EntityType::Ec2Instance, id, "");
    }
}

fn interface<'a>(event: &mut Event<'a>, id: Cow<'a, str>) {
    link(event, Relation::AffectedBy, EntityType::NetworkInterface, id, "");
}

/// A bucket parameter may also be the ARN of an access point, which names no bucket.
fn bucket(name: Cow<'_, str>) -> Cow<'_, str> {
    if name.starts_with("arn:") { Cow::Borrowed("") } else { name }
}

/// The name in `https://sqs.REGION.amazonaws.com/ACCOUNT/NAME`.
fn queue_name(url: Cow<'_, str>) -> Cow<'_, str> {
    Cow::Owned(url.rsplit('/').next().unwrap_or_default().to_owned())
}

/// Makes ARNs of the names that one service's parameters use.
struct Names<'s> {
    service: &'s str,
}

impl Names<'_> {
    fn add<'a>(&self, event: &mut Event<'a>, path: &str, name: &mut Text<'a>) {
        let name = name.take();
        if name.starts_with("arn:") {
            affected(event, name);
        } else if !name.is_empty() && is_account(&event.account) {
            let arn = format!("arn:{}:{}:{}:{}:{path}{name}", partition(&event.region), self.service, event.region, event.account);
            affected(event, Cow::Owned(arn));
        }
    }

    /// The ARN in the response has the path that a bare name lacks, so the first that is given is taken; so has the caller's own ARN.
    fn iam<'a>(&self, event: &mut Event<'a>, kind: &str, names: [&mut Text<'a>; 3]) {
        let Some(name) = names.into_iter().find(|name| !name.is_empty()).map(Text::take) else { return };
        let own = event.actor.as_ref().filter(|actor| kind == "user" && actor.kind == EntityType::User && event.actor_name == name);
        if name.starts_with("arn:") {
            affected(event, name);
        } else if let Some(own) = own {
            let id = own.id.clone();
            affected(event, id);
        } else if is_account(&event.account) {
            affected(event, Cow::Owned(format!("arn:{}:iam::{}:{kind}/{name}", partition(&event.region), event.account)));
        }
    }
}
