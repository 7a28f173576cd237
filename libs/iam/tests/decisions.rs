//! The evaluator's verdicts: the case matrix, the laws that hold for every policy, and the layers.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use gumshoe_iam::{Context, CrossAccount, Effect, Kind, Layer, Policy, PolicySets, Principal, Request, evaluate};
use proptest::prelude::*;
use serde_json::{Value, json};

#[path = "cases/reader.rs"]
mod reader;

const GRAPH: &str = "arn:aws:detective:us-east-1:111122223333:graph:0123456789abcdef0123456789abcdef";
const BOB: &str = "arn:aws:iam::111122223333:user/Bob";
const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/Analyst/ann";

fn policy(kind: Kind, statements: &Value) -> Arc<Policy> {
    Arc::new(Policy::parse_as(kind, &json!({"Version": "2012-10-17", "Statement": statements}).to_string()).unwrap().named("test"))
}

fn allow(action: &str) -> Arc<Policy> {
    policy(Kind::Identity, &json!({"Effect": "Allow", "Action": action, "Resource": "*"}))
}

fn grant(principal: &Value) -> Vec<Arc<Policy>> {
    vec![policy(Kind::Resource, &json!({"Effect": "Allow", "Principal": principal, "Action": "*", "Resource": "*"}))]
}

fn ask(principal: &str, sets: &PolicySets) -> (Effect, Layer) {
    let decision = evaluate(&Request::new(Principal::parse(principal), "detective:ListMembers", GRAPH), sets);
    (decision.effect, decision.layer)
}

#[test]
fn the_case_matrix_is_decided_as_expected() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("cases/matrix.json")).unwrap();
    let gated = cases.iter().filter(|case| case["confidence"] != "disputed");
    let wrong: Vec<String> = gated
        .clone()
        .filter_map(|case| {
            let (verdict, explanation) = reader::decide(case).unwrap();
            (case["expected"] != verdict).then(|| format!("{}: got {verdict}\n{explanation}", case["name"]))
        })
        .collect();
    assert!(gated.count() > 200);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_member_reaches_another_account_only_without_the_general_rule() {
    let member = "arn:aws:iam::999999999999:user/Eve";
    let general = PolicySets { identity: vec![allow("detective:*")], ..PolicySets::default() };
    assert_eq!(ask(member, &general), (Effect::ImplicitDeny, Layer::Resource));
    let detective = PolicySets { cross_account: CrossAccount::IdentityOnly, ..general };
    assert_eq!(ask(member, &detective), (Effect::Allow, Layer::Identity));
    let nothing = PolicySets { identity: Vec::new(), ..detective };
    assert_eq!(ask(member, &nothing), (Effect::ImplicitDeny, Layer::Identity));
}

#[test]
fn whom_the_resource_names_decides_what_still_blocks() {
    let boundary = PolicySets { boundary: vec![allow("s3:*")], ..PolicySets::default() };
    let session = PolicySets { session: vec![allow("s3:*")], ..PolicySets::default() };
    let federated = "arn:aws:sts::111122223333:federated-user/Fay";
    for (named, caller, past_boundary, past_session) in [
        (json!({"AWS": BOB}), BOB, true, true),
        (json!({"AWS": "arn:aws:iam::111122223333:role/Analyst"}), SESSION, false, false),
        (json!({"AWS": SESSION}), SESSION, true, false),
        (json!({"AWS": federated}), federated, true, true),
        (json!({"AWS": "111122223333"}), BOB, false, false),
        (json!("*"), BOB, true, false),
    ] {
        let allowed = |sets: &PolicySets| ask(caller, &PolicySets { resource: grant(&named), ..sets.clone() }).0 == Effect::Allow;
        assert_eq!(allowed(&boundary), past_boundary, "boundary, {named}");
        assert_eq!(allowed(&session), past_session, "session, {named}");
    }
}

#[test]
fn not_principal_denies_whoever_has_a_boundary() {
    let resource = vec![policy(Kind::Resource, &json!({"Effect": "Deny", "NotPrincipal": {"AWS": BOB}, "Action": "*", "Resource": "*"}))];
    let free = PolicySets { identity: vec![allow("*")], resource, ..PolicySets::default() };
    assert_eq!(ask(BOB, &free).0, Effect::Allow);
    assert_eq!(ask("arn:aws:iam::111122223333:user/Zoe", &free), (Effect::Deny, Layer::Resource));
    let bound = PolicySets { boundary: vec![allow("*")], ..free };
    assert_eq!(ask(BOB, &bound), (Effect::Deny, Layer::Resource));
}

