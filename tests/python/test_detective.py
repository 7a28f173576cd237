"""What holds for every operation of the Amazon Detective API: policies, other accounts' graphs, missing graphs, input.

The operations one by one are in the files beside this one. All are called by a real boto3, whose answers are held to
botocore's service model, on SQLite and on Postgres.
"""

import datetime
import json
import re
import urllib.parse

import pytest

import detective
from detective import invoke, model
from installation import EVERYTHING, refused

NOWHERE = "0" * 32
NUMBER = "123456789012"
INVESTIGATION = "000000000000000000001"
USER = "arn:aws:iam::123456789012:user/somebody"
# The graph is another account's: whether the caller has to do with it is decided by membership, not by policies.
OF_MEMBERS = ["AcceptInvitation", "DisassociateMembership", "RejectInvitation"]
OPERATIONS = sorted(model().operation_names)

# What nobody needs to be told: errors that the model declares and that this system has no reason to answer.
NEVER = {
    ("BatchGetMembershipDatasources", "ResourceNotFoundException"),
    ("CreateGraph", "ConflictException"),
    ("CreateGraph", "ServiceQuotaExceededException"),
    ("DeleteMembers", "ConflictException"),
    ("UpdateDatasourcePackages", "ServiceQuotaExceededException"),
}


def day(ago):
    """The beginning of a day that is not long ago."""
    return (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=ago)).strftime("%Y-%m-%dT00:00:00Z")


def request(name, graph):
    """A request with everything that the operation takes."""
    scope = {"ScopeStartTime": day(3), "ScopeEndTime": day(2)}
    investigation = {"GraphArn": graph, "InvestigationId": INVESTIGATION}
    filters = {
        "Severity": {"Value": "HIGH"},
        "EntityArn": {"Value": USER},
        "CreatedTime": {"StartInclusive": day(3), "EndInclusive": day(2)},
    }
    return {
        "AcceptInvitation": {"GraphArn": graph},
        "BatchGetGraphMemberDatasources": {"GraphArn": graph, "AccountIds": [NUMBER]},
        "BatchGetMembershipDatasources": {"GraphArns": [graph]},
        "CreateGraph": {"Tags": {"team": "blue"}},
        "CreateMembers": {
            "GraphArn": graph,
            "Accounts": [{"AccountId": NUMBER, "EmailAddress": "a@example.com"}],
            "Message": "x",
            "DisableEmailNotification": True,
        },
        "DeleteGraph": {"GraphArn": graph},
        "DeleteMembers": {"GraphArn": graph, "AccountIds": [NUMBER]},
        "DescribeOrganizationConfiguration": {"GraphArn": graph},
        "DisableOrganizationAdminAccount": {},
        "DisassociateMembership": {"GraphArn": graph},
        "EnableOrganizationAdminAccount": {"AccountId": NUMBER},
        "GetInvestigation": investigation,
        "GetMembers": {"GraphArn": graph, "AccountIds": [NUMBER]},
        "ListDatasourcePackages": {"GraphArn": graph, "MaxResults": 10},
        "ListGraphs": {"MaxResults": 10},
        "ListIndicators": {**investigation, "MaxResults": 10, "IndicatorType": "TTP_OBSERVED"},
        "ListInvestigations": {
            "GraphArn": graph,
            "MaxResults": 10,
            "FilterCriteria": filters,
            "SortCriteria": {"Field": "STATUS", "SortOrder": "ASC"},
        },
        "ListInvitations": {"MaxResults": 10},
        "ListMembers": {"GraphArn": graph, "MaxResults": 10},
        "ListOrganizationAdminAccounts": {"MaxResults": 10},
        "ListTagsForResource": {"ResourceArn": graph},
        "RejectInvitation": {"GraphArn": graph},
        "StartInvestigation": {"GraphArn": graph, "EntityArn": USER, **scope},
        "StartMonitoringMember": {"GraphArn": graph, "AccountId": NUMBER},
        "TagResource": {"ResourceArn": graph, "Tags": {"team": "blue"}},
        "UntagResource": {"ResourceArn": graph, "TagKeys": ["team"]},
        "UpdateDatasourcePackages": {"GraphArn": graph, "DatasourcePackages": ["EKS_AUDIT"]},
        "UpdateInvestigationState": {**investigation, "State": "ARCHIVED"},
        "UpdateOrganizationConfiguration": {"GraphArn": graph, "AutoEnable": True},
    }[name]


