"""What Amazon Detective's service model says, and whether answers on the wire keep to it.

The model is botocore's own. botocore's parser passes over members that it does not know, so the checks here read the
bytes of the answer, not what the parser made of them. Every client made here checks every answer it gets.

Needs the package boto3.
"""

import datetime
import functools
import http.client
import json
import re
import unittest.mock
import urllib.parse

import boto3
import botocore.config
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.session import Session

REGION = "us-east-1"
TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z")

# What every operation may answer, whatever the model declares for it: the answer of a door that was not opened.
ANYWHERE = {"AccessDeniedException", "InternalServerException", "TooManyRequestsException", "ValidationException"}
# Signatures and addresses that are wrong: the model does not know these, AWS sends them for every service.
SIGNATURE_ERRORS = {
    "ExpiredTokenException": 403,
    "IncompleteSignatureException": 400,
    "InvalidSignatureException": 403,
    "MissingAuthenticationTokenException": 403,
    "UnrecognizedClientException": 403,
}

# Members that an answer always has, beside those that the model requires.
ALWAYS = {
    "Administrator": ("AccountId", "GraphArn", "DelegationTime"),
    "BatchGetGraphMemberDatasourcesResponse": ("MemberDatasources", "UnprocessedAccounts"),
    "BatchGetMembershipDatasourcesResponse": ("MembershipDatasources", "UnprocessedGraphs"),
    "CreateGraphResponse": ("GraphArn",),
    "CreateMembersResponse": ("Members", "UnprocessedAccounts"),
    "DatasourcePackageIngestDetail": ("DatasourcePackageIngestState", "LastIngestStateChange"),
    "DatasourcePackageUsageInfo": ("VolumeUsageInBytes", "VolumeUsageUpdateTime"),
    "DeleteMembersResponse": ("AccountIds", "UnprocessedAccounts"),
    "DescribeOrganizationConfigurationResponse": ("AutoEnable",),
    "GetInvestigationResponse": (
        "GraphArn",
        "InvestigationId",
        "EntityArn",
        "EntityType",
        "CreatedTime",
        "ScopeStartTime",
        "ScopeEndTime",
        "Status",
        "State",
    ),
    "GetMembersResponse": ("MemberDetails", "UnprocessedAccounts"),
    "Graph": ("Arn", "CreatedTime"),
    "Indicator": ("IndicatorType", "IndicatorDetail"),
    "InvestigationDetail": ("InvestigationId", "Status", "State", "CreatedTime", "EntityArn", "EntityType"),
    "ListDatasourcePackagesResponse": ("DatasourcePackages",),
    "ListGraphsResponse": ("GraphList",),
    "ListIndicatorsResponse": ("GraphArn", "InvestigationId", "Indicators"),
    "ListInvestigationsResponse": ("InvestigationDetails",),
    "ListInvitationsResponse": ("Invitations",),
    "ListMembersResponse": ("MemberDetails",),
    "ListOrganizationAdminAccountsResponse": ("Administrators",),
    "ListTagsForResourceResponse": ("Tags",),
    "MemberDetail": (
        "AccountId",
        "EmailAddress",
        "GraphArn",
        "MasterId",
        "AdministratorId",
        "Status",
        "InvitedTime",
        "UpdatedTime",
        "InvitationType",
    ),
    "MembershipDatasources": ("AccountId", "GraphArn", "DatasourcePackageIngestHistory"),
    "StartInvestigationResponse": ("InvestigationId",),
    "TimestampForCollection": ("Timestamp",),
    "UnprocessedAccount": ("AccountId", "Reason"),
    "UnprocessedGraph": ("GraphArn", "Reason"),
}


@functools.cache
def session():
    """botocore without the machine's own configuration."""
    session = Session()
    session.set_config_variable("config_file", "/nonexistent")
    session.set_config_variable("credentials_file", "/nonexistent")
    return boto3.Session(botocore_session=session)


@functools.cache
def model():
    """The service model of Amazon Detective."""
    return session()._session.get_service_model("detective")


@functools.cache
def error_shapes():
    """The modelled errors by their names."""
    return {shape.name: shape for shape in model().error_shapes}


def faults(shape, value, path="answer"):
    """Everything in which a JSON value is not what the shape says, in words."""
    return list(_faults(shape, value, path))


