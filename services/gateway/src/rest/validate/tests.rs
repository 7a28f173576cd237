//! Tests of the constraints of the service model.

use serde_json::json;

use super::*;

fn read<T>(input: &Value, build: impl FnOnce(&Input<'_>) -> T) -> Result<T, ApiError> {
    let faults = RefCell::default();
    let built = build(&Input::new(input.as_object().unwrap(), &faults));
    error(&faults.into_inner()).map_or(Ok(built), Err)
}

#[track_caller]
fn refused<T: std::fmt::Debug>(input: &Value, build: impl FnOnce(&Input<'_>) -> T) -> String {
    let error = read(input, build).unwrap_err();
    assert_eq!(error.kind, Kind::Validation);
    error.message
}

#[test]
fn members_at_fault_are_named_as_aws_does() {
    let account = |input: &Input<'_>| input.required_text("AccountId", &Text::ACCOUNT_ID);
    assert_eq!(read(&json!({"AccountId": "111122223333", "Unknown": 1}), account).unwrap(), "111122223333");
    for input in [json!({}), json!({"AccountId": null})] {
        assert_eq!(refused(&input, account), "1 validation error detected: Value null at 'accountId' failed to satisfy constraint: Member must not be null");
    }
    assert_eq!(
        refused(&json!({"AccountId": "x\n"}), account),
        "2 validation errors detected: Value 'x\\n' at 'accountId' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[0-9]+$; \
         Value 'x\\n' at 'accountId' failed to satisfy constraint: Member must have length greater than or equal to 12"
    );
    assert_eq!(
        refused(&json!({"AccountId": 5}), account),
        "1 validation error detected: Value at 'accountId' failed to satisfy constraint: Member must be a string"
    );
    let graph = read(&json!({"GraphArn": "x"}), |input| input.graph()).unwrap_err();
    assert_eq!(graph.code, Some(ErrorCode::InvalidGraphArn));
}

#[test]
fn sensitive_values_are_never_shown() {
    let accounts = |input: &Input<'_>| input.objects("Accounts", 50, |account| account.required_text("EmailAddress", &Text::EMAIL_ADDRESS));
    let text = refused(&json!({"Accounts": [{"EmailAddress": "a@example.com"}, {"EmailAddress": "hunter2"}]}), accounts);
    assert!(text.contains("Value at 'accounts.2.member.emailAddress' failed") && !text.contains("hunter2"), "{text}");
    let text = refused(&json!({"Message": ""}), |input| input.text("Message", &Text::EMAIL_MESSAGE));
    assert!(text.contains("Value at 'message' failed to satisfy constraint: Member must have length greater than or equal to 1"), "{text}");
}

#[test]
fn lists_and_pages_have_their_bounds() {
    let ids = |input: &Input<'_>| input.texts("AccountIds", 2, &Text::ACCOUNT_ID);
    assert_eq!(read(&json!({"AccountIds": ["111122223333"]}), ids).unwrap(), ["111122223333"]);
    for bad in [json!({}), json!({"AccountIds": []}), json!({"AccountIds": {}}), json!({"AccountIds": vec!["111122223333"; 3]}), json!({"AccountIds": [null]})]
    {
        assert!(refused(&bad, ids).contains("'accountIds"), "{bad}");
    }
    let size = |input: &Input<'_>| input.page_size(200);
    assert_eq!((read(&json!({}), size), read(&json!({"MaxResults": 200}), size)), (Ok(0), Ok(200)));
    for (bad, words) in [
        (json!(0), "greater than or equal to 1"),
        (json!(-9_000_000_000_i64), "greater than or equal to 1"),
        (json!(201), "less than or equal to 200"),
        (json!(9_000_000_000_i64), "less than or equal to 200"),
        (json!(1e21), "an integer"),
        (json!(1.5), "an integer"),
        (json!("10"), "an integer"),
        (json!(true), "an integer"),
    ] {
        let text = refused(&json!({"MaxResults": bad}), size);
        assert!(text.contains("'maxResults'") && text.contains(words), "{text}");
    }
    assert!(read(&json!({"NextToken": "t".repeat(1_024)}), |input| input.page_token(1_024)).is_ok());
    assert!(read(&json!({"NextToken": "t".repeat(1_025)}), |input| input.page_token(1_024)).is_err());
    let many = json!({"AccountIds": vec!["x"; 50]});
    let text = refused(&many, |input| input.texts("AccountIds", 50, &Text::ACCOUNT_ID));
    assert!(text.starts_with("100 validation errors detected") && text.len() < 2_000, "{text}");
}

#[test]
fn times_come_as_text_or_as_seconds() {
    let time = |value: Value| read(&json!({"Time": value}), |input| input.required_time("Time")).map(|time| time.to_string());
    for (value, expected) in [
        (json!("2024-01-02T01:02:03.456000Z"), "2024-01-02T01:02:03.456Z"),
        (json!("2024-01-02T01:02:03Z"), "2024-01-02T01:02:03Z"),
        (json!("2024-01-02T03:02:03+02:00"), "2024-01-02T01:02:03Z"),
        (json!(1_704_157_323), "2024-01-02T01:02:03Z"),
        (json!(1_704_157_323.5), "2024-01-02T01:02:03.500Z"),
    ] {
        assert_eq!(time(value).unwrap(), expected);
    }
    for bad in [json!("yesterday"), json!(true), json!("2024-13-01T00:00:00Z"), json!({}), json!(-1), json!(1e300), json!(null), json!("0001-01-01T00:00:00Z")]
    {
        assert!(time(bad.clone()).unwrap_err().message.contains("'time'"), "{bad}");
    }
}

#[test]
fn patterns_are_the_models() {
    let good = |rule: &Text, text: &str| rule.faults(text).is_empty();
    for address in ["a@example.com", "a@b@example.com", "ü@x-y.co", "a@1.a.bc", "a b@x.museum"] {
        assert!(good(&Text::EMAIL_ADDRESS, address), "{address}");
    }
    for bad in [
        "",
        "@example.com",
        "a@example",
        "a@-x.com",
        "a@x-.com",
        "a@x..com",
        "a@.com",
        "a@x.c",
        "a@x.c1",
        "a\n@x.com",
        "a@x_y.com",
        &format!("a@{}.com", "x".repeat(64)),
    ] {
        assert!(!good(&Text::EMAIL_ADDRESS, bad), "{bad}");
    }
    for key in ["a", "Team", "cost-center", "path/to:x_y=z", "a,b;c<d", "0", "+", "AWS:x", "xaws:"] {
        assert!(good(&Text::TAG_KEY, key), "{key}");
    }
    for bad in ["", "aws:x", "a key", "ä", "a>b", "a@b", "a*b", "k\n", &"k".repeat(129)] {
        assert!(!good(&Text::TAG_KEY, bad), "{bad}");
    }
    let graph = "arn:aws-us-gov:detective:us-gov-west-1:111122223333:graph:0123456789abcdef0123456789abcdef";
    assert!(good(&Text::GRAPH_ARN, graph) && !good(&Text::GRAPH_ARN, &graph.to_uppercase()) && !good(&Text::GRAPH_ARN, &format!("{graph}\n")));
    assert!(good(&Text::ENTITY_ARN, "arn:x") && !good(&Text::ENTITY_ARN, "x arn:"));
}

#[test]
fn tags_are_checked_key_and_value() {
    let tags = |input: &Input<'_>| input.tags(true);
    assert_eq!(read(&json!({"Tags": {"b": "", "a": "ä €"}}), tags).unwrap(), [("b".to_owned(), String::new()), ("a".to_owned(), "ä €".to_owned())]);
    assert!(read(&json!({}), |input| input.tags(false)).unwrap().is_empty());
    for bad in
        [json!(null), json!({}), json!([]), json!({"aws:x": "v"}), json!({"a key": "v"}), json!({"k": "v".repeat(257)}), json!({"k": null}), json!({"k": 1})]
    {
        let text = refused(&json!({"Tags": bad}), tags);
        assert!(text.contains("'tags"), "{text}");
    }
    let many: Map<String, Value> = (0..51).map(|number| (format!("k{number}"), json!("v"))).collect();
    assert!(refused(&json!({"Tags": many}), tags).contains("length less than or equal to 50"));
}

#[test]
fn fields_of_services_have_the_models_names() {
    for (field, member) in [
        ("graph_arn", "graphArn"),
        ("graph_arns[2]", "graphArns.3.member"),
        ("members[1].email", "accounts.2.member.emailAddress"),
        ("members[0].account_id", "accounts.1.member.accountId"),
        ("packages[0]", "datasourcePackages.1.member"),
        ("entity_arn", "entityArn"),
        ("scope.start_time", "scopeStartTime"),
        ("scope", "scope"),
        ("tags", "tags"),
        ("x[y]", "x[y]"),
    ] {
        assert_eq!(member_name(field), member);
    }
}