def graph_of(name, graph):
    """The graph that a request names, or None."""
    asked = request(name, graph)
    return asked.get("GraphArn") or asked.get("ResourceArn")


OF_GRAPHS = [name for name in OPERATIONS if graph_of(name, "graph")]


def action(name):
    """The IAM action of an operation: the same, but for one."""
    return f"detective:{name.removesuffix('s') if name == 'ListOrganizationAdminAccounts' else name}"


def method(caller, name):
    """The operation as boto3 has it."""
    return getattr(caller.detective, re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower())


@pytest.fixture(scope="module")
def nobody(accounts):
    """A user without any policy, in the account that owns the graph."""
    return accounts(0).user()


@pytest.fixture(scope="module")
def stranger(accounts):
    """The administrator of an account that has nothing to do with the graph."""
    return accounts(9)


@pytest.mark.parametrize("name", OPERATIONS)
def test_without_a_policy_nothing_is_allowed(name, nobody, graph):
    message = refused("AccessDeniedException", method(nobody, name), **request(name, graph))
    resource = graph_of(name, graph) or "*"
    assert f"User: {nobody.arn} is not authorized to perform: {action(name)} on resource: {resource}" in message


@pytest.mark.parametrize("name", [name for name in OF_GRAPHS if name not in OF_MEMBERS])
def test_graphs_of_other_accounts_are_closed_whether_they_exist_or_not(name, stranger, graph):
    missing = graph.rsplit(":", 1)[0] + f":{NOWHERE}"
    told = [refused("AccessDeniedException", method(stranger, name), **request(name, arn)).replace(arn, "") for arn in (graph, missing)]
    assert told[0] == told[1]


@pytest.mark.parametrize("name", OF_MEMBERS)
def test_who_is_not_invited_is_told_the_same_of_every_graph(name, stranger, graph):
    missing = graph.rsplit(":", 1)[0] + f":{NOWHERE}"
    told = [refused("ResourceNotFoundException", method(stranger, name), **request(name, arn)).replace(arn, "") for arn in (graph, missing)]
    assert told[0] == told[1]


@pytest.mark.parametrize("name", OF_GRAPHS)
def test_a_graph_that_does_not_exist_is_not_found(name, owner, graph):
    missing = graph.rsplit(":", 1)[0] + f":{NOWHERE}"
    declared = {shape.name for shape in model().operation_model(name).error_shapes}
    expected = "ResourceNotFoundException" if "ResourceNotFoundException" in declared else "ValidationException"
    refused(expected, method(owner, name), **request(name, missing))


def wrong_values(shape, good):
    """Values that the shape does not allow, each with the member at fault, or None for the value itself."""
    kind, low, high = shape.type_name, shape.metadata.get("min"), shape.metadata.get("max")
    if kind == "structure":
        yield None, "text"
        for name in shape.required_members:
            yield name, {key: value for key, value in good.items() if key != name}
            yield name, {**good, name: None}
        for name, member in shape.members.items():
            if name in good:
                for inner, value in wrong_values(member, good[name]):
                    yield inner or name, {**good, name: value}
    elif kind == "list":
        yield None, {"not": "a list"}
        if low:
            yield None, []
        if high:
            yield None, good * (high + 1)
        for inner, value in wrong_values(shape.member, good[0]):
            yield inner, [value]
    elif kind == "map":
        yield None, ["not a map"]
        if low:
            yield None, {}
        if high:
            yield None, {"k" * (index + 1): "v" for index in range(high + 1)}
        yield None, {"aws:reserved": "v"}
        yield None, {"k" * 129: "v"}
        yield None, {"key": "v" * 257}
        yield None, {"a key": "v"}
    elif kind == "string":
        yield None, 5
        yield None, {}
        if low:
            yield None, ""
        if high:
            yield None, good + "a" * high
        if "pattern" in shape.metadata:
            yield None, "\n" * (low or 1)
        if shape.enum:
            yield None, "SOMETHING_ELSE"
    elif kind == "integer":
        yield from ((None, value) for value in ("10", 1.5, True, low - 1, high + 1, 2**70))
    elif kind == "boolean":
        yield from ((None, value) for value in ("true", 1))
    elif kind == "timestamp":
        yield from ((None, value) for value in ("yesterday", True, "2024-13-01T00:00:00Z", {}))


