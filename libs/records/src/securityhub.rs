//! AWS Security Hub findings in the AWS Security Finding Format (ASFF).
//!
//! Each update of a finding is an event of its own, at the time of the update.
//!
//! Source: Security Hub API reference, 2018-10-26, shape `AwsSecurityFinding`.

use std::borrow::Cow;

use gumshoe_model::{EntityType, Event, Finding, RecordKind, Relation, Timestamp, entity::MAX_ID_BYTES};

use crate::{
    address,
    arn::{Arn, is_account, link_arn},
    guardduty::{affected, affected_address, principal},
    json::{List, Number, Required, Text, cut, lenient, parse},
};

lenient! {
    struct Record {
        id: Required<'a> = "Id",
        product: Required<'a> = "ProductArn",
        account: Text<'a> = "AwsAccountId",
        region: Text<'a> = "Region",
        types: List<Text<'a>> = "Types",
        provider: Provider<'a> = "FindingProviderFields",
        created: Text<'a> = "CreatedAt",
        updated: Text<'a> = "UpdatedAt",
        first_observed: Text<'a> = "FirstObservedAt",
        last_observed: Text<'a> = "LastObservedAt",
        severity: SeverityField<'a> = "Severity",
        title: Text<'a> = "Title",
        description: Text<'a> = "Description",
        resources: List<Resource<'a>> = "Resources",
        state: Text<'a> = "RecordState",
        workflow: Workflow<'a> = "Workflow",
        action: Action<'a> = "Action",
        network: Network<'a> = "Network",
        detection: Detection<'a> = "Detection",
    }

    struct Provider {
        types: List<Text<'a>> = "Types",
        severity: SeverityField<'a> = "Severity",
    }

    struct SeverityField {
        label: Text<'a> = "Label",
        normalized: Number = "Normalized",
        product: Number = "Product",
    }

    struct Workflow {
        status: Text<'a> = "Status",
    }

    struct Resource {
        kind: Text<'a> = "Type",
        id: Text<'a> = "Id",
        details: Details<'a> = "Details",
    }

    struct Details {
        access_key: AccessKey<'a> = "AwsIamAccessKey",
        container: Container<'a> = "Container",
    }

    struct AccessKey {
        id: Text<'a> = "AccessKeyId",
        principal: Text<'a> = "PrincipalId",
        kind: Text<'a> = "PrincipalType",
        name: Text<'a> = "PrincipalName" | "UserName",
    }

    struct Container {
        image: Text<'a> = "ImageName",
    }

    struct Action {
        connection: Remote<'a> = "NetworkConnectionAction",
        call: Remote<'a> = "AwsApiCallAction",
        probe: Probe<'a> = "PortProbeAction",
    }

    struct Probe {
        details: List<Remote<'a>> = "PortProbeDetails",
    }

    struct Remote {
        remote: Address<'a> = "RemoteIpDetails",
    }

    struct Address {
        v4: Text<'a> = "IpAddressV4",
    }

    struct Network {
        source_v4: Text<'a> = "SourceIpV4",
        source_v6: Text<'a> = "SourceIpV6",
        target_v4: Text<'a> = "DestinationIpV4",
        target_v6: Text<'a> = "DestinationIpV6",
    }

    struct Detection {
        sequence: Sequence<'a> = "Sequence",
    }

    struct Sequence {
        actors: List<Actor<'a>> = "Actors",
        endpoints: List<Endpoint<'a>> = "Endpoints",
    }

    struct Actor {
        user: ActorUser<'a> = "User",
    }

    struct ActorUser {
        name: Text<'a> = "Name",
        uid: Text<'a> = "Uid",
        kind: Text<'a> = "Type",
        credential: Text<'a> = "CredentialUid",
    }

    struct Endpoint {
        ip: Text<'a> = "Ip",
    }
}

