//! RELATED_FINDING: findings that affect the subject and were active in the scope time.

use crate::{facts::Facts, indicator::Indicator};

/// One indicator a finding, worst first, as the graph lists them.
#[must_use]
pub fn detect(facts: &Facts) -> Vec<Indicator> {
    let indicator = |finding: &crate::facts::RelatedFinding| Indicator::RelatedFinding {
        id: finding.id.clone(),
        finding_type: finding.finding_type.clone(),
        address: finding.address.clone(),
    };
    facts.findings.iter().map(indicator).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{detectors::tests::quiet, facts::RelatedFinding};

    #[test]
    fn each_finding_is_an_indicator_in_the_order_given() {
        let mut facts = quiet();
        let finding = |id: &str| RelatedFinding { id: id.to_owned(), finding_type: "Recon:IAMUser/TorIPCaller".to_owned(), address: "203.0.113.9".to_owned() };
        facts.findings = vec![finding("b"), finding("a")];
        let ids: Vec<_> = detect(&facts)
            .into_iter()
            .map(|indicator| match indicator {
                Indicator::RelatedFinding { id, finding_type, address } => (id, finding_type, address),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = |id: &str| (id.to_owned(), "Recon:IAMUser/TorIPCaller".to_owned(), "203.0.113.9".to_owned());
        assert_eq!(ids, [expected("b"), expected("a")]);
    }
}
