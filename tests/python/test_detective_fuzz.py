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
from installation import ORGANIZATIONS
from test_detective import OPERATIONS, day, request

# What would end the work of the other examples.
DESTRUCTIVE = {"DeleteGraph", "DisableOrganizationAdminAccount"}
EXAMPLES = 80

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


def right(shape, known):
    """Values that the shape allows; `known` gives values that mean something, by the shapes' names."""
    kind, low, high = shape.type_name, shape.metadata.get("min"), shape.metadata.get("max")
    if shape.name in known:
        return st.sampled_from(known[shape.name])
    if kind == "structure":
        members = {name: right(member, known) for name, member in shape.members.items() if not member.serialization.get("location")}
        required = {name: members.pop(name) for name in shape.required_members if name in members}
        return st.fixed_dictionaries(required, optional=members)
    if kind == "list":
        return st.lists(right(shape.member, known), min_size=low or 0, max_size=min(high or 5, (low or 0) + 4))
    if kind == "map":
        return st.dictionaries(right(shape.key, known), right(shape.value, known), min_size=low or 0, max_size=4)
    if kind == "string" and shape.enum:
        return st.sampled_from(shape.enum)
    if kind == "string" and shape.metadata.get("pattern"):
        return st.from_regex(shape.metadata["pattern"])
    if kind == "string":
        return st.text(min_size=low or 0, max_size=min(high or 100, 100))
    if kind in ("integer", "long"):
        return st.integers(low if low is not None else -10, high if high is not None else 10)
    return {"boolean": st.booleans(), "timestamp": TIMES}[kind]


def wrong(shape):
    """Values at the shape's bounds and just beyond, and of any other kind."""
    if shape is None:
        return ANYTHING
    kind, low, high = shape.type_name, shape.metadata.get("min"), shape.metadata.get("max")
    sizes = [size for bound in (low, high) if bound is not None for size in (bound - 1, bound, bound + 1) if size >= 0]
    bounds = {
        "string": [character * size for size in sizes for character in ("a", "1", "é", "\0", "𐍈")] or ["", "\0", "x" * 5000],
        "integer": [bound + step for bound in (low or 0, high or 0) for step in (-1, 0, 1)] + [2**31, 2**63, -(2**63) - 1],
        "list": [[None] * size for size in sizes] or [[]],
        "map": [{f"k{index}": "v" for index in range(size)} for size in sizes] or [{}],
    }.get(kind)
    if kind == "timestamp":
        return TIMES
    return st.sampled_from(bounds) | ANYTHING if bounds else ANYTHING


@st.composite
def bodies(draw, name, known):
    """A body of the operation: as the model has it, or with up to three parts of it left out, exchanged or added."""
    shape = model().operation_model(name).input_shape
    body = draw(right(shape, known)) if shape else {}
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2, 3]))):
        body = draw(damaged(body, shape))
    return body


@st.composite
def damaged(draw, value, shape):
    """The value with one part of it changed, at any depth."""
    if isinstance(value, dict) and draw(st.integers(0, 5)):
        if not value or not draw(st.integers(0, 3)):
            return {**value, draw(st.text(string.ascii_letters, max_size=12)): draw(ANYTHING)}
        key = draw(st.sampled_from(sorted(value)))
        if not draw(st.integers(0, 3)):
            return {name: member for name, member in value.items() if name != key}
        return {**value, key: draw(damaged(value[key], part(shape, key)))}
    if isinstance(value, list) and value and draw(st.booleans()):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], draw(damaged(value[index], part(shape, index))), *value[index + 1 :]]
    return draw(wrong(shape))


def part(shape, key):
    """The shape of a part, where there is one."""
    kind = shape.type_name if shape else None
    if kind == "structure":
        return shape.members.get(key)
    return {"list": lambda: shape.member, "map": lambda: shape.value}.get(kind, lambda: None)()


@pytest.fixture(scope="module")
def target(sqlite):
    """An account that may do everything and has something of each kind."""
    caller = sqlite.account()
    caller.call(ORGANIZATIONS, "CreateOrganization")
    graph = caller.graph()
    caller.detective.create_members(GraphArn=graph, Accounts=[{"AccountId": sqlite.number(), "EmailAddress": "a@example.com"} for _ in range(3)])
    members = [member["AccountId"] for member in caller.detective.list_members(GraphArn=graph)["MemberDetails"]]
    asked = {**request("StartInvestigation", graph), "EntityArn": f"arn:aws:iam::{caller.account}:user/alice"}
    investigation = caller.detective.start_investigation(**asked)["InvestigationId"]
    token = caller.detective.list_members(GraphArn=graph, MaxResults=1)["NextToken"]
    return caller, {
        "GraphArn": [graph, graph, graph, graph[:-1] + "0", graph.replace("us-east-1", "eu-west-1"), sqlite.server.graph],
        "AccountId": [*members, caller.account, "000000000000"],
        "InvestigationId": [investigation, "0" * 21],
        "PaginationToken": [token, token[:-1], "x"],
        "AiPaginationToken": [token, "x"],
        "EmailAddress": ["a@example.com", "b@example.org"],
        "Timestamp": [day(6), day(4), day(4), day(2), day(2), day(1).replace("T00:00:00Z", "T12:34:56.789Z")],
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
