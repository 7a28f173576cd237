//! Amazon GuardDuty findings, as the API, EventBridge and the export to S3 give them; the AWS SDKs' PascalCase too.
//!
//! Each update of a finding is an event of its own, at the time of the update; the behaviour's own times are in the finding.
//!
//! Source: GuardDuty API reference, 2017-11-28, shape `Finding`.

use std::borrow::Cow;

use gumshoe_model::{EntityType, Event, Finding, RecordKind, Relation, Timestamp, entity::MAX_ID_BYTES};

use crate::{
    address,
    arn::{is_account, link, link_arn, partition},
    json::{Flag, List, Number, Required, Text, cut, lenient, parse},
};

lenient! {
    struct Record {
        account: Text<'a> = "accountId" | "AccountId",
        region: Text<'a> = "region" | "Region",
        id: Required<'a> = "id" | "Id",
        arn: Text<'a> = "arn" | "Arn",
        kind: Required<'a> = "type" | "Type",
        severity: Number = "severity" | "Severity",
        created: Text<'a> = "createdAt" | "CreatedAt",
        updated: Text<'a> = "updatedAt" | "UpdatedAt",
        title: Text<'a> = "title" | "Title",
        description: Text<'a> = "description" | "Description",
        resource: Resource<'a> = "resource" | "Resource",
        service: Service<'a> = "service" | "Service",
    }

    struct Resource {
        access_key: AccessKey<'a> = "accessKeyDetails" | "AccessKeyDetails",
        instance: Instance<'a> = "instanceDetails" | "InstanceDetails",
        buckets: List<Named<'a>> = "s3BucketDetails" | "S3BucketDetails",
        cluster: Named<'a> = "eksClusterDetails" | "EksClusterDetails",
        kubernetes: Kubernetes<'a> = "kubernetesDetails" | "KubernetesDetails",
        ecs: EcsCluster<'a> = "ecsClusterDetails" | "EcsClusterDetails",
        container: Container<'a> = "containerDetails" | "ContainerDetails",
        function: Named<'a> = "lambdaDetails" | "LambdaDetails",
        database: Named<'a> = "rdsDbInstanceDetails" | "RdsDbInstanceDetails",
        limitless: Named<'a> = "rdsLimitlessDbDetails" | "RdsLimitlessDbDetails",
        volumes: Volumes<'a> = "ebsVolumeDetails" | "EbsVolumeDetails",
        snapshot: Named<'a> = "ebsSnapshotDetails" | "EbsSnapshotDetails",
        image: Named<'a> = "ec2ImageDetails" | "Ec2ImageDetails",
        recovery_point: Named<'a> = "recoveryPointDetails" | "RecoveryPointDetails",
    }

    struct AccessKey {
        id: Text<'a> = "accessKeyId" | "AccessKeyId",
        principal: Text<'a> = "principalId" | "PrincipalId",
        user_type: Text<'a> = "userType" | "UserType",
        user_name: Text<'a> = "userName" | "UserName",
    }

    struct Instance {
        id: Text<'a> = "instanceId" | "InstanceId",
        profile: Named<'a> = "iamInstanceProfile" | "IamInstanceProfile",
        interfaces: List<Interface<'a>> = "networkInterfaces" | "NetworkInterfaces",
    }

    struct Interface {
        id: Text<'a> = "networkInterfaceId" | "NetworkInterfaceId",
        private: Text<'a> = "privateIpAddress" | "PrivateIpAddress",
        public: Text<'a> = "publicIp" | "PublicIp",
    }

    struct Named {
        arn: Text<'a> = "arn" | "Arn" | "functionArn" | "FunctionArn" | "dbInstanceArn" | "DbInstanceArn" | "dbShardGroupArn" | "DbShardGroupArn"
            | "snapshotArn" | "SnapshotArn" | "imageArn" | "ImageArn" | "recoveryPointArn" | "RecoveryPointArn" | "volumeArn" | "VolumeArn",
        name: Text<'a> = "name" | "Name",
    }

    struct Volumes {
        scanned: List<Named<'a>> = "scannedVolumeDetails" | "ScannedVolumeDetails",
    }

    struct Kubernetes {
        user: KubernetesUser<'a> = "kubernetesUserDetails" | "KubernetesUserDetails",
        workload: Workload<'a> = "kubernetesWorkloadDetails" | "KubernetesWorkloadDetails",
    }

    struct KubernetesUser {
        name: Text<'a> = "username" | "Username",
        session: List<Text<'a>> = "sessionName" | "SessionName",
    }

    struct Workload {
        name: Text<'a> = "name" | "Name",
        kind: Text<'a> = "type" | "Type",
        namespace: Text<'a> = "namespace" | "Namespace",
        containers: List<Container<'a>> = "containers" | "Containers",
    }

    struct Container {
        image: Text<'a> = "image" | "Image",
    }

    struct EcsCluster {
        arn: Text<'a> = "arn" | "Arn",
        task: EcsTask<'a> = "taskDetails" | "TaskDetails",
    }

    struct EcsTask {
        arn: Text<'a> = "arn" | "Arn" | "taskArn" | "TaskArn",
        containers: List<Container<'a>> = "containers" | "Containers",
    }

    struct Service {
        action: Action<'a> = "action" | "Action",
        count: Number = "count" | "Count",
        first_seen: Text<'a> = "eventFirstSeen" | "EventFirstSeen",
        last_seen: Text<'a> = "eventLastSeen" | "EventLastSeen",
        archived: Flag = "archived" | "Archived",
        detection: Detection<'a> = "detection" | "Detection",
    }

    struct Action {
        connection: Remote<'a> = "networkConnectionAction" | "NetworkConnectionAction",
        call: Remote<'a> = "awsApiCallAction" | "AwsApiCallAction",
        probe: Probe<'a> = "portProbeAction" | "PortProbeAction",
        kubernetes: Remote<'a> = "kubernetesApiCallAction" | "KubernetesApiCallAction",
        login: Remote<'a> = "rdsLoginAttemptAction" | "RdsLoginAttemptAction",
    }

    struct Probe {
        details: List<Remote<'a>> = "portProbeDetails" | "PortProbeDetails",
    }

    struct Remote {
        remote: Address<'a> = "remoteIpDetails" | "RemoteIpDetails",
        account: RemoteAccount<'a> = "remoteAccountDetails" | "RemoteAccountDetails",
        interface: Text<'a> = "localNetworkInterface" | "LocalNetworkInterface",
        user_agent: Text<'a> = "userAgent" | "UserAgent",
    }

    struct Address {
        v4: Text<'a> = "ipAddressV4" | "IpAddressV4",
        v6: Text<'a> = "ipAddressV6" | "IpAddressV6",
    }

    struct RemoteAccount {
        id: Text<'a> = "accountId" | "AccountId",
        affiliated: Flag = "affiliated" | "Affiliated",
    }

    struct Detection {
        sequence: Sequence<'a> = "sequence" | "Sequence",
    }

    struct Sequence {
        actors: List<Actor<'a>> = "actors" | "Actors",
        endpoints: List<Endpoint<'a>> = "endpoints" | "Endpoints",
        resources: List<SequenceResource<'a>> = "resources" | "Resources",
    }

    struct Actor {
        user: ActorUser<'a> = "user" | "User",
    }

    struct ActorUser {
        name: Text<'a> = "name" | "Name",
        uid: Text<'a> = "uid" | "Uid",
        kind: Text<'a> = "type" | "Type",
        credential: Text<'a> = "credentialUid" | "CredentialUid",
    }

    struct Endpoint {
        ip: Text<'a> = "ip" | "Ip",
    }

    struct SequenceResource {
        uid: Text<'a> = "uid" | "Uid",
        kind: Text<'a> = "resourceType" | "ResourceType",
        name: Text<'a> = "name" | "Name",
        data: SequenceData<'a> = "data" | "Data",
    }

    struct SequenceData {
        access_key: SequenceKey<'a> = "accessKey" | "AccessKey",
    }

    struct SequenceKey {
        principal: Text<'a> = "principalId" | "PrincipalId",
        user_name: Text<'a> = "userName" | "UserName",
        user_type: Text<'a> = "userType" | "UserType",
    }
}

