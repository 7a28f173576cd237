//! What a verdict says to the product that reported the finding: which calls, where, and with what.
//!
//! | verdict | GuardDuty | Security Hub: workflow, verification state |
//! |---|---|---|
//! | true positive | useful; unarchived if an earlier verdict had it archived | `NOTIFIED`, `TRUE_POSITIVE` |
//! | false positive | not useful, archived | `SUPPRESSED`, `FALSE_POSITIVE` |
//! | benign | useful, archived | `SUPPRESSED`, `BENIGN_POSITIVE` |
//! | reopened | unarchived | `NEW`, `UNKNOWN` |
//!
//! Every call can be made again and changes nothing then.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    finding::Finding,
    verdict::{Kind, NewVerdict},
};

pub mod aws;
pub mod courier;

/// Security Hub takes notes of up to this many characters.
const MAX_NOTE: usize = 512;

/// One call of an AWS service.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// `guardduty` or `securityhub`.
    pub service: &'static str,
    /// The operation's name.
    pub operation: &'static str,
    /// The partition, such as `aws`.
    pub partition: String,
    /// The region.
    pub region: String,
    /// The account whose finding it is, and in which a role may be assumed; `None` for the credentials as they are.
    pub account: Option<String>,
    /// The HTTP method.
    pub method: &'static str,
    /// The path.
    pub path: String,
    /// The body.
    pub body: Value,
}

/// The calls that give a verdict back, in order. `was_put_away` says whether an earlier verdict had the finding archived,
/// `detectors` are those of a GuardDuty administrator by region.
///
/// # Errors
/// Why nobody takes it.
pub fn calls(finding: &Finding, verdict: &NewVerdict, was_put_away: bool, detectors: &BTreeMap<String, String>) -> Result<Vec<Call>, String> {
    let mut calls = Vec::new();
    if let Some(detection) = Detection::of(&finding.id) {
        calls.extend(detection.calls(verdict, was_put_away, detectors));
    }
    if let Some(product) = Product::of(&finding.product) {
        calls.push(product.call(finding, verdict)?);
    }
    if !calls.is_empty() {
        return Ok(calls);
    }
    if finding.product == "GuardDuty" {
        return Err("the finding's id is not an ARN, which would name its detector".to_owned());
    }
    Err(format!("`{}` takes no feedback", finding.product))
}

/// What a GuardDuty finding's ARN says.
struct Detection<'a> {
    partition: &'a str,
    region: &'a str,
    account: &'a str,
    detector: &'a str,
    finding: &'a str,
}

impl<'a> Detection<'a> {
    /// Reads `arn:aws:guardduty:REGION:ACCOUNT:detector/DETECTOR/finding/FINDING`.
    fn of(arn: &'a str) -> Option<Self> {
        let Arn { partition, region, account, resource } = Arn::of(arn, "guardduty")?;
        let mut parts = resource.split('/');
        let (kind, detector, what, finding) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let fits = kind == "detector" && what == "finding" && parts.next().is_none() && is_name(detector) && is_name(finding) && is_account(account);
        fits.then_some(Self { partition, region, account, detector, finding })
    }

    fn calls(&self, verdict: &NewVerdict, was_put_away: bool, detectors: &BTreeMap<String, String>) -> Vec<Call> {
        let mut calls = Vec::new();
        if let Some(feedback) = match verdict.kind {
            Kind::TruePositive | Kind::Benign => Some("USEFUL"),
            Kind::FalsePositive => Some("NOT_USEFUL"),
            Kind::Reopened => None,
        } {
            let mut body = json!({ "findingIds": [self.finding], "feedback": feedback });
            if !verdict.note.as_str().is_empty() {
                insert(&mut body, "comments", verdict.note.as_str().into());
            }
            calls.push(self.call("UpdateFindingsFeedback", "feedback", body, detectors));
        }
        let ids = json!({ "findingIds": [self.finding] });
        match verdict.kind {
            Kind::FalsePositive | Kind::Benign => calls.push(self.call("ArchiveFindings", "archive", ids, detectors)),
            Kind::TruePositive if !was_put_away => {}
            Kind::TruePositive | Kind::Reopened => calls.push(self.call("UnarchiveFindings", "unarchive", ids, detectors)),
        }
        calls
    }

    fn call(&self, operation: &'static str, action: &str, body: Value, detectors: &BTreeMap<String, String>) -> Call {
        let administrator = detectors.get(self.region);
        let detector = administrator.map_or(self.detector, String::as_str);
        Call {
            service: "guardduty",
            operation,
            partition: self.partition.to_owned(),
            region: self.region.to_owned(),
            account: administrator.is_none().then(|| self.account.to_owned()),
            method: "POST",
            path: format!("/detector/{detector}/findings/{action}"),
            body,
        }
    }
}

