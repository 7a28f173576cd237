//! What loads as a policy, what does not, and why.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use gumshoe_iam::{Context, Kind, Policy, PolicySets, Principal, Request, evaluate};
use proptest::prelude::*;
use serde_json::{Value, json};

fn refusal(kind: Kind, document: &Value) -> String {
    Policy::parse_as(kind, &document.to_string()).map_or_else(|error| error.to_string(), |_| "loads".to_owned())
}

/// The refusal of a statement that differs from a good one in the fields given.
fn statement(kind: Kind, changes: &Value) -> String {
    let mut statement = json!({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"});
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            statement.as_object_mut().unwrap().remove(name);
        } else {
            statement[name] = value.clone();
        }
    }
    refusal(kind, &json!({"Version": "2012-10-17", "Statement": [statement]}))
}

#[test]
fn statements_are_refused_with_awss_messages() {
    let syntax = "Syntax errors in policy.";
    let legacy = "The policy failed legacy parsing";
    for (changes, expected) in [
        (json!({}), "loads"),
        (json!({"Effect": "Permit"}), syntax),
        (json!({"Effect": "ALLOW"}), legacy),
        (json!({"effect": "Allow"}), syntax),
        (json!({"Sid": 5}), syntax),
        (json!({"NotAction": "s3:*"}), syntax),
        (json!({"Action": 5}), syntax),
        (json!({"Action": "GetObject"}), "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."),
        (json!({"Action": "s3:Get:Object"}), "Actions/Condition can contain only one colon."),
        (json!({"Action": "d*:GetObject"}), "Vendor d* is not valid"),
        (json!({"Action": []}), "Policy statement must contain actions."),
        (json!({"Action": null}), "Policy statement must contain actions."),
        (json!({"Resource": null}), "Policy statement must contain resources."),
        (json!({"Resource": "bucket"}), "Resource bucket must be in ARN format or \"*\"."),
        (json!({"Resource": "arn:gcp:s3:::b"}), "Partition \"gcp\" is not valid for resource \"arn:gcp:s3:::b\"."),
        (json!({"Resource": "arn:aws-us-gov:s3:::b"}), "loads"),
        (json!({"Resource": "arn:aws:s*:::b"}), "Resource vendor must be fully qualified and cannot contain regexes."),
        (json!({"Resource": "arn:aws:s3:eu-west-1::b"}), "Resource arn:aws:s3:eu-west-1::b can not contain region information."),
        (json!({"Resource": "arn:aws:s3::b"}), legacy),
        (json!({"Principal": "*"}), "Policy document should not specify a principal."),
        (json!({"Condition": {"StringEqual": {"a": "b"}}}), syntax),
        (json!({"Condition": {"StringEquals": {"a": {"b": "c"}}}}), syntax),
        (json!({"Condition": {"NullIfExists": {"a": "true"}}}), syntax),
        (json!({"Condition": {"StringEquals": {"a": "${}"}}}), "loads"),
        (json!({"Effect": "Deny", "Condition": {"StringEquals": {"a": "${}"}}}), "Deny statement 0 has a value for a that can not be compared."),
        (json!({"Resource": "arn:aws:s3:::${}"}), syntax),
        (json!({"Condition": {"DateLessThan": {"a": "soon"}}}), legacy),
        (json!({"Condition": {"StringEquals": {"aws:TagKeys": "a"}}}), "Condition key aws:TagKeys is multivalued: use ForAllValues or ForAnyValue."),
        (json!({"Condition": {"IpAddress": {"aws:SourceIp": "office"}}}), "loads"),
        (
            json!({"Effect": "Deny", "Condition": {"IpAddress": {"aws:SourceIp": "office"}}}),
            "Deny statement 0 has a value for aws:SourceIp that can not be compared.",
        ),
        (
            json!({"Effect": "Deny", "Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:s3"}}}),
            "Deny statement 0 has a value for aws:SourceArn that can not be compared.",
        ),
    ] {
        assert_eq!(statement(Kind::Identity, &changes), expected, "{changes}");
    }
}

#[test]
fn documents_are_refused_with_awss_messages() {
    let good = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
    let syntax = "Syntax errors in policy.";
    for (document, expected) in [
        (json!("text"), syntax),
        (json!([]), syntax),
        (json!({"Version": "2012-10-17", "Statement": []}), syntax),
        (json!({"Version": "2012-10-17", "Statement": ["x"]}), syntax),
        (json!({"Version": "2012-10-17", "Statement": good, "Extra": 1}), syntax),
        (json!({"Version": "2020-01-01", "Statement": good}), syntax),
        (json!({"Statement": good}), "Policy document must be version 2012-10-17 or greater."),
    ] {
        assert_eq!(refusal(Kind::Identity, &document), expected, "{document}");
    }
    let same = json!({"Sid": "A", "Effect": "Allow", "Action": "*", "Resource": "*"});
    let twice = json!({"Version": "2012-10-17", "Statement": [same, same]});
    assert_eq!(refusal(Kind::Identity, &twice), "Statement IDs (SID) in a single policy must be unique.");
}

