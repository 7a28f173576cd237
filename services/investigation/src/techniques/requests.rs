//! What a call asked for, read out of its CloudTrail record. What cannot be read is not held against anybody.

use serde_json::Value;

use crate::investigation::Subject;

/// Ports that hand over a machine: SSH and remote desktop.
const REMOTE_PORTS: [i64; 2] = [22, 3_389];
/// As many instances as nobody starts by hand.
const MANY_INSTANCES: i64 = 10;

fn parameter<'a>(record: &'a Value, path: &str) -> Option<&'a Value> {
    record.get("requestParameters")?.pointer(path)
}

fn text<'a>(record: &'a Value, path: &str) -> Option<&'a str> {
    parameter(record, path)?.as_str()
}

/// The value's elements; a value that is no list is its only element.
fn elements(value: &Value) -> &[Value] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

/// Whether any text inside a value, at whatever depth, is one that `wanted` accepts.
fn holds(value: &Value, wanted: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => wanted(text),
        Value::Array(values) => values.iter().any(|value| holds(value, wanted)),
        Value::Object(values) => values.values().any(|value| holds(value, wanted)),
        _ => false,
    }
}

/// The account that a principal names: 12 digits, or the ARN's account.
fn account_of(principal: &str) -> Option<&str> {
    let account = if principal.contains(':') { principal.split(':').nth(4)? } else { principal };
    Some(account).filter(|account| account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_outsider(subject: &Subject, principal: &str) -> bool {
    principal == "*" || subject.account().is_some_and(|own| account_of(principal).is_some_and(|account| account != own.as_str()))
}

/// Whether a policy, given as text or as an object, has an allowing statement that `wanted` accepts.
fn allows(policy: &Value, wanted: impl Fn(&Value) -> bool) -> bool {
    let parsed = policy.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let statements = parsed.as_ref().unwrap_or(policy).get("Statement");
    let allowing = |statement: &&Value| statement.get("Effect").and_then(Value::as_str) == Some("Allow");
    statements.is_some_and(|statements| elements(statements).iter().filter(allowing).any(wanted))
}

/// It names another user than the caller.
pub(super) fn another_user(subject: &Subject, record: &Value) -> bool {
    text(record, "/userName").is_some_and(|name| subject.kind() == gumshoe_model::EntityType::Role || name != subject.name())
}

/// It grants everything, or everything in IAM.
pub(super) fn administrator_policy(_: &Subject, record: &Value) -> bool {
    text(record, "/policyArn").is_some_and(|arn| arn.ends_with(":policy/AdministratorAccess") || arn.ends_with(":policy/IAMFullAccess"))
}

/// An inline policy that allows every action.
pub(super) fn allows_everything(_: &Subject, record: &Value) -> bool {
    let any_action = |statement: &Value| statement.get("Action").is_some_and(|actions| elements(actions).iter().any(|action| action == "*" || action == "*:*"));
    parameter(record, "/policyDocument").is_some_and(|policy| allows(policy, any_action))
}

/// A role's trust policy lets in another account, or everybody.
pub(super) fn trusts_outsiders(subject: &Subject, record: &Value) -> bool {
    let outside = |statement: &Value| {
        let named = statement.get("Principal").map(|principal| principal.get("AWS").unwrap_or(principal));
        named.is_some_and(|named| elements(named).iter().filter_map(Value::as_str).any(|principal| is_outsider(subject, principal)))
    };
    parameter(record, "/policyDocument").is_some_and(|policy| allows(policy, outside))
}

/// A resource's permission goes to another account, or to everybody.
pub(super) fn permits_outsiders(subject: &Subject, record: &Value) -> bool {
    text(record, "/principal").is_some_and(|principal| is_outsider(subject, principal))
}

/// A bucket's policy lets everybody in, without a condition.
pub(super) fn public_bucket_policy(_: &Subject, record: &Value) -> bool {
    let everybody = |statement: &Value| {
        let principal = statement.get("Principal");
        let named = principal.map(|principal| principal.get("AWS").unwrap_or(principal));
        named.is_some_and(|named| elements(named).iter().any(|principal| principal == "*")) && statement.get("Condition").is_none()
    };
    parameter(record, "/bucketPolicy").is_some_and(|policy| allows(policy, everybody))
}

/// A bucket's or object's list of grants lets everybody in.
pub(super) fn public_grant(_: &Subject, record: &Value) -> bool {
    let everybody = |text: &str| text.starts_with("public-read") || text.ends_with("/global/AllUsers") || text.ends_with("/global/AuthenticatedUsers");
    record.get("requestParameters").is_some_and(|parameters| holds(parameters, &everybody))
}

/// A snapshot or image is shared with another account, or with everybody.
pub(super) fn shares_with_outsiders(subject: &Subject, record: &Value) -> bool {
    let outside = |value: &Value| value.as_str().is_some_and(|principal| principal == "all" || is_outsider(subject, principal));
    let item = |item: &Value| ["group", "userId"].iter().filter_map(|key| item.get(key)).any(outside);
    let added = ["/createVolumePermission/add/items", "/launchPermission/add/items"].into_iter().filter_map(|path| parameter(record, path));
    added.flat_map(elements).any(item) || parameter(record, "/valuesToAdd").is_some_and(|values| elements(values).iter().any(outside))
}

/// A firewall rule lets the whole internet in by SSH or remote desktop.
pub(super) fn opens_remote_ports(_: &Subject, record: &Value) -> bool {
    let world = |text: &str| text == "0.0.0.0/0" || text == "::/0";
    let opens = |rule: &Value| {
        let port = |key: &str| rule.get(key).and_then(Value::as_i64);
        let reaches = rule.get("ipProtocol").and_then(Value::as_str) == Some("-1")
            || port("fromPort").zip(port("toPort")).is_some_and(|(from, to)| REMOTE_PORTS.iter().any(|port| (from..=to).contains(port)));
        reaches && holds(rule, &world)
    };
    let rules = parameter(record, "/ipPermissions/items").or_else(|| record.get("requestParameters"));
    rules.is_some_and(|rules| elements(rules).iter().any(opens))
}

/// So many instances are started at once as nobody starts by hand.
pub(super) fn many_instances(_: &Subject, record: &Value) -> bool {
    let count = |item: &Value| item.get("maxCount").and_then(Value::as_i64).is_some_and(|count| count >= MANY_INSTANCES);
    parameter(record, "/instancesSet/items").is_some_and(|items| elements(items).iter().any(count))
}

/// An instance gets another start-up script.
pub(super) fn sets_user_data(_: &Subject, record: &Value) -> bool {
    parameter(record, "/userData").is_some_and(|data| !data.is_null())
}

/// A bucket stops keeping old versions.
pub(super) fn suspends_versions(_: &Subject, record: &Value) -> bool {
    record.get("requestParameters").is_some_and(|parameters| holds(parameters, &|text| text == "Suspended"))
}

/// A bucket's objects are deleted within a day.
pub(super) fn expires_within_a_day(_: &Subject, record: &Value) -> bool {
    let days = |rule: &Value| rule.pointer("/Expiration/Days").and_then(Value::as_i64).is_some_and(|days| days <= 1);
    let rules = parameter(record, "/LifecycleConfiguration/Rule").or_else(|| parameter(record, "/LifecycleConfiguration/Rules"));
    rules.is_some_and(|rules| elements(rules).iter().any(days))
}

/// A trail is told to leave management events out.
pub(super) fn leaves_management_events_out(_: &Subject, record: &Value) -> bool {
    let out = |selector: &Value| selector.get("includeManagementEvents").and_then(Value::as_bool) == Some(false);
    parameter(record, "/eventSelectors").is_some_and(|selectors| elements(selectors).iter().any(out))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    type Condition = fn(&Subject, &Value) -> bool;

    fn check(condition: Condition, holds: &[Value], fails: &[Value]) {
        let ann: Subject = "arn:aws:iam::111122223333:user/ann".parse().unwrap();
        for parameters in holds {
            assert!(condition(&ann, &json!({ "requestParameters": parameters })), "{parameters}");
        }
        for parameters in fails {
            assert!(!condition(&ann, &json!({ "requestParameters": parameters })), "{parameters}");
        }
        for nothing in [Value::Null, json!({}), json!({ "requestParameters": null }), json!({ "requestParameters": { "x": [1, { "y": 2 }] } }), json!([1])] {
            assert!(!condition(&ann, &nothing), "{nothing}");
        }
    }

    #[test]
    fn users_policies_and_trust() {
        check(another_user, &[json!({ "userName": "bob" })], &[json!({ "userName": "ann" })]);
        let role: Subject = "arn:aws:iam::111122223333:role/ann".parse().unwrap();
        assert!(another_user(&role, &json!({ "requestParameters": { "userName": "ann" } })));
        check(
            administrator_policy,
            &[json!({ "policyArn": "arn:aws:iam::aws:policy/AdministratorAccess" }), json!({ "policyArn": "arn:aws-cn:iam::aws:policy/IAMFullAccess" })],
            &[json!({ "policyArn": "arn:aws:iam::aws:policy/ReadOnlyAccess" })],
        );
        let document = |statement: Value| json!({ "policyDocument": json!({ "Version": "2012-10-17", "Statement": statement }).to_string() });
        check(
            allows_everything,
            &[document(json!({ "Effect": "Allow", "Action": "*" })), document(json!([{ "Effect": "Allow", "Action": ["s3:*", "*:*"] }]))],
            &[document(json!({ "Effect": "Deny", "Action": "*" })), document(json!({ "Effect": "Allow", "Action": "s3:*" })), json!({ "policyDocument": "{" })],
        );
        let trust = |principal: Value| document(json!([{ "Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole" }]));
        check(
            trusts_outsiders,
            &[trust(json!("*")), trust(json!({ "AWS": ["111122223333", "999988887777"] })), trust(json!({ "AWS": "arn:aws:iam::999988887777:root" }))],
            &[
                trust(json!({ "Service": "ec2.amazonaws.com" })),
                trust(json!({ "AWS": "arn:aws:iam::111122223333:root" })),
                trust(json!({ "AWS": "AIDAEXAMPLE" })),
            ],
        );
        check(
            permits_outsiders,
            &[json!({ "principal": "*" }), json!({ "principal": "999988887777" })],
            &[json!({ "principal": "events.amazonaws.com" }), json!({ "principal": "111122223333" })],
        );
    }

    #[test]
    fn buckets() {
        let policy = |statement: Value| json!({ "bucketPolicy": { "Statement": [statement] } });
        check(
            public_bucket_policy,
            &[policy(json!({ "Effect": "Allow", "Principal": "*" })), policy(json!({ "Effect": "Allow", "Principal": { "AWS": ["*"] } }))],
            &[
                policy(json!({ "Effect": "Deny", "Principal": "*" })),
                policy(json!({ "Effect": "Allow", "Principal": "*", "Condition": { "Bool": { "aws:SecureTransport": "true" } } })),
                policy(json!({ "Effect": "Allow", "Principal": { "AWS": "111122223333" } })),
            ],
        );
        let grantee = json!({ "Grant": [{ "Grantee": { "URI": "http://acs.amazonaws.com/groups/global/AllUsers" }, "Permission": "READ" }] });
        check(
            public_grant,
            &[json!({ "x-amz-acl": ["public-read-write"] }), json!({ "AccessControlPolicy": { "AccessControlList": grantee } })],
            &[json!({ "x-amz-acl": ["private"] })],
        );
        check(
            suspends_versions,
            &[json!({ "VersioningConfiguration": { "Status": "Suspended" } })],
            &[json!({ "VersioningConfiguration": { "Status": "Enabled" } })],
        );
        let rule = |days: i64| json!({ "LifecycleConfiguration": { "Rule": { "Expiration": { "Days": days }, "Status": "Enabled" } } });
        check(expires_within_a_day, &[rule(1)], &[rule(2), rule(365)]);
    }

    #[test]
    fn snapshots_firewalls_and_instances() {
        let volume = |item: Value| json!({ "createVolumePermission": { "add": { "items": [item] } } });
        check(
            shares_with_outsiders,
            &[
                volume(json!({ "group": "all" })),
                volume(json!({ "userId": "999988887777" })),
                json!({ "launchPermission": { "add": { "items": [{ "userId": "999988887777" }] } } }),
                json!({ "attributeName": "restore", "valuesToAdd": ["999988887777"] }),
            ],
            &[volume(json!({ "userId": "111122223333" })), json!({ "createVolumePermission": { "remove": { "items": [{ "group": "all" }] } } })],
        );
        let firewall = |protocol: &str, from: i64, to: i64, range: &str| {
            let item = json!({ "ipProtocol": protocol, "fromPort": from, "toPort": to, "ipRanges": { "items": [{ "cidrIp": range }] } });
            json!({ "groupId": "sg-1", "ipPermissions": { "items": [item] } })
        };
        check(
            opens_remote_ports,
            &[
                firewall("tcp", 22, 22, "0.0.0.0/0"),
                firewall("tcp", 1, 65_535, "0.0.0.0/0"),
                firewall("-1", -1, -1, "::/0"),
                json!({ "ipProtocol": "tcp", "fromPort": 3389, "toPort": 3389, "cidrIp": "0.0.0.0/0" }),
            ],
            &[firewall("tcp", 443, 443, "0.0.0.0/0"), firewall("tcp", 22, 22, "10.0.0.0/8")],
        );
        let instances = |count: i64| json!({ "instancesSet": { "items": [{ "minCount": 1, "maxCount": count }] } });
        check(many_instances, &[instances(10)], &[instances(9)]);
        check(sets_user_data, &[json!({ "userData": "<sensitiveDataRemoved>" })], &[json!({ "userData": null })]);
        check(
            leaves_management_events_out,
            &[json!({ "eventSelectors": [{ "includeManagementEvents": false }] })],
            &[json!({ "eventSelectors": [{ "includeManagementEvents": true }] })],
        );
    }
}
