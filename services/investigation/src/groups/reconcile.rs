//! Which group is which: from the groups as they were to those that the findings make now.
//!
//! A group goes on as the one that has most of its findings. Where several go on as one, the oldest keeps its id and the
//! others are merged into it. A group of which the graph has forgotten every finding stays as it is.

use std::collections::{BTreeMap, HashMap, HashSet};

use gumshoe_model::Timestamp;

use super::GroupId;

/// A group as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub id: GroupId,
    /// When it was made.
    pub create_time: Timestamp,
    /// Its findings.
    pub findings: Vec<String>,
}

/// What becomes of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heir {
    /// The group that it goes on as; `None` for a new one.
    pub id: Option<GroupId>,
    /// Groups that are merged into it.
    pub merged: Vec<GroupId>,
    /// For a new one, the group that most of its findings come from, if any.
    pub split_from: Option<GroupId>,
    /// Findings of these groups that the graph has forgotten: they stay.
    pub forgotten: Vec<String>,
}

/// What becomes of groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Of each cluster, in order.
    pub heirs: Vec<Heir>,
    /// Groups whose findings are not tied any more.
    pub dissolved: Vec<GroupId>,
}

/// What becomes of `known` groups, now that the findings that were `read` make `clusters`.
#[must_use]
pub fn reconcile(known: &[Known], clusters: &[Vec<&str>], read: &HashSet<&str>) -> Plan {
    let cluster_of: HashMap<&str, usize> = clusters.iter().enumerate().flat_map(|(place, ids)| ids.iter().map(move |id| (*id, place))).collect();
    let mut heirs = vec![Heir::default(); clusters.len()];
    let mut goes_on: BTreeMap<usize, Vec<&Known>> = BTreeMap::new();
    let mut dissolved = Vec::new();
    for group in known {
        let mut shared: BTreeMap<usize, usize> = BTreeMap::new();
        for finding in &group.findings {
            if let Some(cluster) = cluster_of.get(finding.as_str()) {
                *shared.entry(*cluster).or_default() += 1;
            }
        }
        // Of equals the first, which has the earliest finding.
        match shared.iter().max_by_key(|(cluster, number)| (**number, std::cmp::Reverse(**cluster))) {
            Some((cluster, _)) => goes_on.entry(*cluster).or_default().push(group),
            None if group.findings.iter().all(|finding| read.contains(finding.as_str())) => dissolved.push(group.id.clone()),
            None => {}
        }
    }
    for (cluster, mut groups) in goes_on {
        groups.sort_by(|one, other| (one.create_time, &one.id).cmp(&(other.create_time, &other.id)));
        let Some(heir) = heirs.get_mut(cluster) else { continue };
        heir.forgotten = groups.iter().flat_map(|group| &group.findings).filter(|finding| !read.contains(finding.as_str())).cloned().collect();
        let mut ids = groups.into_iter().map(|group| group.id.clone());
        heir.id = ids.next();
        heir.merged = ids.collect();
    }
    let group_of: HashMap<&str, &GroupId> = known.iter().flat_map(|group| group.findings.iter().map(|finding| (finding.as_str(), &group.id))).collect();
    for (heir, ids) in heirs.iter_mut().zip(clusters).filter(|(heir, _)| heir.id.is_none()) {
        let mut from: BTreeMap<&GroupId, usize> = BTreeMap::new();
        for group in ids.iter().filter_map(|id| group_of.get(id)) {
            *from.entry(group).or_default() += 1;
        }
        heir.split_from = from.into_iter().max_by_key(|(id, number)| (*number, std::cmp::Reverse(*id))).map(|(id, _)| id.clone());
    }
    Plan { heirs, dissolved }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u32) -> GroupId {
        format!("00000000-0000-7000-8000-{number:012}").parse().unwrap()
    }

    fn known(number: u32, time: i64, findings: &[&str]) -> Known {
        Known { id: id(number), create_time: Timestamp(time), findings: findings.iter().map(|id| (*id).to_owned()).collect() }
    }

    fn read<'a>(clusters: &[Vec<&'a str>], others: &[&'a str]) -> HashSet<&'a str> {
        clusters.iter().flatten().chain(others).copied().collect()
    }

    #[test]
    fn a_group_that_grows_keeps_its_id() {
        let clusters = [vec!["a", "b", "c"], vec!["x", "y"]];
        let plan = reconcile(&[known(1, 5, &["a", "b"])], &clusters, &read(&clusters, &[]));
        assert_eq!(plan.heirs, [Heir { id: Some(id(1)), ..Heir::default() }, Heir::default()]);
        assert_eq!(plan.dissolved, []);
    }

    #[test]
    fn of_merged_groups_the_oldest_stays() {
        let clusters = [vec!["a", "b", "c", "d", "late"]];
        let plan = reconcile(&[known(2, 9, &["a", "b"]), known(1, 5, &["c", "d"])], &clusters, &read(&clusters, &[]));
        assert_eq!(plan.heirs, [Heir { id: Some(id(1)), merged: vec![id(2)], ..Heir::default() }]);
    }

    #[test]
    fn of_a_group_that_falls_apart_the_larger_part_stays_and_the_other_knows_where_it_was() {
        let clusters = [vec!["a", "b"], vec!["c", "d", "e"]];
        let plan = reconcile(&[known(1, 5, &["a", "b", "c", "d", "e"])], &clusters, &read(&clusters, &[]));
        assert_eq!(plan.heirs, [Heir { split_from: Some(id(1)), ..Heir::default() }, Heir { id: Some(id(1)), ..Heir::default() }]);
    }

    #[test]
    fn what_the_graph_forgets_stays_and_what_is_not_tied_dissolves() {
        let clusters = [vec!["b", "c"]];
        let groups = [known(1, 5, &["a", "b"]), known(2, 5, &["gone", "too"]), known(3, 5, &["x", "y"]), known(4, 5, &["x2", "gone2"])];
        let plan = reconcile(&groups, &clusters, &read(&clusters, &["x", "y", "x2"]));
        assert_eq!(plan.heirs, [Heir { id: Some(id(1)), forgotten: vec!["a".to_owned()], ..Heir::default() }]);
        assert_eq!(plan.dissolved, [id(3)]);
    }

    proptest! {
        /// Whatever the groups were: ids are used once, and each known group goes on, is merged, dissolves or stays.
        #[test]
        fn no_group_is_lost_or_used_twice(before in prop::collection::vec(0..6_usize, 30), after in prop::collection::vec(0..6_usize, 30)) {
            let names: Vec<String> = (0..30).map(|number| format!("f{number}")).collect();
            let parts = |of: &[usize]| (0..6).map(|part| names.iter().zip(of).filter(|(_, other)| **other == part).map(|(name, _)| name.as_str()).collect::<Vec<_>>())
                .filter(|part| part.len() > 1).collect::<Vec<_>>();
            let groups: Vec<Known> = parts(&before).iter().zip(1..).map(|(findings, number)| known(number, i64::from(number % 3), findings)).collect();
            let clusters = parts(&after);
            let plan = reconcile(&groups, &clusters, &names.iter().map(String::as_str).collect());
            let mut used: Vec<&GroupId> = plan.heirs.iter().flat_map(|heir| heir.id.iter().chain(&heir.merged)).chain(&plan.dissolved).collect();
            used.sort();
            prop_assert_eq!(used, groups.iter().map(|group| &group.id).collect::<Vec<_>>());
            for heir in &plan.heirs {
                let time = |wanted: &GroupId| groups.iter().find(|group| group.id == *wanted).map(|group| (group.create_time, group.id.clone()));
                prop_assert!(heir.merged.iter().all(|merged| heir.id.as_ref().and_then(time) < time(merged)));
            }
        }
    }
}