/// Makes an event of text that looks like a finding.
pub(crate) fn event(text: &str) -> Result<Event<'_>, String> {
    let mut record: Record<'_> = parse(text).ok_or("not readable: a number is out of range")?;
    let finding_type = record.kind.take("type")?;
    let id = record.id.take("id")?;
    let severity = record.severity.0.ok_or("`severity` is not a number")?;
    let time = |field: &str, text: &Text<'_>| -> Result<Option<Timestamp>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        address::time(text.get()).map(Some).ok_or_else(|| format!("`{field}` `{}` is not a time", cut(Cow::Borrowed(text.get()), 64)))
    };
    let created = time("createdAt", &record.created)?;
    let first = time("eventFirstSeen", &record.service.first_seen)?;
    let last = time("eventLastSeen", &record.service.last_seen)?;
    let updated = time("updatedAt", &record.updated)?.or(last).or(created).ok_or("`updatedAt` is missing")?;

    let mut event = Event::new(RecordKind::GuardDuty, updated, text);
    event.id = cut(Cow::Owned(format!("{id}@{updated}")), MAX_ID_BYTES);
    if is_account(record.account.get()) {
        event.account = record.account.take();
    }
    event.region = cut(record.region.take(), MAX_ID_BYTES);
    let resource = &mut record.resource;
    access_key(&mut event, &mut resource.access_key);
    instance(&mut event, &mut resource.instance);
    for bucket in &mut resource.buckets.0 {
        let name = bucket.name.take();
        if name.is_empty() {
            affected_arn(&mut event, &mut bucket.arn);
        } else {
            affected(&mut event, EntityType::S3Bucket, name, "");
        }
    }
    let ecs = &mut resource.ecs;
    for container in ecs.task.containers.0.iter_mut().chain([&mut resource.container]).chain(&mut resource.kubernetes.workload.containers.0) {
        affected(&mut event, EntityType::ContainerImage, container.image.take(), "");
    }
    kubernetes(&mut event, &mut resource.cluster, &mut resource.kubernetes);
    let arns = [&mut ecs.arn, &mut ecs.task.arn, &mut resource.function.arn, &mut resource.database.arn, &mut resource.limitless.arn];
    let more = [&mut resource.snapshot.arn, &mut resource.image.arn, &mut resource.recovery_point.arn];
    for arn in arns.into_iter().chain(more).chain(resource.volumes.scanned.0.iter_mut().map(|volume| &mut volume.arn)) {
        affected_arn(&mut event, arn);
    }
    let action = &mut record.service.action;
    for remote in [&mut action.connection, &mut action.call, &mut action.kubernetes, &mut action.login].into_iter().chain(&mut action.probe.details.0) {
        acted_from(&mut event, remote);
    }
    sequence(&mut event, &mut record.service.detection.sequence);

    event.finding = Some(Box::new(Finding {
        id: cut(if record.arn.is_empty() { id } else { record.arn.take() }, MAX_ID_BYTES),
        finding_type: cut(finding_type, MAX_ID_BYTES),
        product: Cow::Borrowed("GuardDuty"),
        title: record.title.take(),
        description: record.description.take(),
        severity: severity.clamp(0.0, 10.0),
        count: record.service.count.0.map_or(1, |count| count.max(1.0) as u64),
        first_seen: first.or(created).unwrap_or(updated),
        last_seen: last.unwrap_or(updated),
        updated,
        archived: record.service.archived.0,
    }));
    Ok(event)
}

