//! How risky an entity is, with the facts that make the score.
//!
//! The facts are findings that affect the entity (active in the last 30 days, not archived), what was new about it in the
//! last 24 hours against the 45 days before, and calls that failed more often than before. How they make a score is
//! published in `gumshoe_behavior`.

use std::borrow::Cow;

use futures::future::try_join3;
use gumshoe_api::{
    convert::{entity_to_proto, time_from_proto, time_to_proto},
    graph::v1 as proto,
};
use gumshoe_behavior::{Baseline, Calls, Criticality, Input, Kind, New, failures, newness};
use gumshoe_enrich::Places;
use gumshoe_lake::GraphLake;
use gumshoe_model::{EntityKey, EntityType, Finding, TimeWindow, Timestamp, time::MICROS_PER_DAY};
use gumshoe_profiles::Profiles;
use gumshoe_runtime::status;

use crate::{
    activity::{self, BASELINE_DAYS, Keep, Tops},
    findings,
    profile::days_with_records,
    rows::Answer,
    search,
};

/// How far back findings count, in days.
const FINDING_DAYS: i64 = 30;
/// Findings that count, worst first.
const MAX_FINDINGS: usize = 1_000;
/// New values of one kind that count; more would move the score by less than can be seen.
const MAX_NEW: usize = 1_000;

/// The risk of `entity` as of `time`. An entity never seen has score 0.
pub(crate) async fn read(lake: &GraphLake, profiles: &Profiles, places: &Places, entity: &EntityKey, time: Timestamp) -> Answer<proto::Risk> {
    let known = search::summaries(lake, std::slice::from_ref(entity)).await?;
    let Some(summary) = known.get(entity) else { return Ok(answer(entity, time, &[])) };
    let window = |days: i64| {
        let start = Timestamp((time.0 - days * MICROS_PER_DAY).max(0));
        TimeWindow::new(start, Timestamp(time.0 + 1)).map_err(|error| status::internal(&error))
    };
    let scope = window(1)?.to_hours();
    let filter = findings::Filter { scope: Some(window(FINDING_DAYS)?), entity: Some(entity.clone()), ..findings::Filter::default() };
    let account = if entity.kind == EntityType::Account { &entity.id } else { &summary.account };
    let (found, days, said) = try_join3(
        activity::read(lake, places, entity, &summary.aliases, scope, Keep::New(MAX_NEW)),
        days_with_records(lake, profiles, account, scope.before(BASELINE_DAYS)),
        findings::list(lake, &filter, MAX_FINDINGS, None),
    )
    .await?;

    let mut inputs: Vec<Input> = said.items.iter().filter_map(|summary| Input::of_finding(&finding(summary))).collect();
    let calls = |count: u64, errors: u64| Calls { successes: count.saturating_sub(errors), failures: errors };
    let baseline = Baseline { days, calls: calls(found.before.0, found.before.1) };
    let failed: Vec<String> = found.failed.finish().items.into_iter().map(operation).collect();
    if found.totals.count > 0 {
        inputs.extend(failures(calls(found.totals.count, found.totals.errors), baseline, found.totals.last.min(time), &failed));
    }
    let mut values = Vec::new();
    let mut add = |kind: Kind, tops: Tops, value: fn(proto::Activity) -> String| {
        values.extend(tops.finish().items.into_iter().map(|activity| {
            let last = activity.measures.as_ref().and_then(|measures| measures.last_time.as_ref());
            let last = last.and_then(|last| time_from_proto("time", last).ok()).unwrap_or(time);
            New { kind, value: value(activity), time: last.min(time) }
        }));
    };
    add(Kind::Country, found.countries, |activity| activity.name);
    add(Kind::Network, found.networks, |activity| format!("AS{}", activity.place.map_or(0, |place| place.asn)));
    add(Kind::UserAgent, found.user_agents, |activity| activity.name);
    add(Kind::Operation, found.operations, operation);
    add(Kind::Address, found.addresses, |activity| activity.name);
    inputs.extend(newness(&values, baseline));
    Ok(answer(entity, time, &inputs))
}

fn operation(activity: proto::Activity) -> String {
    format!("{} {}", activity.service, activity.name)
}

fn finding(summary: &proto::FindingSummary) -> Finding<'_> {
    let time = |time| time_from_proto("time", time).ok();
    Finding {
        id: Cow::Borrowed(&summary.id),
        finding_type: Cow::Borrowed(&summary.r#type),
        product: Cow::Borrowed(&summary.product),
        title: Cow::Borrowed(&summary.title),
        description: Cow::Borrowed(""),
        severity: summary.severity,
        count: summary.count,
        first_seen: summary.first_time.as_ref().and_then(time).unwrap_or_default(),
        last_seen: summary.last_time.as_ref().and_then(time).unwrap_or_default(),
        updated: summary.update_time.as_ref().and_then(time).unwrap_or_default(),
        archived: summary.archived,
    }
}

fn answer(entity: &EntityKey, time: Timestamp, inputs: &[Input]) -> proto::Risk {
    let risk = gumshoe_behavior::risk(inputs, time, Criticality::Normal);
    proto::Risk {
        entity: Some(entity_to_proto(entity)),
        score: risk.score,
        level: risk.level.as_str().to_owned(),
        parts: risk
            .parts
            .into_iter()
            .map(|part| proto::RiskPart {
                source: part.input.source.as_str().to_owned(),
                description: part.input.label,
                contribution: part.contribution,
                time: Some(time_to_proto(part.input.time)),
                evidence: part.input.evidence,
            })
            .collect(),
        rest: risk.rest,
        time: Some(time_to_proto(time)),
    }
}
