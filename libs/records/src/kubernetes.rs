//! Kubernetes audit events (`audit.k8s.io`), as EKS writes them to its control plane log.
//!
//! One request leaves an event at each of its stages. Each is an event here, known by `auditID/stage`, but only the last one
//! (`ResponseComplete`, `Panic`, or a record without a stage) has a service and an operation, so that a call counts once.
//!
//! Sources: Kubernetes `audit.k8s.io/v1` API reference; EKS user guide, "Send control plane logs to CloudWatch Logs".

use std::borrow::Cow;

use gumshoe_model::{EntityRef, EntityType, Event, RecordKind, Relation, entity::MAX_ID_BYTES};

use crate::{
    address,
    arn::{Arn, entity, is_account, last_part, link, role_of_session},
    find::Context,
    json::{List, Number, Pairs, Text, cut, lenient, parse},
};

lenient! {
    struct Audit {
        kind: Text<'a> = "kind",
        id: Text<'a> = "auditID",
        stage: Text<'a> = "stage",
        verb: Text<'a> = "verb",
        uri: Text<'a> = "requestURI",
        user: User<'a> = "user",
        impersonated: User<'a> = "impersonatedUser",
        addresses: List<Text<'a>> = "sourceIPs",
        user_agent: Text<'a> = "userAgent",
        object: ObjectReference<'a> = "objectRef",
        status: Status<'a> = "responseStatus",
        request: Object<'a> = "requestObject",
        stage_time: Text<'a> = "stageTimestamp",
        received_time: Text<'a> = "requestReceivedTimestamp",
        time: Text<'a> = "timestamp",
    }

    struct User {
        name: Text<'a> = "username",
        uid: Text<'a> = "uid",
        extra: Pairs<'a, List<Text<'a>>> = "extra",
    }

    struct ObjectReference {
        resource: Text<'a> = "resource",
        subresource: Text<'a> = "subresource",
        namespace: Text<'a> = "namespace",
        name: Text<'a> = "name",
    }

    struct Status {
        code: Number = "code",
        reason: Text<'a> = "reason",
    }

    struct Object {
        spec: Spec<'a> = "spec",
    }

    struct Spec {
        containers: List<Container<'a>> = "containers",
        first: List<Container<'a>> = "initContainers",
        ephemeral: List<Container<'a>> = "ephemeralContainers",
        template: Template<'a> = "template",
        job: JobTemplate<'a> = "jobTemplate",
    }

    struct Template {
        spec: PodSpec<'a> = "spec",
    }

    struct JobTemplate {
        spec: JobSpec<'a> = "spec",
    }

    struct JobSpec {
        template: Template<'a> = "template",
    }

    struct PodSpec {
        containers: List<Container<'a>> = "containers",
        first: List<Container<'a>> = "initContainers",
    }

    struct Container {
        image: Text<'a> = "image",
    }
}

/// Reads `text` as an audit event if it looks like one; says nothing about why it is none.
pub(crate) fn recognise(text: &str) -> Option<Audit<'_>> {
    parse::<Audit<'_>>(text).filter(|audit| audit.kind.get() == "Event" && !(audit.verb.is_empty() && audit.id.is_empty()))
}

/// Makes an event of text that looks like an audit event.
pub(crate) fn event<'a>(text: &'a str, context: &Context) -> Result<Event<'a>, String> {
    normalise(parse(text).ok_or("not readable: a number is out of range")?, text, context)
}