def wrong_bodies(name, graph):
    """Bodies that the operation does not take, each with the member at fault."""
    shape = model().operation_model(name).input_shape
    members = {member: value for member, value in (shape.members.items() if shape else ()) if not value.serialization.get("location")}
    good = {member: value for member, value in request(name, graph).items() if member in members}
    for member in good:
        if member in shape.required_members:
            yield member, {other: value for other, value in good.items() if other != member}
            yield member, {**good, member: None}
        for inner, value in wrong_values(members[member], good[member]):
            yield inner or member, {**good, member: value}


WITH_BODY = [name for name in OPERATIONS if any(wrong_bodies(name, "graph"))]


@pytest.mark.parametrize("name", WITH_BODY)
def test_every_constraint_of_the_input_is_held_to_and_named(name, owner, graph):
    path = model().operation_model(name).http["requestUri"].replace("{ResourceArn}", urllib.parse.quote(graph, safe=""))
    for member, body in wrong_bodies(name, graph):
        answer = invoke(owner.installation.endpoint, owner.key, name, json.dumps(body).encode(), path)
        assert answer.error == "ValidationException", f"{member} in {str(body)[:300]}: {answer}"
        assert member.lower() in answer.message.lower(), f"{member} in {str(body)[:300]}: {answer.message}"


@pytest.mark.parametrize("name", ["ListTagsForResource", "TagResource", "UntagResource"])
@pytest.mark.parametrize("resource", ["nothing", "arn:aws:s3:::bucket", "arn:aws:detective:us-east-1:1:graph:x"])
def test_what_is_tagged_must_be_a_graph(name, resource, owner):
    path = f"/tags/{urllib.parse.quote(resource, safe='')}" + ("?tagKeys=a" if name == "UntagResource" else "")
    body = b'{"Tags": {"a": "b"}}' if name == "TagResource" else b""
    answer = invoke(owner.installation.endpoint, owner.key, name, body, path)
    assert answer.error == "ValidationException", answer
    assert "resourcearn" in answer.message.lower()


@pytest.mark.parametrize("keys", [[], [""], ["k" * 129], ["aws:x"], ["a b"], ["k"] * 51], ids=["none", "empty", "long", "reserved", "blank", "many"])
def test_tag_keys_in_the_query_are_held_to_the_model(keys, owner, graph):
    query = urllib.parse.urlencode([("tagKeys", key) for key in keys], quote_via=urllib.parse.quote)
    path = f"/tags/{urllib.parse.quote(graph, safe='')}" + (f"?{query}" if query else "")
    answer = invoke(owner.installation.endpoint, owner.key, "UntagResource", b"", path)
    assert answer.error == "ValidationException", answer
    assert "tagkeys" in answer.message.lower()


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'"text"', b"5", b"null x", b"\xff\xfe", b'{"MaxResults": 1' + b"0" * 400 + b"}", b"[" * 5000], ids=range(8)
)
def test_bodies_that_are_no_objects_are_refused(body, owner):
    answer = invoke(owner.installation.endpoint, owner.key, "ListGraphs", body)
    assert answer.error == "ValidationException", answer


def test_a_body_can_be_left_out_and_unknown_members_are_passed_over(owner):
    endpoint = owner.installation.endpoint
    assert invoke(endpoint, owner.key, "ListGraphs", b"").status == 200
    assert invoke(endpoint, owner.key, "ListGraphs", b'{"Status": "ENABLED", "AdministratorId": "000000000000", "MaxResults": null}').status == 200