/// Makes an event of text that looks like a finding.
pub(crate) fn event(text: &str) -> Result<Event<'_>, String> {
    let mut record: Record<'_> = parse(text).ok_or("not readable: a number is out of range")?;
    let id = record.id.take("Id")?;
    let product = record.product.take("ProductArn")?;
    let time = |field: &str, text: &Text<'_>| -> Result<Option<Timestamp>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        address::time(text.get()).map(Some).ok_or_else(|| format!("`{field}` `{}` is not a time", cut(Cow::Borrowed(text.get()), 64)))
    };
    let created = time("CreatedAt", &record.created)?;
    let first = time("FirstObservedAt", &record.first_observed)?;
    let last = time("LastObservedAt", &record.last_observed)?;
    let updated = time("UpdatedAt", &record.updated)?.or(last).or(created).ok_or("`UpdatedAt` is missing")?;

    let mut event = Event::new(RecordKind::SecurityHub, updated, text);
    event.id = cut(Cow::Owned(format!("{id}@{updated}")), MAX_ID_BYTES);
    if is_account(record.account.get()) {
        event.account = record.account.take();
    }
    event.region = match Arn::parse(&product) {
        Some(arn) if record.region.is_empty() => Cow::Owned(arn.region.to_owned()),
        _ => cut(record.region.take(), MAX_ID_BYTES),
    };
    for resource in &mut record.resources.0 {
        link_resource(&mut event, resource);
    }
    let action = &mut record.action;
    for remote in [&mut action.connection, &mut action.call].into_iter().chain(&mut action.probe.details.0) {
        affected_address(&mut event, &mut remote.remote.v4);
    }
    let network = &mut record.network;
    for text in [&mut network.source_v4, &mut network.source_v6, &mut network.target_v4, &mut network.target_v6] {
        affected_address(&mut event, text);
    }
    for actor in &mut record.detection.sequence.actors.0 {
        affected(&mut event, EntityType::AccessKey, actor.user.credential.take(), "");
        principal(&mut event, &mut actor.user.kind, &mut actor.user.uid, &mut actor.user.name);
    }
    for endpoint in &mut record.detection.sequence.endpoints.0 {
        affected_address(&mut event, &mut endpoint.ip);
    }

    let types = record.types.0.first_mut().or(record.provider.types.0.first_mut());
    event.finding = Some(Box::new(Finding {
        id: cut(id, MAX_ID_BYTES),
        finding_type: cut(types.map(Text::take).unwrap_or_default(), MAX_ID_BYTES),
        product: cut(product, MAX_ID_BYTES),
        title: record.title.take(),
        description: record.description.take(),
        severity: score(&record.severity).or_else(|| score(&record.provider.severity)).unwrap_or(0.0),
        count: 1,
        first_seen: first.or(created).unwrap_or(updated),
        last_seen: last.unwrap_or(updated),
        updated,
        archived: record.state.get() == "ARCHIVED" || matches!(record.workflow.status.get(), "RESOLVED" | "SUPPRESSED"),
    }));
    Ok(event)
}

/// 0 to 10. Where label and number disagree (a normalized 1 is LOW to Security Hub, 0.1 to GuardDuty's bands), the label's band holds.
fn score(severity: &SeverityField<'_>) -> Option<f64> {
    let number = severity.normalized.0.map(|normalized| normalized / 10.0);
    let band = match severity.label.get() {
        "INFORMATIONAL" => Some((0.0, 0.9)),
        "LOW" => Some((1.0, 3.9)),
        "MEDIUM" => Some((4.0, 6.9)),
        "HIGH" => Some((7.0, 8.9)),
        "CRITICAL" => Some((9.0, 10.0)),
        _ => None,
    };
    match (band, number) {
        (Some((low, high)), Some(number)) => Some(number.clamp(low, high)),
        (Some((low, _)), None) => Some(low),
        (None, Some(number)) => Some(number.clamp(0.0, 10.0)),
        (None, None) => severity.product.0.map(|product| product.clamp(0.0, 10.0)),
    }
}

fn link_resource<'a>(event: &mut Event<'a>, resource: &mut Resource<'a>) {
    let id = resource.id.take();
    // `AWS::::Account:123456789012`, `AWS::IAM::AccessKey:AKIA…`: the part after the last colon is the name.
    let last = |id: &str| id.rsplit(':').next().unwrap_or_default().to_owned();
    match resource.kind.get() {
        "AwsAccount" => {
            let account = last(&id);
            if is_account(&account) {
                affected(event, EntityType::Account, account, "");
            }
        }
        "AwsIamAccessKey" => {
            let key = &mut resource.details.access_key;
            affected(event, EntityType::AccessKey, if key.id.is_empty() { Cow::Owned(last(&id)) } else { key.id.take() }, "");
            principal(event, &mut key.kind, &mut key.principal, &mut key.name);
        }
        "AwsS3Bucket" if !id.starts_with("arn:") => affected(event, EntityType::S3Bucket, id, ""),
        "AwsEc2Instance" if id.starts_with("i-") => affected(event, EntityType::Ec2Instance, id, ""),
        "AwsEc2NetworkInterface" if id.starts_with("eni-") => affected(event, EntityType::NetworkInterface, id, ""),
        _ if id.starts_with("arn:") => link_arn(event, Relation::AffectedBy, id),
        _ => affected(event, EntityType::Resource, id, ""),
    }
    affected(event, EntityType::ContainerImage, resource.details.container.image.take(), "");
}