#[test]
fn a_name_given_twice_is_refused() {
    let text = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Effect": "Allow", "Action": "*", "Resource": "*"}}"#;
    assert_eq!(Policy::parse(text).unwrap_err().to_string(), "Syntax errors in policy.");
}

#[test]
fn kinds_have_their_own_grammar() {
    let principal = json!({"Principal": {"AWS": "111122223333"}});
    assert_eq!(statement(Kind::Resource, &principal), "loads");
    assert_eq!(statement(Kind::Resource, &json!({})), "Policy statement must contain principals.");
    assert_eq!(statement(Kind::Resource, &json!({"NotPrincipal": {"AWS": "111122223333"}})), "NotPrincipal can not be used with Effect Allow.");
    assert_eq!(
        statement(Kind::Resource, &json!({"Principal": {"AWS": "arn:aws:iam::111122223333:role/*"}})),
        "Invalid principal in policy: \"AWS\":\"arn:aws:iam::111122223333:role/*\""
    );
    assert_eq!(statement(Kind::Trust, &principal), "Has prohibited field Resource.");
    assert_eq!(statement(Kind::Trust, &json!({"Resource": null, "Principal": {"Service": "ec2.amazonaws.com"}})), "loads");
    assert_eq!(statement(Kind::ServiceControl, &principal), "Policy document should not specify a principal.");
    assert_eq!(statement(Kind::ResourceControl, &json!({})), "loads");
    let old = json!({"Version": "2008-10-17", "Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}});
    assert_eq!(refusal(Kind::Resource, &old), "loads");
}

#[test]
fn short_arns_are_open_ended_only_for_identities() {
    let text = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3"}}).to_string();
    let request = Request::new(Principal::parse("arn:aws:iam::111122223333:user/Bob"), "s3:GetObject", "arn:aws:s3:::b/k");
    let allows = |kind| {
        evaluate(
            &Request { resource_account: Some("111122223333".to_owned()), ..request.clone() },
            &PolicySets::of_identity([Policy::parse_as(kind, &text).unwrap()]),
        )
        .is_allowed()
    };
    assert!(allows(Kind::Identity));
    assert!(!allows(Kind::ServiceControl));
}

#[test]
fn size_leaves_out_white_space() {
    assert_eq!(Policy::size("{ \"a\":\n\t1 }"), 7);
}

/// JSON of any shape, made of a policy's own words often enough to get far.
fn any_json() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "2012-10-17",
        "Allow",
        "Deny",
        "*",
        "s3:*",
        "a:b:c",
        "arn:aws:s3:::b",
        "arn:aws",
        "${aws:username}",
        "${",
        "${a,'b'}",
        "111122223333",
        "true",
        "10.0.0.0/8",
        "2026-01-01T",
        "-5.",
        "é",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.prop_map(Value::from),
        ".{0,12}".prop_map(Value::from)
    ];
    let names = prop::sample::select(vec![
        "Version",
        "Statement",
        "Id",
        "Sid",
        "Effect",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Principal",
        "NotPrincipal",
        "Condition",
        "AWS",
        "StringLike",
        "ForAllValues:ArnLike",
        "NumericLessThan",
        "DateEquals",
        "NotIpAddress",
        "Bool",
        "Null",
        "BinaryEquals",
        "aws:username",
        "x",
    ]);
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..8).prop_map(|entries| entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

const KINDS: [Kind; 5] = [Kind::Identity, Kind::Resource, Kind::Trust, Kind::ServiceControl, Kind::ResourceControl];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn parsing_never_panics(document in any_json(), condition in any_json(), text in ".{0,60}") {
        let statement = json!({"Effect": "Allow", "Action": ["s3:*"], "Resource": "*", "Condition": condition});
        for text in [document.to_string(), json!({"Version": "2012-10-17", "Statement": document}).to_string(), json!({"Version": "2012-10-17", "Statement": statement}).to_string(), text] {
            for kind in KINDS {
                if let Ok(policy) = Policy::parse_stored(kind, &text) {
                    let request = Request::new(Principal::parse(&text), "s3:GetObject", "arn:aws:s3:::b").with_context(Context::new().with("aws:username", text.as_str()));
                    let sets = PolicySets::of_identity([policy]);
                    let decision = evaluate(&request, &sets);
                    prop_assert!(!decision.explain(&request).is_empty());
                }
            }
        }
    }
}

#[test]
fn deep_nesting_is_refused() {
    let text = "[".repeat(100_000);
    assert!(Policy::parse(&text).is_err());
}