def test_a_policy_allows_its_actions_and_nothing_else(owner, graph):
    reader = owner.user(
        json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {"Effect": "Allow", "Action": ["detective:List*", "detective:GetMembers"], "Resource": "*"},
                    {"Effect": "Deny", "Action": "detective:ListTagsForResource", "Resource": graph},
                ],
            }
        )
    )
    reader.detective.list_graphs()
    reader.detective.list_members(GraphArn=graph)
    reader.detective.get_members(GraphArn=graph, AccountIds=[NUMBER])
    assert "explicit deny" in refused("AccessDeniedException", reader.detective.list_tags_for_resource, ResourceArn=graph)
    refused("AccessDeniedException", reader.detective.delete_graph, GraphArn=graph)


def test_policies_see_the_tags_of_a_graph(owner, graph):
    condition = {"StringEquals": {"aws:ResourceTag/team": "blue"}}
    statement = {"Effect": "Allow", "Action": "detective:ListMembers", "Resource": "*", "Condition": condition}
    user = owner.user(json.dumps({"Version": "2012-10-17", "Statement": statement}))
    refused("AccessDeniedException", user.detective.list_members, GraphArn=graph)
    owner.detective.tag_resource(ResourceArn=graph, Tags={"team": "blue"})
    try:
        # Another principal, since what is known of one is kept for a moment.
        tagged = owner.user(json.dumps({"Version": "2012-10-17", "Statement": statement}))
        assert tagged.detective.list_members(GraphArn=graph)["MemberDetails"] == []
    finally:
        owner.detective.untag_resource(ResourceArn=graph, TagKeys=["team"])


def test_policies_see_the_tags_of_a_request(installation):
    account = installation.account().without_graph()
    condition = {"StringEquals": {"aws:RequestTag/team": "blue"}, "ForAllValues:StringEquals": {"aws:TagKeys": ["team"]}}
    statement = {"Effect": "Allow", "Action": "detective:CreateGraph", "Resource": "*", "Condition": condition}
    user = account.user(json.dumps({"Version": "2012-10-17", "Statement": statement}))
    refused("AccessDeniedException", user.detective.create_graph)
    refused("AccessDeniedException", user.detective.create_graph, Tags={"team": "red"})
    refused("AccessDeniedException", user.detective.create_graph, Tags={"team": "blue", "more": "x"})
    assert user.detective.create_graph(Tags={"team": "blue"})["GraphArn"]


def test_a_user_of_the_account_with_every_right_is_like_its_administrator(owner, graph):
    user = owner.user(EVERYTHING)
    assert [entry["Arn"] for entry in user.detective.list_graphs()["GraphList"]] == [graph]


@pytest.mark.parametrize(
    "verb, path",
    [("POST", "/graphs"), ("GET", "/graph"), ("POST", "/tags"), ("PATCH", "/tags/x"), ("POST", "/graph/list/"), ("DELETE", "/invitation")],
)
def test_what_is_no_operation_is_not_found(verb, path, owner):
    endpoint = owner.installation.endpoint
    path, headers = detective.sign(endpoint, owner.key, verb, path, b"{}", {"Content-Type": "application/json"})
    answer = detective.send(endpoint, verb, path, headers, b"{}")
    assert (answer.status, answer.error) == (404, "UnknownOperationException"), answer


def test_large_bodies_are_refused_before_they_are_read(owner):
    body = b'{"Message": "' + b"x" * (4 << 20) + b'"}'
    endpoint = owner.installation.endpoint
    path, headers = detective.sign(endpoint, owner.key, "POST", "/graph/members", body, {"Content-Type": "application/json"})
    try:
        answer = detective.send(endpoint, "POST", path, headers, body)
    except (BrokenPipeError, ConnectionResetError):
        return
    assert answer.status in (400, 413), answer


def test_every_operation_and_each_of_its_errors_was_seen():
    """Runs last, and only when the whole API's tests do."""
    limited = {name for name in OPERATIONS if "TooManyRequestsException" in {shape.name for shape in model().operation_model(name).error_shapes}}
    expected = {(name, "success") for name in OPERATIONS}
    for name in OPERATIONS:
        expected |= {(name, shape.name) for shape in model().operation_model(name).error_shapes}
    expected -= {(name, "InternalServerException") for name in OPERATIONS} | NEVER
    assert len(limited) == 10
    assert sorted(expected - detective.SEEN) == []
    assert sorted(NEVER & detective.SEEN) == []
