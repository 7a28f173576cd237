//! AWS CloudTrail records, versions 1.00 to 1.11 and later minor versions.
//!
//! Needed are `eventTime`, `eventSource` and `eventName`; of an Insight record `eventTime` and `insightDetails`. An Insight
//! record is an event without an actor: it counts calls of others and is none itself.
//!
//! Source: CloudTrail user guide, "CloudTrail record contents" and "CloudTrail userIdentity element".

use std::borrow::Cow;

use gumshoe_model::{EntityRef, EntityType, Event, RecordKind, Relation, entity::MAX_ID_BYTES};

use crate::{
    address,
    arn::{is_account, last_part, link, partition},
    json::{List, Required, Text, cut, lenient, parse},
};

mod identity;
mod resources;

use identity::Identity;
use resources::{Parameters, Resource, Response};

/// The longest user agent and error that are kept, in bytes.
const MAX_USER_AGENT_BYTES: usize = 1024;
const MAX_ERROR_BYTES: usize = 256;

lenient! {
    /// The fields of a record that the graph needs. CloudTrail Lake writes column names in lower case. The two large ones are
    /// boxed because a record is moved several times while it is read.
    struct Record {
        event_version: Text<'a> = "eventVersion" | "eventversion",
        identity: Identity<'a> = "userIdentity" | "useridentity",
        event_time: Required<'a> = "eventTime" | "eventtime",
        event_source: Required<'a> = "eventSource" | "eventsource",
        event_name: Required<'a> = "eventName" | "eventname",
        region: Text<'a> = "awsRegion" | "awsregion",
        source_address: Text<'a> = "sourceIPAddress" | "sourceipaddress",
        user_agent: Text<'a> = "userAgent" | "useragent",
        error_code: Text<'a> = "errorCode" | "errorcode",
        error_message: Text<'a> = "errorMessage" | "errormessage",
        request: Option<Box<Parameters<'a>>> = "requestParameters" | "requestparameters",
        response: Option<Box<Response<'a>>> = "responseElements" | "responseelements",
        resources: List<Resource<'a>> = "resources",
        event_id: Text<'a> = "eventID" | "eventid",
        event_type: Text<'a> = "eventType" | "eventtype",
        recipient: Text<'a> = "recipientAccountId" | "recipientaccountid",
        addendum: Addendum<'a> = "addendum",
        insight: Insight<'a> = "insightDetails" | "insightdetails",
    }

    struct Addendum {
        original: Text<'a> = "originalEventID" | "originaleventid",
    }

    struct Insight {
        event_source: Text<'a> = "eventSource" | "eventsource",
        event_name: Text<'a> = "eventName" | "eventname",
    }
}

/// Reads `text` as a record if it has all that a record needs; says nothing about why it is none.
pub(crate) fn recognise(text: &str) -> Option<Record<'_>> {
    parse::<Record<'_>>(text).filter(|record| record.event_time.is_text() && record.event_source.is_text() && record.event_name.is_text())
}

/// Makes an event of text that looks like a record.
pub(crate) fn event<'a>(text: &'a str) -> Result<Event<'a>, String> {
    normalise(parse(text).ok_or("not readable: a number is out of range")?, text)
}

/// Makes an event of a record.
pub(crate) fn normalise<'a>(mut record: Record<'a>, text: &'a str) -> Result<Event<'a>, String> {
    check_version(record.event_version.get())?;
    let time = record.event_time.take("eventTime")?;
    let time = address::time(&time).ok_or_else(|| format!("`eventTime` `{}` is not a time", cut(Cow::Borrowed(&time), 64)))?;
    let mut event = Event::new(RecordKind::CloudTrail, time, text);
    let is_insight = !record.insight.event_source.is_empty();
    if is_insight {
        event.service = record.insight.event_source.take();
        event.operation = record.insight.event_name.take();
    } else {
        event.service = record.event_source.take("eventSource")?;
        event.operation = record.event_name.take("eventName")?;
    }
    event.service = cut(event.service, MAX_ID_BYTES);
    event.operation = cut(event.operation, MAX_ID_BYTES);
    event.id = cut(record.event_id.take(), MAX_ID_BYTES);
    event.region = cut(record.region.take(), MAX_ID_BYTES);
    event.account = match (is_account(record.recipient.get()), is_account(record.identity.account.get())) {
        (true, _) => record.recipient.take(),
        (false, true) => record.identity.account.0.clone(),
        (false, false) => Cow::Borrowed(""),
    };
    event.address = cut(address::origin(record.source_address.take()), MAX_ID_BYTES);
    event.user_agent = cut(record.user_agent.take(), MAX_USER_AGENT_BYTES);
    event.access_key = cut(record.identity.access_key.take(), MAX_ID_BYTES);
    event.corrects = cut(record.addendum.original.take(), MAX_ID_BYTES);
    event.error = match (record.error_code.is_empty(), record.error_message.is_empty()) {
        (false, _) => record.error_code.take(),
        (true, false) => record.error_message.take(),
        (true, true) => match &record.response {
            Some(response) if response.console_login.get() == "Failure" => Cow::Borrowed("Failure"),
            _ => Cow::Borrowed(""),
        },
    };
    event.error = cut(event.error, MAX_ERROR_BYTES);
    if is_insight {
        return Ok(event);
    }

    identity::principal(&mut record.identity, &mut event);
    if event.service == "sts.amazonaws.com" {
        assumed(&mut record, &mut event);
    } else {
        if record.event_type.get() == "AwsConsoleSignIn" || event.operation == "ConsoleLogin" {
            let account = event.account.clone();
            link(&mut event, Relation::LoggedIn, EntityType::Account, account, "");
        }
        resources::touched(&mut record, &mut event);
    }
    Ok(event)
}

fn check_version(version: &str) -> Result<(), String> {
    match version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
        Some(1) | None => Ok(()),
        Some(_) => Err(format!("`eventVersion` `{}` is not a CloudTrail version: expected 1.x", cut(Cow::Borrowed(version), 64))),
    }
}

/// What a call of the Security Token Service assumed: a role (also when refused), the session that came of it and its access key.
fn assumed<'a>(record: &mut Record<'a>, event: &mut Event<'a>) {
    if let Some(request) = &mut record.request {
        if event.origin.is_none() && !request.source_identity.is_empty() {
            event.origin = Some(EntityRef::new(EntityType::FederatedUser, cut(request.source_identity.take(), MAX_ID_BYTES)));
        }
        let role = request.role_arn.take();
        let name = last_part(&role).to_owned();
        link(event, Relation::Assumed, EntityType::Role, role, name);
        if event.operation == "AssumeRoot" {
            let target = request.target_principal.take();
            let root = if is_account(&target) { Cow::Owned(format!("arn:{}:iam::{target}:root", partition(&event.region))) } else { target };
            link(event, Relation::Assumed, EntityType::Root, root, "");
        }
    }
    if event.error.is_empty()
        && let Some(response) = &mut record.response
    {
        let session = &mut response.assumed_role_user;
        let arn = session.arn.take();
        let name = last_part(&arn).to_owned();
        let id = if session.id.is_empty() { arn } else { session.id.take() };
        link(event, Relation::Assumed, EntityType::RoleSession, id, name);
        let federated = response.federated_user.arn.take();
        let name = last_part(&federated).to_owned();
        link(event, Relation::Assumed, EntityType::FederatedUser, federated, name);
        link(event, Relation::Assumed, EntityType::AccessKey, response.credentials.access_key.take(), "");
    }
}
