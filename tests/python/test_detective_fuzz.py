"""Anything that a client may send: no input makes the server fail, or answer what the model does not know.

Inputs come from botocore's own shapes: right, at the bounds, wrong, of other JSON types, with members that do not exist;
signed rightly, so that they reach the operation.
"""

import datetime
import json
import string
import urllib.parse

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detective import SIGNATURE_ERRORS, error_shapes, invoke, model
from test_detective import OPERATIONS, request

# What would end the work of the other examples.
DESTRUCTIVE = {"DeleteGraph", "DisableOrganizationAdminAccount"}
EXAMPLES = 60

# Also a half of a surrogate pair, which JSON can write and UTF-8 cannot.
ANY_TEXT = st.text(max_size=40) | st.sampled_from(["\ud800", "\0", "￿" * 10])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.integers(-(2**80), 2**80), st.floats(allow_nan=False, allow_infinity=False), ANY_TEXT)
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4), max_leaves=8)
TIMES = st.one_of(
    st.datetimes(datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31)).map(lambda time: time.isoformat() + "Z"),
    st.sampled_from(
        [
            "2024-06-01T00:00:00Z",
            "2024-06-02T00:00:00.123456Z",
            "2024-06-02T00:00:00+02:00",
            "2024-02-30T00:00:00Z",
            "0000-00-00T00:00:00Z",
            "24:00",
            "",
        ]
    ),
    st.integers(-(10**12), 10**12),
    st.floats(-1e12, 1e12),
)


def good(shape, known):
    """Values that the shape allows; `known` gives values that mean something, by the shapes' names."""
    kind, low, high = shape.type_name, shape.metadata.get("min"), shape.metadata.get("max")
    if shape.name in known:
        return st.sampled_from(known[shape.name])
    if kind == "structure":
        members = {name: value(member, known) for name, member in shape.members.items()}
        required = {name: members.pop(name) for name in shape.required_members}
        return st.fixed_dictionaries(required, optional=members)
    if kind == "list":
        return st.lists(value(shape.member, known), min_size=low or 0, max_size=min(high or 5, (low or 0) + 4))
    if kind == "map":
        keys = st.one_of(good(shape.key, known), bounds(shape.key))
        return st.dictionaries(keys, value(shape.value, known), min_size=low or 0, max_size=4)
    if kind == "string" and shape.enum:
        return st.sampled_from(shape.enum)
    if kind == "string" and shape.metadata.get("pattern"):
        return st.from_regex(shape.metadata["pattern"])
    if kind == "string":
        return st.text(min_size=low or 0, max_size=min(high or 100, 100))
    if kind in ("integer", "long"):
        return st.integers(low if low is not None else -10, high if high is not None else 10)
    return {"boolean": st.booleans(), "timestamp": TIMES}[kind]


def bounds(shape):
    """Values at the shape's bounds and just beyond."""
    kind, low, high = shape.type_name, shape.metadata.get("min"), shape.metadata.get("max")
    sizes = [size for bound in (low, high) if bound is not None for size in (bound - 1, bound, bound + 1) if size >= 0]
    if kind == "string":
        return st.sampled_from([character * size for size in sizes for character in ("a", "1", "é", "\0", "𐍈")] or ["", "\0", "x" * 5000])
    if kind in ("integer", "long"):
        return st.sampled_from([bound + step for bound in (low or 0, high or 0) for step in (-1, 0, 1)] + [2**31, 2**63, -(2**63) - 1])
    if kind == "list":
        return st.sampled_from([[None] * size for size in sizes] or [[]])
    if kind == "map":
        return st.sampled_from([{f"k{index}": "v" for index in range(size)} for size in sizes] or [{}])
    return st.nothing()


def value(shape, known):
    """Mostly what the shape allows."""
    right = good(shape, known)
    return st.one_of(right, right, right, right, right, right, bounds(shape), ANYTHING)