pub(crate) fn affected<'a>(event: &mut Event<'a>, kind: EntityType, id: impl Into<Cow<'a, str>>, name: impl Into<Cow<'a, str>>) {
    link(event, Relation::AffectedBy, kind, id, name);
}

fn affected_arn<'a>(event: &mut Event<'a>, arn: &mut Text<'a>) {
    link_arn(event, Relation::AffectedBy, arn.take());
}

/// Links an IP address, made canonical; other text adds nothing.
pub(crate) fn affected_address<'a>(event: &mut Event<'a>, text: &mut Text<'a>) {
    if let Some((_, address)) = address::ip(text.take()) {
        if event.address.is_empty() {
            event.address = address.clone();
        }
        affected(event, EntityType::IpAddress, address, "");
    }
}

fn access_key<'a>(event: &mut Event<'a>, key: &mut AccessKey<'a>) {
    affected(event, EntityType::AccessKey, key.id.take(), "");
    principal(event, &mut key.user_type, &mut key.principal, &mut key.user_name);
}

/// Links who a finding's details describe by type, principal id and name.
pub(crate) fn principal<'a>(event: &mut Event<'a>, kind: &mut Text<'a>, principal: &mut Text<'a>, name: &mut Text<'a>) {
    let (principal, name) = (principal.take(), name.take());
    let arn = |path: &str| format!("arn:{}:iam::{}:{path}", partition(&event.region), event.account);
    let known = is_account(&event.account) && !name.is_empty();
    match kind.get() {
        "Root" if is_account(&event.account) => {
            let root = arn("root");
            affected(event, EntityType::Root, root, "");
        }
        "IAMUser" if known => {
            let user = arn(&format!("user/{name}"));
            affected(event, EntityType::User, user, name);
        }
        "AssumedRole" | "Role" => {
            if known {
                let role = arn(&format!("role/{name}"));
                affected(event, EntityType::Role, role, name);
            }
            if let Some((_, session)) = principal.split_once(':') {
                let session = session.to_owned();
                affected(event, EntityType::RoleSession, principal, session);
            }
        }
        "FederatedUser" | "IdentityCenterUser" | "SAMLUser" | "WebIdentityUser" | "Directory" => affected(event, EntityType::FederatedUser, principal, name),
        "AWSService" => affected(event, EntityType::AwsService, name, ""),
        "AWSAccount" if is_account(&principal) => affected(event, EntityType::Account, principal, ""),
        _ => {}
    }
}

