//! Which tactics and techniques of MITRE ATT&CK a finding is a sign of, by its type.
//!
//! What GuardDuty's types mean is said by the rules that come with Gumshoe (`libs/detections/rules/guardduty_*.yml`); of types
//! that no rule names, the threat purpose says the tactic. Security Hub's types name it (`TTPs/Initial Access/…`), and
//! findings of our own rules carry what their rule says, or else their type (`LateralMovement:CloudTrail/…`).

use std::collections::{BTreeSet, HashMap};

use gumshoe_detections::{LoadError, RuleSet, Tactic};
use gumshoe_model::{Event, Finding, RecordKind, Timestamp};

/// The product of findings of our own rules.
const OWN: &str = gumshoe_model::PRODUCT;

/// Threat purposes of GuardDuty's finding types, the part before the colon, that are not called as a tactic.
/// Source: GuardDuty user guide, "GuardDuty finding format".
const PURPOSES: [(&str, Tactic); 7] = [
    ("Backdoor", Tactic::CommandAndControl),
    ("CryptoCurrency", Tactic::Impact),
    ("PenTest", Tactic::Discovery),
    ("Recon", Tactic::Discovery),
    ("Stealth", Tactic::DefenseEvasion),
    ("Trojan", Tactic::CommandAndControl),
    ("UnauthorizedAccess", Tactic::InitialAccess),
];

/// What a finding is a sign of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signs {
    /// Tactics, in the order of an attack.
    pub tactics: BTreeSet<Tactic>,
    /// Techniques, by id.
    pub techniques: BTreeSet<String>,
}

/// What finding types are signs of.
#[derive(Debug)]
pub struct Catalog {
    rules: RuleSet,
    /// Our own rules, by id and by title.
    own: HashMap<String, Signs>,
}

impl Catalog {
    /// By the rules that come with Gumshoe.
    ///
    /// # Errors
    /// [`LoadError`] if one of them is not right, which their tests exclude.
    pub fn shipped() -> Result<Self, LoadError> {
        let rules = RuleSet::shipped()?;
        let mut own = HashMap::new();
        for rule in rules.iter() {
            let signs = Signs {
                tactics: rule.tactics.iter().copied().collect(),
                techniques: rule.techniques.iter().map(|technique| technique.id().to_owned()).collect(),
            };
            own.insert(rule.id.clone(), signs.clone());
            own.insert(rule.title.clone(), signs);
        }
        Ok(Self { rules, own })
    }

    /// What a finding of this product, type and title is a sign of.
    #[must_use]
    pub fn signs(&self, product: &str, finding_type: &str, title: &str) -> Signs {
        let mut signs = Signs::default();
        if product == OWN {
            let named = finding_type.split(['/', ':']).chain([finding_type, title]).find_map(|name| self.own.get(name));
            signs = named.cloned().unwrap_or_default();
        }
        // `TTPs/Discovery/Recon:EC2-PortProbeUnprotectedPort`, as Security Hub has it, is GuardDuty's `Recon:EC2/PortProbeUnprotectedPort`.
        let of_guardduty = match finding_type.rsplit_once('/') {
            Some((_, last)) if last.contains(':') => last.replacen('-', "/", 1),
            _ => finding_type.to_owned(),
        };
        self.of_rules(&of_guardduty, &mut signs);
        for part in finding_type.split('/') {
            signs.tactics.extend(Tactic::ALL.iter().find(|tactic| tactic.as_str().eq_ignore_ascii_case(part)));
        }
        for word in finding_type.split(|character: char| !character.is_ascii_alphanumeric() && character != '.') {
            signs.techniques.extend(word.parse::<gumshoe_detections::Technique>().ok().map(|technique| technique.id().to_owned()));
        }
        if signs.tactics.is_empty() {
            let purpose = of_guardduty.split(':').next().unwrap_or_default();
            let named = Tactic::ALL.iter().copied().find(|tactic| tactic.as_str().replace(' ', "") == purpose);
            signs.tactics.extend(named.or_else(|| PURPOSES.iter().find(|(name, _)| *name == purpose).map(|(_, tactic)| *tactic)));
        }
        signs
    }

    /// What the rules about GuardDuty's findings say.
    fn of_rules(&self, finding_type: &str, signs: &mut Signs) {
        let mut event = Event::new(RecordKind::GuardDuty, Timestamp::MIN, "{}");
        event.finding = Some(Box::new(Finding {
            id: "".into(),
            finding_type: finding_type.into(),
            product: "GuardDuty".into(),
            title: "".into(),
            description: "".into(),
            severity: 0.0,
            count: 1,
            first_seen: Timestamp::MIN,
            last_seen: Timestamp::MIN,
            updated: Timestamp::MIN,
            archived: false,
        }));
        for rule in self.rules.matches(&event) {
            signs.tactics.extend(&rule.tactics);
            signs.techniques.extend(rule.techniques.iter().map(|technique| technique.id().to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_every_product_have_their_tactics() {
        let catalog = Catalog::shipped().unwrap();
        let tactics = |product: &str, finding_type: &str| {
            catalog.signs(product, finding_type, "").tactics.iter().map(|tactic| tactic.as_str()).collect::<Vec<_>>().join(", ")
        };
        let hub = "arn:aws:securityhub:us-east-1::product/aws/guardduty";
        for (product, finding_type, expected) in [
            ("GuardDuty", "Persistence:IAMUser/AnomalousBehavior", "Persistence"),
            ("GuardDuty", "Persistence:Nothing/OfTheRules", "Persistence"),
            ("GuardDuty", "Stealth:Nothing/OfTheRules", "Defense Evasion"),
            (OWN, "LateralMovement:CloudTrail/NothingOfTheRules", "Lateral Movement"),
            (OWN, "Behavior:User/UnusualVolume", ""),
            (hub, "TTPs/Initial Access/UnauthorizedAccess:Nothing-OfTheRules", "Initial Access"),
            (hub, "TTPs/Command and Control/Whatever", "Command and Control"),
            (hub, "Software and Configuration Checks/Industry Standards/CIS", ""),
            ("GuardDuty", "", ""),
        ] {
            assert_eq!(tactics(product, finding_type), expected, "{finding_type}");
        }
        let taken = catalog.signs("GuardDuty", "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS", "");
        assert!(taken.tactics.contains(&Tactic::CredentialAccess) && taken.techniques.contains("T1552.005"), "{taken:?}");
        assert_eq!(taken, catalog.signs(hub, "TTPs/Credential Access/UnauthorizedAccess:IAMUser-InstanceCredentialExfiltration.OutsideAWS", ""));
    }

    #[test]
    fn our_own_findings_carry_what_their_rule_says() {
        let catalog = Catalog::shipped().unwrap();
        let signs = catalog.signs(OWN, "whatever", "A role may be assumed from another account, or by everybody");
        assert!(signs.tactics.contains(&Tactic::Persistence) && signs.techniques.contains("T1098.003"), "{signs:?}");
        let by_id = catalog.signs(OWN, "Gumshoe/1532b0fa-5a12-5ad7-a1b3-2873f7553017", "");
        assert_eq!(by_id, signs);
        assert_eq!(catalog.signs("GuardDuty", "whatever", "A role may be assumed from another account, or by everybody"), Signs::default());
    }
}
