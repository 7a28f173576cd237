//! `hunt`, `pairs` and `export baselines`: answers are streams, printed as they come.

use gumshoe_api::{
    convert,
    graph::v1::{ComputeBaselinesRequest, HuntEventsRequest, PairFindingsRequest},
};

use super::{Session, records, scope};
use crate::{
    arguments::{Baselines, Hunt, Pairs},
    output::{Rows, note},
    rpc::{Failure, message},
};

pub async fn hunt(session: &Session, hunt: Hunt) -> Result<(), Failure> {
    let request = HuntEventsRequest {
        graph_arn: session.connection.graph().await?,
        scope: scope(&hunt.scope)?,
        kind: hunt.kind.map_or(0, convert::record_kind_to_proto),
        services: hunt.services,
        operations: hunt.operations,
        actors: hunt.actors,
        addresses: hunt.addresses,
        user_agents: hunt.user_agents,
        errors: hunt.errors,
        account_ids: hunt.account_ids,
        limit: hunt.limit,
        omit_raw: !hunt.raw && !session.output.is_json(),
    };
    let mut stream = session.connection.analysis_service().await?.hunt_events(request).await?.into_inner();
    let mut rows = records::rows();
    let mut lines = message::Lines::new("gumshoe.graph.v1.Event")?;
    let mut found = 0;
    while let Some(some) = stream.message().await? {
        for event in &some.events {
            found += 1;
            if hunt.raw {
                session.output.raw(&event.raw)?;
            } else if session.output.is_json() {
                lines.write(event)?;
            } else {
                records::add(&mut rows, event);
            }
        }
    }
    lines.finish()?;
    if !hunt.raw && !session.output.is_json() {
        session.output.table(&rows)?;
    }
    if hunt.limit != 0 && found >= hunt.limit {
        note(&format!("there may be more than {found}; see --limit"));
    }
    Ok(())
}

pub async fn pairs(session: &Session, pairs: &Pairs) -> Result<(), Failure> {
    let request = PairFindingsRequest {
        graph_arn: session.connection.graph().await?,
        scope: scope(&pairs.scope)?,
        min_severity: pairs.min_severity.unwrap_or_default(),
        include_archived: pairs.archived,
        max_findings_per_entity: pairs.max_findings,
        within_hours: pairs.within,
    };
    let mut stream = session.connection.analysis_service().await?.pair_findings(request).await?.into_inner();
    let mut rows = Rows::new(&["finding", "other finding", "shared"]);
    let mut lines = message::Lines::new("gumshoe.graph.v1.FindingPair")?;
    while let Some(some) = stream.message().await? {
        for pair in some.pairs {
            if session.output.is_json() {
                lines.write(&pair)?;
            } else {
                let shared: Vec<_> = pair.shared.iter().map(|shared| message::entity(shared.entity.as_ref())).collect();
                rows.add([pair.finding_id, pair.other_finding_id, shared.join(", ")]);
            }
        }
    }
    lines.finish()?;
    if session.output.is_json() { Ok(()) } else { session.output.table(&rows) }
}

pub async fn export_baselines(session: &Session, baselines: &Baselines) -> Result<(), Failure> {
    let request = ComputeBaselinesRequest {
        graph_arn: session.connection.graph().await?,
        scope: scope(&baselines.scope)?,
        entity_types: baselines.types.iter().map(|kind| convert::entity_type_to_proto(*kind)).collect(),
        relations: baselines.relations.iter().map(|relation| convert::relation_to_proto(*relation)).collect(),
    };
    let mut stream = session.connection.analysis_service().await?.compute_baselines(request).await?.into_inner();
    let mut lines = message::Lines::new("gumshoe.graph.v1.EntityBaseline")?;
    while let Some(some) = stream.message().await? {
        some.baselines.iter().try_for_each(|baseline| lines.write(baseline))?;
    }
    lines.finish()
}