fn instance<'a>(event: &mut Event<'a>, instance: &mut Instance<'a>) {
    affected(event, EntityType::Ec2Instance, instance.id.take(), "");
    affected_arn(event, &mut instance.profile.arn);
    for interface in &mut instance.interfaces.0 {
        affected(event, EntityType::NetworkInterface, interface.id.take(), "");
        for text in [&mut interface.private, &mut interface.public] {
            if let Some((_, address)) = address::ip(text.take()) {
                affected(event, EntityType::IpAddress, address, "");
            }
        }
    }
}

fn kubernetes<'a>(event: &mut Event<'a>, cluster: &mut Named<'a>, details: &mut Kubernetes<'a>) {
    let prefix = if cluster.name.is_empty() { String::new() } else { format!("{}/", cluster.name) };
    let id = if cluster.arn.is_empty() { cluster.name.0.clone() } else { cluster.arn.take() };
    affected(event, EntityType::EksCluster, id, cluster.name.take());
    let user = details.user.name.take();
    if !user.is_empty() {
        affected(event, EntityType::KubernetesSubject, format!("{prefix}{user}"), user);
    }
    let workload = &mut details.workload;
    let pod = matches!(workload.kind.get(), "pod" | "pods" | "Pod");
    if pod && !workload.name.is_empty() {
        affected(event, EntityType::Pod, format!("{prefix}{}/{}", workload.namespace, workload.name), workload.name.take());
    }
}

fn acted_from<'a>(event: &mut Event<'a>, remote: &mut Remote<'a>) {
    affected_address(event, &mut remote.remote.v4);
    affected_address(event, &mut remote.remote.v6);
    affected(event, EntityType::NetworkInterface, remote.interface.take(), "");
    if !remote.account.affiliated.0 && is_account(remote.account.id.get()) {
        affected(event, EntityType::Account, remote.account.id.take(), "");
    }
    if event.user_agent.is_empty() {
        event.user_agent = cut(remote.user_agent.take(), 1024);
    }
}

/// An attack sequence names its actors, the addresses they came from and the resources they reached.
fn sequence<'a>(event: &mut Event<'a>, sequence: &mut Sequence<'a>) {
    for actor in &mut sequence.actors.0 {
        let user = &mut actor.user;
        affected(event, EntityType::AccessKey, user.credential.take(), "");
        principal(event, &mut user.kind, &mut user.uid, &mut user.name);
    }
    for endpoint in &mut sequence.endpoints.0 {
        affected_address(event, &mut endpoint.ip);
    }
    for resource in &mut sequence.resources.0 {
        let uid = resource.uid.take();
        match resource.kind.get() {
            _ if uid.starts_with("arn:") => link_arn(event, Relation::AffectedBy, uid),
            "EC2_INSTANCE" => affected(event, EntityType::Ec2Instance, uid, ""),
            "EC2_NETWORK_INTERFACE" => affected(event, EntityType::NetworkInterface, uid, ""),
            "S3_BUCKET" => affected(event, EntityType::S3Bucket, resource.name.take(), ""),
            "ACCESS_KEY" => {
                affected(event, EntityType::AccessKey, if resource.name.is_empty() { uid } else { resource.name.take() }, "");
                let key = &mut resource.data.access_key;
                principal(event, &mut key.user_type, &mut key.principal, &mut key.user_name);
            }
            "CONTAINER" => affected(event, EntityType::ContainerImage, resource.name.take(), ""),
            _ => {}
        }
    }
}