/// What the ARN of a Security Hub product says.
struct Product<'a> {
    arn: &'a str,
    partition: &'a str,
    region: &'a str,
}

impl<'a> Product<'a> {
    /// Reads `arn:aws:securityhub:REGION:ACCOUNT:product/COMPANY/PRODUCT`, where the account may be missing.
    fn of(arn: &'a str) -> Option<Self> {
        let Arn { partition, region, resource, .. } = Arn::of(arn, "securityhub")?;
        resource.starts_with("product/").then_some(Self { arn, partition, region })
    }

    fn call(&self, finding: &Finding, verdict: &NewVerdict) -> Result<Call, String> {
        if !is_account(&finding.account) {
            return Err("the finding does not say its account".to_owned());
        }
        let (workflow, state) = match verdict.kind {
            Kind::TruePositive => ("NOTIFIED", "TRUE_POSITIVE"),
            Kind::FalsePositive => ("SUPPRESSED", "FALSE_POSITIVE"),
            Kind::Benign => ("SUPPRESSED", "BENIGN_POSITIVE"),
            Kind::Reopened => ("NEW", "UNKNOWN"),
        };
        let mut body = json!({
            "FindingIdentifiers": [{ "Id": finding.id, "ProductArn": self.arn }],
            "VerificationState": state,
            "Workflow": { "Status": workflow },
        });
        // A note must have something in it, and one that is there is not taken away by a verdict that has none.
        let text: String = verdict.note.as_str().trim().chars().take(MAX_NOTE).collect();
        if !text.is_empty() {
            insert(&mut body, "Note", json!({ "Text": text, "UpdatedBy": verdict.author }));
        }
        Ok(Call {
            service: "securityhub",
            operation: "BatchUpdateFindings",
            partition: self.partition.to_owned(),
            region: self.region.to_owned(),
            account: Some(finding.account.clone()),
            method: "PATCH",
            path: "/findings/batchupdate".to_owned(),
            body,
        })
    }
}

struct Arn<'a> {
    partition: &'a str,
    region: &'a str,
    account: &'a str,
    resource: &'a str,
}

impl<'a> Arn<'a> {
    /// An ARN of a service. Findings come from logs, and partition and region become part of a host's name: they must be words.
    fn of(text: &'a str, service: &str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let (arn, partition, named, region, account, resource) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let fits = arn == "arn" && partition.starts_with("aws") && is_name(partition) && named == service && region.len() <= 25 && is_name(region);
        fits.then_some(Self { partition, region, account, resource })
    }
}

