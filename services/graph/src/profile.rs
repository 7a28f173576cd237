//! An entity summed up over a scope time, compared with the 45 days before it.

use bytes::Bytes;
use futures::future::try_join3;
use gumshoe_api::{
    convert::{entity_to_proto, measures_to_proto, time_to_proto, window_to_proto},
    graph::v1::EntityProfile,
};
use gumshoe_enrich::Places;
use gumshoe_lake::GraphLake;
use gumshoe_model::{
    EntityKey, EntityType, TimeWindow, Timestamp,
    time::{MICROS_PER_DAY, MICROS_PER_HOUR},
};
use gumshoe_profiles::{Key, Profiles};
use gumshoe_runtime::status;

use crate::{
    activity::{self, BASELINE_DAYS, Keep},
    findings,
    rows::{self, Answer, KEPT},
    search,
};

/// The longest scope time, in days.
pub(crate) const MAX_SCOPE_DAYS: i64 = 366;

/// The profile of `entity`; without a scope, of the 24 hours that end with its last record.
///
/// The scope is widened to whole hours, the grain of edges. `list_size` is the most items in each list.
pub(crate) async fn read(
    lake: &GraphLake,
    profiles: &Profiles,
    places: &Places,
    entity: &EntityKey,
    scope: Option<TimeWindow>,
    list_size: usize,
) -> Answer<EntityProfile> {
    let scope = scope.map(TimeWindow::to_hours);
    if scope.is_some_and(|scope| scope.end().0 - scope.start().0 > MAX_SCOPE_DAYS * MICROS_PER_DAY) {
        return Err(status::invalid_argument("scope", format!("must be at most {MAX_SCOPE_DAYS} days long")));
    }
    let known = search::summaries(lake, std::slice::from_ref(entity)).await?;
    let summary = known.get(entity).ok_or_else(|| status::not_found("entity", &entity.to_string()))?;
    let scope = match scope {
        Some(scope) => scope,
        None => last_day(summary.last)?,
    };
    let baseline = scope.before(BASELINE_DAYS);
    let around = TimeWindow::new(baseline.start(), scope.end()).map_err(|error| status::internal(&error))?;
    let account = if entity.kind == EntityType::Account { &entity.id } else { &summary.account };
    let (found, days, findings) = try_join3(
        activity::read(lake, places, entity, &summary.aliases, scope, Keep::All(list_size)),
        days_with_records(lake, profiles, account, baseline),
        findings::of_entity(lake, entity, around),
    )
    .await?;
    let address = (entity.kind == EntityType::IpAddress).then(|| entity.id.parse().ok()).flatten();
    Ok(EntityProfile {
        entity: Some(entity_to_proto(entity)),
        name: summary.name.clone(),
        aliases: summary.aliases.clone(),
        account_id: account.clone(),
        place: address.map(|address| activity::place(places, address)),
        first_time: Some(time_to_proto(summary.first)),
        last_time: Some(time_to_proto(summary.last)),
        scope: Some(window_to_proto(scope)),
        baseline: Some(window_to_proto(baseline)),
        baseline_days: days,
        totals: Some(measures_to_proto(&found.totals)),
        hours: activity::hours_to_proto(&found.hours),
        operations: Some(found.operations.finish()),
        addresses: Some(found.addresses.finish()),
        countries: Some(found.countries.finish()),
        networks: Some(found.networks.finish()),
        user_agents: Some(found.user_agents.finish()),
        errors: Some(found.errors.finish()),
        resources: Some(found.resources.finish()),
        principals: Some(found.principals.finish()),
        roles_assumed: Some(found.roles_assumed.finish()),
        assumed_by: Some(found.assumed_by.finish()),
        flows: Some(found.flows.finish()),
        findings,
    })
}

/// The 24 hours that end with the hour of `last`.
pub(crate) fn last_day(last: Timestamp) -> Answer<TimeWindow> {
    let end = last.hour().start().0 + MICROS_PER_HOUR;
    TimeWindow::new(Timestamp((end - MICROS_PER_DAY).max(0)), Timestamp(end)).map_err(|error| status::internal(&error))
}

/// Days of `window` with any record of the account; of the graph, if the account is not known.
///
/// The many entities of one account ask for the same days: the number is kept.
pub(crate) async fn days_with_records(lake: &GraphLake, profiles: &Profiles, account: &str, window: TimeWindow) -> Answer<u32> {
    let request = [window.start().0.to_be_bytes().as_slice(), &window.end().0.to_be_bytes(), account.as_bytes()].concat();
    let key = Key::new(lake.arn(), "days", lake.version(), &request);
    let count = async { count_days(lake, account, window).await.map(|days| Bytes::copy_from_slice(&days.to_be_bytes())) };
    let kept = profiles.get_or_build(&key, KEPT, count).await?;
    match kept.as_ref().try_into() {
        Ok(days) => Ok(u32::from_be_bytes(days)),
        Err(_) => count_days(lake, account, window).await,
    }
}

async fn count_days(lake: &GraphLake, account: &str, window: TimeWindow) -> Answer<u32> {
    let days = lake.days_with_events(account, window).await.map_err(rows::failure)?;
    // A window that does not start at midnight touches a day more than it is long.
    Ok(days.min(u32::try_from(BASELINE_DAYS).unwrap_or(u32::MAX)))
}