/// Makes an event of an audit event.
pub(crate) fn normalise<'a>(mut audit: Audit<'a>, text: &'a str, context: &Context) -> Result<Event<'a>, String> {
    if audit.verb.is_empty() {
        return Err("`verb` is missing".to_owned());
    }
    let time = [("stageTimestamp", &audit.stage_time), ("requestReceivedTimestamp", &audit.received_time), ("timestamp", &audit.time)];
    let Some((field, time)) = time.into_iter().find(|(_, time)| !time.is_empty()) else {
        return Err("`stageTimestamp` is missing".to_owned());
    };
    let time = address::time(time.get()).ok_or_else(|| format!("`{field}` `{}` is not a time", cut(Cow::Borrowed(time.get()), 64)))?;
    let mut event = Event::new(RecordKind::EksAudit, time, text);
    if !audit.id.is_empty() {
        event.id = cut(Cow::Owned(format!("{}/{}", audit.id, audit.stage)), MAX_ID_BYTES);
    }
    let cluster = Cluster::new(context);
    event.account = Cow::Owned(cluster.account.to_owned());
    event.region = Cow::Owned(cluster.region.to_owned());
    if matches!(audit.stage.get(), "" | "ResponseComplete" | "Panic") {
        event.service = Cow::Borrowed("eks.amazonaws.com");
        event.operation = cut(operation(&audit), MAX_ID_BYTES);
    }
    if let Some(code) = audit.status.code.0.filter(|code| *code >= 400.0) {
        event.error = if audit.status.reason.is_empty() { Cow::Owned(format!("{code}")) } else { cut(audit.status.reason.take(), 256) };
    }
    if let Some(first) = audit.addresses.0.first_mut() {
        event.address = cut(address::origin(first.take()), MAX_ID_BYTES);
    }
    event.user_agent = cut(audit.user_agent.take(), 1024);

    let extra = |key: &str| {
        let found = audit.user.extra.0.iter().find(|(name, _)| name == key).and_then(|(_, values)| values.0.first());
        found.map(|text| text.0.clone()).unwrap_or_default()
    };
    event.access_key = cut(extra("accessKeyId"), MAX_ID_BYTES);
    let (arn, canonical) = (extra("arn"), extra("canonicalArn"));
    let (principal, session) = (extra("principalId"), extra("sessionName"));
    let pod = extra("authentication.kubernetes.io/pod-name");

    let name = audit.user.name.take();
    if !name.is_empty() {
        event.actor = Some(EntityRef::new(EntityType::KubernetesSubject, cut(Cow::Owned(cluster.inside(&name)), MAX_ID_BYTES)));
        event.actor_alias = cut(audit.user.uid.take(), MAX_ID_BYTES);
    }
    link(&mut event, Relation::Used, EntityType::EksCluster, cluster.id.to_owned(), cluster.name.to_owned());
    iam(&mut event, arn, canonical, &principal, &session);
    if !audit.impersonated.name.is_empty() {
        let name = audit.impersonated.name.take();
        link(&mut event, Relation::Assumed, EntityType::KubernetesSubject, cluster.inside(&name), name);
    }
    if !pod.is_empty()
        && let Some((namespace, _)) = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'))
    {
        link(&mut event, Relation::Used, EntityType::Pod, cluster.inside(&format!("{namespace}/{pod}")), pod);
    }
    event.actor_name = cut(name, MAX_ID_BYTES);
    if audit.object.resource.get() == "pods" && !audit.object.name.is_empty() {
        let id = cluster.inside(&format!("{}/{}", audit.object.namespace, audit.object.name));
        link(&mut event, Relation::AffectedBy, EntityType::Pod, id, audit.object.name.take());
    }
    let spec = &mut audit.request.spec;
    let nested = [&mut spec.template.spec, &mut spec.job.spec.template.spec];
    let nested = nested.into_iter().flat_map(|spec| spec.containers.0.iter_mut().chain(&mut spec.first.0));
    for container in spec.containers.0.iter_mut().chain(&mut spec.first.0).chain(&mut spec.ephemeral.0).chain(nested) {
        link(&mut event, Relation::Used, EntityType::ContainerImage, container.image.take(), "");
    }
    Ok(event)
}

/// `create pods/exec`, or `get /healthz` for what is no resource.
fn operation<'a>(audit: &Audit<'a>) -> Cow<'a, str> {
    let (verb, object) = (&audit.verb, &audit.object);
    Cow::Owned(match (object.resource.is_empty(), object.subresource.is_empty()) {
        (false, true) => format!("{verb} {}", object.resource),
        (false, false) => format!("{verb} {}/{}", object.resource, object.subresource),
        (true, _) => format!("{verb} {}", audit.uri.get().split('?').next().unwrap_or_default()).trim_end().to_owned(),
    })
}

/// The IAM principal behind the Kubernetes user is the event's origin; the session of a role is linked too.
fn iam<'a>(event: &mut Event<'a>, arn: Cow<'a, str>, canonical: Cow<'a, str>, principal: &str, session: &str) {
    let role = role_of_session(&arn).map(Cow::Owned);
    if role.is_some() {
        let name = last_part(&arn).to_owned();
        let id = if principal.starts_with("AROA") && !session.is_empty() { Cow::Owned(format!("{principal}:{session}")) } else { arn.clone() };
        link(event, Relation::Used, EntityType::RoleSession, id, name);
    }
    let identity = if Arn::parse(&canonical).is_some() { Some(canonical) } else { role.or(Some(arn)) };
    event.origin = identity.filter(|arn| Arn::parse(arn).is_some()).map(|arn| {
        let (kind, id, _) = entity(arn);
        EntityRef::new(kind, cut(id, MAX_ID_BYTES))
    });
}

/// The cluster that wrote the log, as far as options or the log group's name tell.
struct Cluster<'c> {
    id: &'c str,
    name: &'c str,
    account: &'c str,
    region: &'c str,
}

impl<'c> Cluster<'c> {
    fn new(context: &'c Context) -> Self {
        let id = context.cluster.as_deref().unwrap_or_default();
        let arn = Arn::parse(id);
        let account = arn.map_or_else(|| context.account.as_deref().unwrap_or_default(), |arn| arn.account);
        Self {
            id,
            name: arn.map_or(id, |arn| last_part(arn.resource)),
            account: if is_account(account) { account } else { "" },
            region: arn.map_or("", |arn| arn.region),
        }
    }

    fn inside(&self, name: &str) -> String {
        if self.name.is_empty() { name.to_owned() } else { format!("{}/{name}", self.name) }
    }
}