#[test]
fn root_is_limited_by_service_control_policies_only() {
    let root = "arn:aws:iam::111122223333:root";
    assert_eq!(ask(root, &PolicySets::default()).0, Effect::Allow);
    let limited = PolicySets {
        service_control: vec![vec![policy(Kind::ServiceControl, &json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*"}))]],
        ..PolicySets::default()
    };
    assert_eq!(ask(root, &limited), (Effect::ImplicitDeny, Layer::ServiceControl));
    let request = Request::new(Principal::parse(root), "no-service", "*");
    assert_eq!(evaluate(&request, &PolicySets::default()).effect, Effect::ImplicitDeny);
}

#[test]
fn service_linked_roles_are_outside_service_control_policies() {
    let sets = PolicySets {
        identity: vec![allow("*")],
        service_control: vec![vec![policy(Kind::ServiceControl, &json!({"Effect": "Deny", "Action": "*", "Resource": "*"}))]],
        ..PolicySets::default()
    };
    let ask = |role: &str| {
        let request = Request::new(Principal::parse("arn:aws:sts::111122223333:assumed-role/AWSServiceRoleForDetective/x"), "detective:ListMembers", GRAPH);
        evaluate(&request.with_context(Context::new().with("aws:PrincipalArn", role)), &sets).effect
    };
    assert_eq!(ask("arn:aws:iam::111122223333:role/aws-service-role/detective.amazonaws.com/AWSServiceRoleForDetective"), Effect::Allow);
    assert_eq!(ask("arn:aws:iam::111122223333:role/AWSServiceRoleForDetective"), Effect::Deny);
}

#[test]
fn services_and_strangers_need_the_resource_to_name_them() {
    let sets = PolicySets { identity: vec![allow("*")], resource: grant(&json!({"Service": "detective.amazonaws.com"})), ..PolicySets::default() };
    assert_eq!(ask("detective.amazonaws.com", &sets), (Effect::Allow, Layer::Resource));
    for stranger in ["guardduty.amazonaws.com", "*", "", "accounts.example.com"] {
        assert_eq!(ask(stranger, &sets).0, Effect::ImplicitDeny, "{stranger}");
    }
    assert_eq!(ask("*", &PolicySets { resource: grant(&json!("*")), ..PolicySets::default() }).0, Effect::Allow);
}

#[test]
fn variables_need_the_version_that_has_them() {
    let document = |version: &str| json!({"Version": version, "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"aws:ResourceTag/o": "${aws:username}"}}}});
    let ask = |version: &str, tag: &str| {
        let policy = Policy::parse_stored(Kind::Identity, &document(version).to_string()).unwrap();
        let context = Context::new().with("aws:username", "Bob").with("aws:ResourceTag/o", tag);
        evaluate(&Request::new(Principal::parse(BOB), "detective:ListMembers", GRAPH).with_context(context), &PolicySets::of_identity([policy])).effect
    };
    assert_eq!(ask("2012-10-17", "Bob"), Effect::Allow);
    assert_eq!(ask("2008-10-17", "Bob"), Effect::ImplicitDeny);
    assert_eq!(ask("2008-10-17", "${aws:username}"), Effect::Allow);
}

#[test]
fn not_resource_without_a_value_opens_nothing() {
    let sets = |effect: &str| {
        let statement = json!({"Effect": effect, "Action": "*", "NotResource": "arn:aws:detective:*:*:graph:${aws:PrincipalTag/graph}"});
        PolicySets { identity: vec![policy(Kind::Identity, &statement)], ..PolicySets::default() }
    };
    assert_eq!(ask(BOB, &sets("Allow")).0, Effect::ImplicitDeny);
    assert_eq!(ask(BOB, &sets("Deny")).0, Effect::Deny);
}

#[test]
fn own_actions_are_as_good_as_any_services() {
    let sets = PolicySets::of_identity([allow("gumshoe:Ingest*")]);
    let ask = |action: &str| evaluate(&Request::new(Principal::parse(BOB), action, "*"), &sets).effect;
    assert_eq!(ask("gumshoe:IngestRecords"), Effect::Allow);
    assert_eq!(ask("gumshoe:Compact"), Effect::ImplicitDeny);
}

#[test]
fn denials_read_as_awss_do() {
    let request = Request::new(Principal::parse(BOB), "detective:DeleteGraph", GRAPH);
    let nothing = evaluate(&request, &PolicySets::default());
    assert_eq!(
        nothing.message(&request),
        format!(
            "User: {BOB} is not authorized to perform: detective:DeleteGraph on resource: {GRAPH} because no identity-based policy allows the detective:DeleteGraph action"
        )
    );
    assert!(nothing.explain(&request).ends_with("no statement matches"));
    let statements =
        json!([{"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Sid": "Keep", "Effect": "Deny", "Action": "detective:Delete*", "Resource": "*"}]);
    let denied = evaluate(&request, &PolicySets::of_identity([policy(Kind::Identity, &statements)]));
    assert!(denied.message(&request).ends_with("with an explicit deny in an identity-based policy"));
    assert!(denied.explain(&request).ends_with("denied by identity-based policy `test`, statement `Keep`"), "{}", denied.explain(&request));
}

#[test]
fn managed_policies_allow_what_their_names_say() {
    use gumshoe_iam::{actions::ACTIONS, managed};
    let allowed = |managed: &managed::ManagedPolicy| {
        let sets = PolicySets::of_identity([Policy::parse(managed.document).unwrap().named(managed.name)]);
        let asks = ACTIONS.iter().filter(|action| evaluate(&Request::new(Principal::parse(BOB), action.name, GRAPH), &sets).is_allowed());
        asks.map(|action| action.name).collect::<Vec<_>>()
    };
    assert_eq!(allowed(&managed::FULL_ACCESS).len(), ACTIONS.len());
    assert_eq!(allowed(&managed::MEMBER_ACCESS).len(), 8);
    assert_eq!(allowed(&managed::ORGANIZATIONS_ACCESS).len(), 3);
    let investigator = allowed(&managed::INVESTIGATOR_ACCESS);
    assert_eq!(investigator.len(), 22);
    assert!(investigator.contains(&"detective:SearchGraph") && !investigator.contains(&"detective:DeleteGraph"));
}

/// A statement from a small world in which matches are common.
fn statement(effects: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let actions = prop::sample::select(vec!["*", "a:*", "a:x", "b:?", "a:?*"]);
    let resources = prop::sample::select(vec!["*", "arn:aws:a:::r", "arn:aws:a:::*", "arn:aws:a:::${aws:username}"]);
    let conditions = prop::sample::select(vec![
        json!({}),
        json!({"StringEquals": {"aws:username": "r"}}),
        json!({"StringNotLike": {"aws:username": "r*"}}),
        json!({"Null": {"aws:username": "true"}}),
        json!({"ForAllValues:StringEquals": {"aws:TagKeys": ["r"]}}),
    ]);
    (prop::sample::select(effects), any::<bool>(), actions, any::<bool>(), resources, conditions).prop_map(
        |(effect, not_action, action, not_resource, resource, condition)| {
            json!({
                "Effect": effect,
                (if not_action { "NotAction" } else { "Action" }): action,
                (if not_resource { "NotResource" } else { "Resource" }): resource,
                "Condition": condition,
            })
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let names = prop::option::of(prop::sample::select(vec!["r", "s"]));
    (prop::sample::select(vec!["a:x", "b:y", "A:X"]), prop::sample::select(vec!["*", "arn:aws:a:::r", "arn:aws:a:::s"]), names).prop_map(
        |(action, resource, name)| {
            let context: Context = name.map(|name| ("aws:username", name)).into_iter().collect();
            Request { resource_account: Some("111122223333".to_owned()), ..Request::new(Principal::parse(BOB), action, resource).with_context(context) }
        },
    )
}

fn identity(statements: &[Value]) -> PolicySets {
    PolicySets::of_identity([policy(Kind::Identity, &json!(statements))])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_matching_deny_always_wins(
        request in request(),
        statements in prop::collection::vec(statement(&["Allow", "Deny"]), 1..5),
        deny in statement(&["Deny"]),
        place in any::<prop::sample::Index>(),
    ) {
        let alone = evaluate(&request, &identity(std::slice::from_ref(&deny))).effect;
        let mut all = statements;
        all.insert(place.index(all.len() + 1), deny);
        let together = evaluate(&request, &identity(&all)).effect;
        prop_assert!(alone != Effect::Deny || together == Effect::Deny);
    }

    #[test]
    fn another_allow_never_denies(request in request(), statements in prop::collection::vec(statement(&["Allow", "Deny"]), 1..5), more in statement(&["Allow"])) {
        let before = evaluate(&request, &identity(&statements)).effect;
        let mut all = statements;
        all.push(more);
        let after = evaluate(&request, &identity(&all)).effect;
        match before {
            Effect::Allow => prop_assert_eq!(after, Effect::Allow),
            Effect::Deny => prop_assert_eq!(after, Effect::Deny),
            Effect::ImplicitDeny => prop_assert!(after != Effect::Deny),
        }
    }

    #[test]
    fn order_does_not_matter(request in request(), statements in prop::collection::vec(statement(&["Allow", "Deny"]), 1..5).prop_shuffle()) {
        let forward = evaluate(&request, &identity(&statements)).effect;
        let mut all = statements;
        all.reverse();
        prop_assert_eq!(forward, evaluate(&request, &identity(&all)).effect);
    }

    #[test]
    fn keys_matter_only_where_they_are_read(request in request(), statements in prop::collection::vec(statement(&["Allow", "Deny"]), 1..4)) {
        let sets = identity(&statements);
        let bare = Request { context: Context::new(), ..request.clone() };
        prop_assert!(sets.reads_context() || evaluate(&request, &sets) == evaluate(&bare, &sets));
    }

    #[test]
    fn a_boundary_only_takes_away(request in request(), statements in prop::collection::vec(statement(&["Allow", "Deny"]), 1..4), limits in prop::collection::vec(statement(&["Allow", "Deny"]), 1..4)) {
        let free = identity(&statements);
        let bound = PolicySets { boundary: vec![policy(Kind::Identity, &json!(limits))], ..free.clone() };
        prop_assert!(evaluate(&request, &free).is_allowed() || !evaluate(&request, &bound).is_allowed());
    }
}
