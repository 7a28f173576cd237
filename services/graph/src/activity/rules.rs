//! Which of an entity's rows count, and which list a row's peer belongs to.

use gumshoe_model::{EntityType, Relation};

/// A list of peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum List {
    Flow,
    AssumedBy,
    Assumed,
    Resource,
    Principal,
}

fn is_call(relation: Relation) -> bool {
    matches!(relation, Relation::Called | Relation::FailedToCall)
}

fn is_flow(relation: Relation) -> bool {
    matches!(relation, Relation::ConnectedTo | Relation::AcceptedFrom | Relation::RejectedFrom)
}

/// Whether a row is activity of the entity; the others tie it to something that was counted already.
///
/// - principals: their calls. What they used, assumed and touched are further rows of the same records.
/// - services: the calls made of them, and the calls that they made.
/// - addresses: what used them, and the flows of which they are the remote end.
/// - user agents, access keys: what used them.
/// - everything else: its flows, its calls, and the calls that used or touched it.
/// - findings have no activity of their own.
pub(super) fn counts(kind: EntityType, is_in: bool, relation: Relation, peer: EntityType) -> bool {
    match kind {
        EntityType::Account
        | EntityType::User
        | EntityType::Role
        | EntityType::RoleSession
        | EntityType::FederatedUser
        | EntityType::Root
        | EntityType::KubernetesSubject => !is_in && is_call(relation),
        EntityType::AwsService => is_call(relation),
        EntityType::IpAddress => is_in && (relation == Relation::Used || is_flow(relation)),
        EntityType::UserAgent | EntityType::AccessKey => is_in && relation == Relation::Used,
        EntityType::NetworkInterface
        | EntityType::Ec2Instance
        | EntityType::S3Bucket
        | EntityType::Resource
        | EntityType::EksCluster
        | EntityType::Pod
        | EntityType::ContainerImage => match relation {
            Relation::Used => is_in,
            Relation::AffectedBy => !is_in && peer != EntityType::Finding,
            relation => !is_in && (is_flow(relation) || is_call(relation)),
        },
        EntityType::Finding => false,
    }
}

/// The list that a row's peer belongs to.
pub(super) fn list(kind: EntityType, is_in: bool, relation: Relation, peer: EntityType) -> Option<List> {
    if kind == EntityType::Finding {
        return (is_in && relation == Relation::AffectedBy).then_some(List::Principal);
    }
    match relation {
        relation if is_flow(relation) => Some(List::Flow),
        Relation::Assumed if is_in => Some(List::AssumedBy),
        Relation::Assumed => matches!(peer, EntityType::Role | EntityType::RoleSession).then_some(List::Assumed),
        Relation::AffectedBy if is_in => Some(List::Resource),
        Relation::AffectedBy => (peer != EntityType::Finding).then_some(List::Principal),
        _ => is_in.then_some(List::Principal),
    }
}
