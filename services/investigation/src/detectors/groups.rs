//! RELATED_FINDING_GROUP: open groups that were active in the scope time and name the subject or hold one of its findings.

use crate::{facts::Facts, indicator::Indicator};

/// One indicator a group, worst first, as the store lists them.
#[must_use]
pub fn detect(facts: &Facts) -> Vec<Indicator> {
    facts.groups.iter().map(|id| Indicator::RelatedFindingGroup { id: id.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detectors::tests::quiet;

    #[test]
    fn each_group_is_an_indicator_in_the_order_given() {
        let mut facts = quiet();
        facts.groups = vec!["b".to_owned(), "a".to_owned()];
        let expected = |id: &str| Indicator::RelatedFindingGroup { id: id.to_owned() };
        assert_eq!(detect(&facts), [expected("b"), expected("a")]);
    }
}