def bodies(name, known):
    """Bodies of an operation; also with members that it does not have, and with none."""
    shape = model().operation_model(name).input_shape
    if shape is None:
        return st.one_of(st.just({}), ANYTHING)
    members = {member: value(inner, known) for member, inner in shape.members.items() if not inner.serialization.get("location")}
    required = {member: members.pop(member) for member in shape.required_members if member in members}
    right = st.fixed_dictionaries(required, optional=members)
    more = st.tuples(right, st.dictionaries(st.text(string.ascii_letters, max_size=12), ANYTHING, max_size=3)).map(
        lambda pair: {**pair[1], **pair[0]}
    )
    fewer = st.fixed_dictionaries({}, optional={**required, **members})
    return st.one_of(right, right, right, more, fewer, ANYTHING)


@pytest.fixture(scope="module")
def target(sqlite):
    """An account that may do everything and has something of each kind."""
    caller = sqlite.account()
    graph = caller.graph()
    caller.detective.create_members(GraphArn=graph, Accounts=[{"AccountId": sqlite.number(), "EmailAddress": "a@example.com"} for _ in range(3)])
    members = [member["AccountId"] for member in caller.detective.list_members(GraphArn=graph)["MemberDetails"]]
    scope = {name: content for name, content in request("StartInvestigation", graph).items() if name.startswith("Scope")}
    investigation = caller.detective.start_investigation(GraphArn=graph, EntityArn=f"arn:aws:iam::{caller.account}:user/alice", **scope)[
        "InvestigationId"
    ]
    token = caller.detective.list_members(GraphArn=graph, MaxResults=1)["NextToken"]
    return caller, {
        "GraphArn": [graph, graph, graph, graph[:-1] + "0", graph.replace("us-east-1", "eu-west-1"), sqlite.server.graph],
        "AccountId": [*members, caller.account, "000000000000"],
        "InvestigationId": [investigation, "0" * 21],
        "PaginationToken": [token, token[:-1], "x"],
        "AiPaginationToken": [token, "x"],
        "EmailAddress": ["a@example.com", "b@example.org"],
        "EntityArn": [f"arn:aws:iam::{caller.account}:user/alice", f"arn:aws:iam::{caller.account}:role/a", "arn:aws:iam::x"],
    }


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_input_makes_the_server_fail(name, target):
    caller, known = target
    operation = model().operation_model(name)
    resources = st.sampled_from([known["GraphArn"][0]] * 3 + known["GraphArn"]) | st.text(min_size=1, max_size=30).filter(
        lambda text: text.strip(".")
    )
    keys = st.lists(st.sampled_from(["a", "team", "aws:x", "k" * 129]) | st.text(max_size=10), max_size=4)
    if name in DESTRUCTIVE:
        known = {**known, "GraphArn": [arn for arn in known["GraphArn"] if arn != known["GraphArn"][0]]}

    @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(bodies(name, known), resources, keys)
    def send(body, resource, tag_keys):
        path = operation.http["requestUri"].replace("{ResourceArn}", urllib.parse.quote(resource, safe=""))
        if name == "UntagResource":
            path += "?" + urllib.parse.urlencode([("tagKeys", key) for key in tag_keys], quote_via=urllib.parse.quote)
        content = b"" if operation.http["method"] in ("GET", "DELETE") else json.dumps(body).encode()
        # The answer is held to the model on the way.
        answer = invoke(caller.installation.endpoint, caller.key, name, content, path)
        assert answer.status < 500, f"{content!r} to {path}: {answer}"
        assert answer.status < 300 or answer.error in error_shapes(), f"{content!r} to {path}: {answer}"
        assert answer.error not in SIGNATURE_ERRORS

    send()


BYTES = st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("name", ["CreateMembers", "ListInvestigations", "TagResource"])
def test_bodies_that_are_no_json_are_refused(name, target):
    caller, known = target
    path = model().operation_model(name).http["requestUri"].replace("{ResourceArn}", urllib.parse.quote(known["GraphArn"][0], safe=""))

    @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(BYTES)
    def send(content):
        answer = invoke(caller.installation.endpoint, caller.key, name, content, path)
        assert answer.status == 400, f"{content!r}: {answer}"

    send()