def _faults(shape, value, path):
    kind = shape.type_name
    if kind == "structure":
        if not isinstance(value, dict):
            yield f"{path}: {value!r} is not an object"
            return
        for name in [*shape.required_members, *ALWAYS.get(shape.name, ())]:
            if name not in value:
                yield f"{path}.{name} is missing"
        for name, member in value.items():
            if name in shape.members:
                yield from _faults(shape.members[name], member, f"{path}.{name}")
            else:
                yield f"{path}.{name} is not a member of {shape.name}"
    elif kind == "list":
        if not isinstance(value, list):
            yield f"{path}: {value!r} is not an array"
            return
        yield from _length(shape, len(value), path, least=0)
        for index, member in enumerate(value):
            yield from _faults(shape.member, member, f"{path}[{index}]")
    elif kind == "map":
        if not isinstance(value, dict):
            yield f"{path}: {value!r} is not an object"
            return
        yield from _length(shape, len(value), path, least=0)
        for key, member in value.items():
            yield from _faults(shape.key, key, f"{path} key {key!r}")
            yield from _faults(shape.value, member, f"{path}[{key!r}]")
    elif kind == "string":
        if not isinstance(value, str):
            yield f"{path}: {value!r} is not a string"
            return
        yield from _length(shape, len(value), path)
        if shape.enum and value not in shape.enum:
            yield f"{path}: {value!r} is not one of {shape.enum}"
        pattern = shape.metadata.get("pattern")
        if pattern and not re.search(pattern, value):
            yield f"{path}: {value!r} does not match {pattern}"
    elif kind == "timestamp":
        if not isinstance(value, str) or not TIMESTAMP.fullmatch(value):
            yield f"{path}: {value!r} is not a timestamp in ISO 8601"
    elif kind == "boolean":
        if not isinstance(value, bool):
            yield f"{path}: {value!r} is not true or false"
    elif kind in ("integer", "long"):
        if not isinstance(value, int) or isinstance(value, bool):
            yield f"{path}: {value!r} is not an integer"
        else:
            yield from _length(shape, value, path)
    elif kind in ("double", "float"):
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            yield f"{path}: {value!r} is not a number"
    else:
        yield f"{path}: shapes of type {kind} are not expected in this model"


def _length(shape, length, path, least=None):
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    # An answer says that there is nothing with an empty list, whatever a request must hold.
    low = low if least is None else least
    if low is not None and length < low:
        yield f"{path}: {length} is less than {low}"
    if high is not None and length > high:
        yield f"{path}: {length} is more than {high}"


def answer_faults(operation, status, headers, body):
    """Everything in which an answer to the operation is not one that the model allows."""
    found = []
    if not headers.get("x-amzn-requestid"):
        found.append("the header x-amzn-RequestId is missing")
    if not headers.get("date"):
        found.append("the header Date is missing")
    SEEN.add((operation.name, "success" if status < 300 else headers.get("x-amzn-errortype", "").split(":")[0]))
    if status >= 300:
        return found + _error_faults(operation, status, headers, body)
    expected = operation.http.get("responseCode", 200)
    if status != expected:
        found.append(f"status {status} instead of {expected}")
    if operation.output_shape is None or not operation.output_shape.members:
        if body:
            found.append(f"a body where there is none: {body!r}")
        return found
    if headers.get("content-type", "").split(";")[0] != "application/json":
        found.append(f"content type {headers.get('content-type')!r}")
    return found + faults(operation.output_shape, json.loads(body))


def _error_faults(operation, status, headers, body):
    found = []
    name = headers.get("x-amzn-errortype", "").split(":")[0]
    if headers.get("content-type", "").split(";")[0] != "application/json":
        found.append(f"content type {headers.get('content-type')!r} of an error")
    value = json.loads(body)
    if name in SIGNATURE_ERRORS:
        message = value.get("message") or value.get("Message")
        expected = SIGNATURE_ERRORS[name]
    elif name in error_shapes():
        message = value.get("Message")
        expected = error_shapes()[name].metadata["error"]["httpStatusCode"]
        allowed = {shape.name for shape in operation.error_shapes} | ANYWHERE
        if name not in allowed:
            found.append(f"{operation.name} does not answer {name}: {message}")
        members = {member: content for member, content in value.items() if member not in ("__type", "code", "message")}
        found += faults(error_shapes()[name], members, name)
    else:
        return [*found, f"an unknown type of error: {name!r}, status {status}, {value}"]
    if status != expected:
        found.append(f"{name} with status {status} instead of {expected}")
    if not message:
        found.append(f"{name} without a message: {value}")
    return found


def lowered(headers):
    """Headers by their names in lower case."""
    return {name.lower(): value for name, value in headers.items()}