fn is_name(text: &str) -> bool {
    (1..=300).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn insert(body: &mut Value, key: &str, value: Value) {
    if let Value::Object(fields) = body {
        fields.insert(key.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUARDDUTY: &str = "arn:aws:guardduty:eu-west-1:111111111111:detector/d1/finding/f1";
    const HUB: &str = "arn:aws:securityhub:us-east-1::product/aws/inspector";

    fn finding(id: &str, product: &str) -> Finding {
        Finding { id: id.to_owned(), product: product.to_owned(), account: "111111111111".to_owned(), ..Finding::default() }
    }

    fn verdict(kind: Kind, note: &str) -> NewVerdict {
        NewVerdict { finding: "f".parse().unwrap(), kind, note: note.parse().unwrap(), author: "arn:aws:iam::111111111111:user/ann".to_owned(), request: None }
    }

    fn made(finding: &Finding, verdict: &NewVerdict, was_put_away: bool) -> Vec<Call> {
        calls(finding, verdict, was_put_away, &BTreeMap::new()).unwrap()
    }

    #[test]
    fn guardduty_is_told_by_detector_and_finding() {
        let found = finding(GUARDDUTY, "GuardDuty");
        let told = |kind, put_away| -> Vec<(String, Value)> {
            made(&found, &verdict(kind, "known scanner"), put_away).into_iter().map(|call| (call.path, call.body)).collect()
        };
        let feedback =
            |feedback: &str| ("/detector/d1/findings/feedback".to_owned(), json!({ "findingIds": ["f1"], "feedback": feedback, "comments": "known scanner" }));
        let action = |action: &str| (format!("/detector/d1/findings/{action}"), json!({ "findingIds": ["f1"] }));
        assert_eq!(told(Kind::FalsePositive, false), [feedback("NOT_USEFUL"), action("archive")]);
        assert_eq!(told(Kind::Benign, false), [feedback("USEFUL"), action("archive")]);
        assert_eq!(told(Kind::TruePositive, false), [feedback("USEFUL")]);
        assert_eq!(told(Kind::TruePositive, true), [feedback("USEFUL"), action("unarchive")]);
        assert_eq!(told(Kind::Reopened, false), [action("unarchive")]);
        let call = &made(&found, &verdict(Kind::FalsePositive, ""), false)[0];
        assert_eq!(call.body, json!({ "findingIds": ["f1"], "feedback": "NOT_USEFUL" }), "no comment");
        assert_eq!((call.partition.as_str(), call.region.as_str(), call.account.as_deref()), ("aws", "eu-west-1", Some("111111111111")));
    }

    #[test]
    fn an_administrators_detector_stands_for_those_of_its_members() {
        let detectors = BTreeMap::from([("eu-west-1".to_owned(), "administrators".to_owned())]);
        let call = calls(&finding(GUARDDUTY, "GuardDuty"), &verdict(Kind::Reopened, ""), false, &detectors).unwrap().remove(0);
        assert_eq!((call.path.as_str(), call.account), ("/detector/administrators/findings/unarchive", None));
        let elsewhere = GUARDDUTY.replace("eu-west-1", "us-east-1");
        let call = calls(&finding(&elsewhere, "GuardDuty"), &verdict(Kind::Reopened, ""), false, &detectors).unwrap().remove(0);
        assert_eq!(call.path, "/detector/d1/findings/unarchive");
    }

    #[test]
    fn security_hub_is_told_by_id_and_product() {
        for (kind, workflow, state) in [
            (Kind::TruePositive, "NOTIFIED", "TRUE_POSITIVE"),
            (Kind::FalsePositive, "SUPPRESSED", "FALSE_POSITIVE"),
            (Kind::Benign, "SUPPRESSED", "BENIGN_POSITIVE"),
            (Kind::Reopened, "NEW", "UNKNOWN"),
        ] {
            let call = made(&finding("i-1/CVE", HUB), &verdict(kind, &"ü".repeat(600)), true).remove(0);
            let expected = json!({
                "FindingIdentifiers": [{ "Id": "i-1/CVE", "ProductArn": HUB }],
                "VerificationState": state,
                "Workflow": { "Status": workflow },
                "Note": { "Text": "ü".repeat(512), "UpdatedBy": "arn:aws:iam::111111111111:user/ann" },
            });
            assert_eq!((call.method, call.path.as_str(), call.body), ("PATCH", "/findings/batchupdate", expected));
            assert_eq!((call.region.as_str(), call.account.as_deref()), ("us-east-1", Some("111111111111")));
        }
        assert!(made(&finding("f", HUB), &verdict(Kind::Benign, " \n"), false)[0].body.get("Note").is_none());
    }

    #[test]
    fn what_security_hub_has_from_guardduty_is_told_to_both() {
        let services: Vec<_> =
            made(&finding(GUARDDUTY, HUB), &verdict(Kind::FalsePositive, ""), false).iter().map(|call| (call.service, call.operation)).collect();
        assert_eq!(services, [("guardduty", "UpdateFindingsFeedback"), ("guardduty", "ArchiveFindings"), ("securityhub", "BatchUpdateFindings")]);
    }

    #[test]
    fn what_nobody_takes_says_why() {
        let refused = |finding: &Finding| calls(finding, &verdict(Kind::Benign, ""), false, &BTreeMap::new()).unwrap_err();
        assert_eq!(refused(&finding("f", "Gumshoe")), "`Gumshoe` takes no feedback");
        assert_eq!(refused(&finding("f1", "GuardDuty")), "the finding's id is not an ARN, which would name its detector");
        assert_eq!(refused(&Finding { account: String::new(), ..finding("f", HUB) }), "the finding does not say its account");
    }

    #[test]
    fn names_out_of_logs_do_not_lead_elsewhere() {
        for id in [
            "arn:aws:guardduty:evil.example/:111111111111:detector/d1/finding/f1",
            "arn:aws:guardduty:eu-west-1:111111111111:detector/../finding/f1",
            "arn:aws:guardduty:eu-west-1:111111111111:detector/d1?x/finding/f1",
            "arn:aws:guardduty:eu-west-1:1:detector/d1/finding/f1",
            "arn:aws:guardduty::111111111111:detector/d1/finding/f1",
            "arn:aws.evil:guardduty:eu-west-1:111111111111:detector/d1/finding/f1",
            "arn:aws:guardduty:eu-west-1:111111111111:detector/d1/finding/f1/more",
        ] {
            assert!(Detection::of(id).is_none(), "{id}");
        }
        for arn in ["arn:aws:securityhub:evil.example:1:product/x", "arn:aws:securityhub:us-east-1::hub/default", "GuardDuty"] {
            assert!(Product::of(arn).is_none(), "{arn}");
        }
    }
}