# Operations with what they have answered so far: `success` or a type of error.
SEEN = set()


class Unmodelled(AssertionError):
    """An answer that the model does not allow."""


def check_call(http_response, parsed, model, **_):
    """A hook of botocore's: looks at every answer."""
    found = answer_faults(model, http_response.status_code, lowered(http_response.headers), http_response.content)
    found += [f"{path} is {value!r}" for path, value in _naive(parsed, "parsed")]
    if found:
        raise Unmodelled(f"{model.name}: " + "; ".join(found))


def _naive(value, path):
    """Times without a zone, which no timestamp of the model parses to."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _naive(member, f"{path}.{name}")
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from _naive(member, f"{path}[{index}]")
    elif isinstance(value, datetime.datetime) and value.tzinfo is None:
        yield path, value


def client(endpoint, key, service="detective", region=REGION, attempts=1, validation=True):
    """A real client of boto3. `key` has `id`, `secret` and perhaps `token`; without it, calls are not signed."""
    signature = {} if key else {"signature_version": botocore.UNSIGNED}
    config = botocore.config.Config(
        connect_timeout=5, read_timeout=60, retries={"total_max_attempts": attempts, "mode": "standard"}, parameter_validation=validation, **signature
    )
    credentials = {"aws_access_key_id": key.id, "aws_secret_access_key": key.secret, "aws_session_token": key.token} if key else {}
    made = session().client(service, endpoint_url=endpoint, region_name=region, config=config, **credentials)
    if service == "detective":
        made.meta.events.register("after-call.detective", check_call)
    return made


class Answer:
    """What came back for a request that was made by hand."""

    def __init__(self, response):
        self.status = response.status
        self.headers = lowered(dict(response.getheaders()))
        self.body = response.read()

    @property
    def error(self):
        """The type of error that the header names."""
        return self.headers.get("x-amzn-errortype", "").split(":")[0]

    @property
    def json(self):
        return json.loads(self.body) if self.body else {}

    @property
    def message(self):
        return self.json.get("Message") or self.json.get("message") or ""

    def __repr__(self):
        return f"{self.status} {self.error} {self.body[:500]!r}"


def send(endpoint, method, path, headers, body=b""):
    """One request as it stands."""
    host = urllib.parse.urlsplit(endpoint).netloc
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        connection.request(method, path, body=body or None, headers=dict(headers))
        return Answer(connection.getresponse())
    finally:
        connection.close()


def sign(endpoint, key, method, path, body=b"", headers=None, service="detective", region=REGION, time=None, signer=SigV4Auth, **options):
    """The request with botocore's signature, made at `time`; returns path and headers to send."""
    request = AWSRequest(method=method, url=endpoint + path, data=body or None, headers=headers or {})
    now = time or datetime.datetime.now(datetime.timezone.utc)
    with unittest.mock.patch("botocore.auth.get_current_datetime", lambda *_, **__: now.replace(tzinfo=None)):
        signer(Credentials(key.id, key.secret, key.token), service, region, **options).add_auth(request)
    return request.url.removeprefix(endpoint), dict(request.headers.items())


def invoke(endpoint, key, name, body, path=None, headers=None):
    """Calls an operation with a signature around any bytes; the answer is held to the model."""
    operation = model().operation_model(name)
    content = {"Content-Type": "application/json"} if body else {}
    path, signed = sign(endpoint, key, operation.http["method"], path or operation.http["requestUri"], body, {**content, **(headers or {})})
    answer = send(endpoint, operation.http["method"], path, signed, body)
    found = answer_faults(operation, answer.status, answer.headers, answer.body)
    if found:
        raise Unmodelled(f"{name} with {body[:300]!r}: " + "; ".join(found))
    return answer


def pages(call, member, size=1, **request):
    """Everything that a list holds, page by page; no page holds more than `size`."""
    token, seen = {}, set()
    while True:
        page = call(MaxResults=size, **token, **request)
        items = page[member]
        assert len(items) <= size, (member, len(items))
        yield from items.items() if isinstance(items, dict) else items
        if "NextToken" not in page:
            return
        assert page["NextToken"] not in seen, "a token leads to itself"
        seen.add(page["NextToken"])
        token = {"NextToken": page["NextToken"]}


def code(error):
    """The type of error of an exception of botocore's, or of its context."""
    error = getattr(error, "value", error)
    assert isinstance(error, ClientError), repr(error)
    return error.response["Error"]["Code"]
