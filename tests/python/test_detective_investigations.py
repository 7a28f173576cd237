"""Investigations of users and roles: started, followed, listed, filtered, archived, and what they have found."""

import datetime
import uuid

import pytest

from detective import pages
from installation import eventually, refused

UTC = datetime.timezone.utc
BEGIN = datetime.datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - datetime.timedelta(days=5)
END = BEGIN + datetime.timedelta(days=2)
MISSING = "999999999999999999999"
DETAILS = {
    "TTP_OBSERVED": "TTPsObservedDetail",
    "IMPOSSIBLE_TRAVEL": "ImpossibleTravelDetail",
    "FLAGGED_IP_ADDRESS": "FlaggedIpAddressDetail",
    "NEW_GEOLOCATION": "NewGeolocationDetail",
    "NEW_ASO": "NewAsoDetail",
    "NEW_USER_AGENT": "NewUserAgentDetail",
    "RELATED_FINDING": "RelatedFindingDetail",
    "RELATED_FINDING_GROUP": "RelatedFindingGroupDetail",
}


def record(account, user, time, operation, agent="aws-cli/2.15.0", address="198.51.100.2", service="iam", error=None):
    """A CloudTrail record of a user's call."""
    return {
        "eventVersion": "1.09",
        "userIdentity": {
            "type": "IAMUser",
            "principalId": f"AIDA{user.upper()}",
            "arn": f"arn:aws:iam::{account}:user/{user}",
            "accountId": account,
            "accessKeyId": "AKIAIOSFODNN7EXAMPLE",
            "userName": user,
        },
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventSource": f"{service}.amazonaws.com",
        "eventName": operation,
        "awsRegion": "us-east-1",
        "sourceIPAddress": address,
        "userAgent": agent,
        "requestParameters": {"userName": user} if service == "iam" else None,
        "responseElements": None,
        "requestID": str(uuid.uuid4()),
        "eventID": str(uuid.uuid4()),
        "readOnly": False,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": account,
        "eventCategory": "Management",
        **({"errorCode": error} if error else {}),
    }


def attack(account, user):
    """Twenty quiet days of a user, and then what somebody does with a stolen key."""
    quiet = [record(account, user, BEGIN - datetime.timedelta(days=day, hours=3), "ListBuckets", service="s3") for day in range(1, 21)]
    hour = BEGIN + datetime.timedelta(hours=10)
    stolen = {"agent": "Kali/2024 python-requests/2.31", "address": "203.0.113.66"}
    loud = [
        record(account, user, hour + datetime.timedelta(minutes=minute), operation, service=service, **stolen)
        for minute, (service, operation) in enumerate(
            [
                ("iam", "CreateAccessKey"),
                ("iam", "AttachUserPolicy"),
                ("iam", "CreateLoginProfile"),
                ("cloudtrail", "StopLogging"),
                ("cloudtrail", "DeleteTrail"),
                ("iam", "CreateUser"),
                ("sts", "GetCallerIdentity"),
                ("iam", "ListUsers"),
                ("ec2", "RunInstances"),
                ("guardduty", "DeleteDetector"),
            ]
        )
    ]
    failed = [
        record(account, user, hour + datetime.timedelta(minutes=30 + index), "ListSecrets", service="secretsmanager", error="AccessDenied", **stolen)
        for index in range(5)
    ]
    return quiet + loud + failed


@pytest.fixture(scope="module")
def analyst(accounts, tmp_path_factory):
    """An account whose graph knows an attack by `mallory`; `alice` is only quiet, and `role/Deployer` unknown."""
    owner = accounts(6)
    owner.arn_of_graph = owner.graph()
    records = attack(owner.account, "mallory") + [record(owner.account, "alice", BEGIN + datetime.timedelta(hours=1), "ListBuckets", service="s3")]
    owner.installation.ingest(owner, owner.arn_of_graph, records, tmp_path_factory.mktemp("records"))
    return owner


@pytest.fixture(scope="module")
def graph(analyst):
    return analyst.arn_of_graph


def start(analyst, graph, name="user/mallory", begin=BEGIN, end=END):
    arn = f"arn:aws:iam::{analyst.account}:{name}"
    return analyst.detective.start_investigation(GraphArn=graph, EntityArn=arn, ScopeStartTime=begin, ScopeEndTime=end)["InvestigationId"]


def finished(analyst, graph, number):
    """The investigation once it does not run any more."""

    def done():
        found = analyst.detective.get_investigation(GraphArn=graph, InvestigationId=number)
        return found if found["Status"] != "RUNNING" else None

    return eventually(done, patience=60)


@pytest.fixture(scope="module")
def investigation(analyst, graph):
    """A finished investigation of the attacker."""
    return finished(analyst, graph, start(analyst, graph))


def test_an_investigation_is_followed_to_its_end(analyst, investigation):
    assert investigation["Status"] == "SUCCESSFUL"
    assert investigation["EntityArn"] == f"arn:aws:iam::{analyst.account}:user/mallory"
    assert investigation["EntityType"] == "IAM_USER"
    assert (investigation["ScopeStartTime"], investigation["ScopeEndTime"]) == (BEGIN, END)
    assert investigation["State"] == "ACTIVE"
    assert investigation["Severity"] in ("MEDIUM", "HIGH", "CRITICAL")
    assert abs(datetime.datetime.now(UTC) - investigation["CreatedTime"]) < datetime.timedelta(minutes=5)


def test_the_indicators_tell_what_was_done(analyst, graph, investigation):
    number = investigation["InvestigationId"]
    indicators = list(pages(analyst.detective.list_indicators, "Indicators", 100, GraphArn=graph, InvestigationId=number))
    assert indicators
    for indicator in indicators:
        assert list(indicator["IndicatorDetail"]) == [DETAILS[indicator["IndicatorType"]]]
    techniques = [indicator["IndicatorDetail"]["TTPsObservedDetail"] for indicator in indicators if indicator["IndicatorType"] == "TTP_OBSERVED"]
    assert {"CreateAccessKey", "StopLogging"} <= {detail["APIName"] for detail in techniques}
    for detail in techniques:
        assert detail["Tactic"] and detail["Technique"].startswith("T")
        assert detail["APISuccessCount"] + detail["APIFailureCount"] > 0
    agents = [
        indicator["IndicatorDetail"]["NewUserAgentDetail"]["UserAgent"] for indicator in indicators if indicator["IndicatorType"] == "NEW_USER_AGENT"
    ]
    assert agents == ["Kali/2024 python-requests/2.31"]


def test_every_page_of_indicators_is_walked_also_of_one_kind(analyst, graph, investigation):
    number = investigation["InvestigationId"]
    whole = analyst.detective.list_indicators(GraphArn=graph, InvestigationId=number, MaxResults=100)["Indicators"]
    assert list(pages(analyst.detective.list_indicators, "Indicators", GraphArn=graph, InvestigationId=number)) == whole
    for kind in DETAILS:
        of_kind = list(pages(analyst.detective.list_indicators, "Indicators", GraphArn=graph, InvestigationId=number, IndicatorType=kind))
        assert of_kind == [indicator for indicator in whole if indicator["IndicatorType"] == kind]


def test_quiet_and_unknown_principals_have_little_to_tell(analyst, graph):
    for name, kind in (("user/alice", "IAM_USER"), ("role/Deployer", "IAM_ROLE")):
        found = finished(analyst, graph, start(analyst, graph, name))
        assert (found["Status"], found["EntityType"]) == ("SUCCESSFUL", kind)
        assert found["Severity"] in ("INFORMATIONAL", "LOW")


def test_an_investigation_is_archived_and_taken_back(analyst, graph):
    number = finished(analyst, graph, start(analyst, graph, "user/alice"))["InvestigationId"]
    for state in ("ARCHIVED", "ARCHIVED", "ACTIVE"):
        analyst.detective.update_investigation_state(GraphArn=graph, InvestigationId=number, State=state)
        assert analyst.detective.get_investigation(GraphArn=graph, InvestigationId=number)["State"] == state
        listed = pages(analyst.detective.list_investigations, "InvestigationDetails", 100, GraphArn=graph)
        assert [entry["State"] for entry in listed if entry["InvestigationId"] == number] == [state]


def test_investigations_are_filtered_sorted_and_paged(analyst, graph, investigation):
    quiet = finished(analyst, graph, start(analyst, graph, "user/alice"))
    archived = finished(analyst, graph, start(analyst, graph, "role/Deployer"))
    analyst.detective.update_investigation_state(GraphArn=graph, InvestigationId=archived["InvestigationId"], State="ARCHIVED")

    def listed(size=100, sort=None, **filters):
        more = {"FilterCriteria": filters} if filters else {}
        if sort:
            more["SortCriteria"] = dict(zip(("Field", "SortOrder"), sort))
        found = list(pages(analyst.detective.list_investigations, "InvestigationDetails", size, GraphArn=graph, **more))
        assert len({entry["InvestigationId"] for entry in found}) == len(found)
        return found

    def ids(found):
        return {entry["InvestigationId"] for entry in found}

    def with_value(value):
        return {"Value": value}

    everything = listed()
    assert {investigation["InvestigationId"], quiet["InvestigationId"], archived["InvestigationId"]} <= ids(everything)
    assert listed(1) == everything
    assert ids(listed(State=with_value("ARCHIVED"))) == ids(entry for entry in everything if entry["State"] == "ARCHIVED")
    assert ids(listed(Severity=with_value(investigation["Severity"]))) == ids(
        entry for entry in everything if entry["Severity"] == investigation["Severity"]
    )
    assert ids(listed(Status=with_value("FAILED"))) == set()
    assert ids(listed(EntityArn=with_value(investigation["EntityArn"]))) == ids(
        entry for entry in everything if entry["EntityArn"] == investigation["EntityArn"]
    )
    assert archived["InvestigationId"] in ids(listed(EntityArn=with_value(archived["EntityArn"]), State=with_value("ARCHIVED")))
    created = {"StartInclusive": quiet["CreatedTime"], "EndInclusive": quiet["CreatedTime"]}
    assert quiet["InvestigationId"] in ids(listed(CreatedTime=created))
    past = {"StartInclusive": BEGIN, "EndInclusive": END}
    assert listed(CreatedTime=past) == []

    ranks = ["INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL"]
    keys = {
        "CREATED_TIME": lambda entry: entry["CreatedTime"],
        "STATUS": lambda entry: entry["Status"],
        "SEVERITY": lambda entry: ranks.index(entry["Severity"]),
    }
    for field, key in keys.items():
        for order in ("ASC", "DESC"):
            for size in (100, 1):
                values = [key(entry) for entry in listed(size, (field, order))]
                assert values == sorted(values, reverse=order == "DESC"), (field, order, size)
                assert len(values) == len(everything)


def test_tokens_belong_to_their_filter(analyst, graph, investigation):
    start(analyst, graph, "user/alice")
    token = analyst.detective.list_investigations(GraphArn=graph, MaxResults=1)["NextToken"]
    wrong = {"FilterCriteria": {"State": {"Value": "ACTIVE"}}}
    refused("ValidationException", analyst.detective.list_investigations, GraphArn=graph, NextToken=token, **wrong)
    refused("ValidationException", analyst.detective.list_investigations, GraphArn=graph, NextToken=token, SortCriteria={"Field": "STATUS"})
    refused(
        "ValidationException", analyst.detective.list_indicators, GraphArn=graph, InvestigationId=investigation["InvestigationId"], NextToken=token
    )


@pytest.mark.parametrize("more", [{}, {"State": "ARCHIVED"}], ids=["get", "update"])
def test_what_does_not_exist_is_not_found(more, analyst, graph):
    call = analyst.detective.update_investigation_state if more else analyst.detective.get_investigation
    refused("ResourceNotFoundException", call, GraphArn=graph, InvestigationId=MISSING, **more)
    refused("ResourceNotFoundException", analyst.detective.list_indicators, GraphArn=graph, InvestigationId=MISSING)


def test_an_investigation_belongs_to_its_graph(investigation, accounts):
    other = accounts(4)
    refused("ResourceNotFoundException", other.detective.get_investigation, GraphArn=other.graph(), InvestigationId=investigation["InvestigationId"])


@pytest.mark.parametrize(
    "hours, word",
    [((0, 2), "scope"), ((0, 24 * 31), "scope"), ((5, 0), "scope"), ((0, 0), "scope")],
    ids=["short", "long", "backwards", "empty"],
)
def test_the_scope_must_be_three_hours_to_thirty_days(hours, word, analyst, graph):
    begin, end = (BEGIN + datetime.timedelta(hours=hour) for hour in hours)
    arn = f"arn:aws:iam::{analyst.account}:user/mallory"
    message = refused(
        "ValidationException", analyst.detective.start_investigation, GraphArn=graph, EntityArn=arn, ScopeStartTime=begin, ScopeEndTime=end
    )
    assert word in message.lower()


def test_the_scope_must_not_lie_in_the_future(analyst, graph):
    begin = datetime.datetime.now(UTC) - datetime.timedelta(hours=1)
    arn = f"arn:aws:iam::{analyst.account}:user/mallory"
    times = {"ScopeStartTime": begin, "ScopeEndTime": begin + datetime.timedelta(hours=5)}
    assert "scope" in refused("ValidationException", analyst.detective.start_investigation, GraphArn=graph, EntityArn=arn, **times).lower()


@pytest.mark.parametrize("arn", ["arn:aws:s3:::bucket", "arn:aws:iam::123456789012:root", "arn:nothing", "arn:aws:iam::123456789012:group/x"])
def test_only_users_and_roles_are_investigated(arn, analyst, graph):
    message = refused(
        "ValidationException", analyst.detective.start_investigation, GraphArn=graph, EntityArn=arn, ScopeStartTime=BEGIN, ScopeEndTime=END
    )
    assert "entityarn" in message.lower()


def same_invocation(caller, identity):
    """A client whose every call claims to be one attempt of the same call."""
    made = caller.client("detective")

    def claim(request, **_):
        request.headers["amz-sdk-invocation-id"] = identity

    made.meta.events.register("before-send.detective", claim)
    return made


def test_a_call_that_is_tried_again_starts_one_investigation(analyst, graph, accounts):
    request = {"GraphArn": graph, "EntityArn": f"arn:aws:iam::{analyst.account}:user/alice", "ScopeStartTime": BEGIN, "ScopeEndTime": END}
    identity = str(uuid.uuid4())
    before = len(list(pages(analyst.detective.list_investigations, "InvestigationDetails", 100, GraphArn=graph)))
    numbers = {same_invocation(analyst, identity).start_investigation(**request)["InvestigationId"] for _ in range(3)}
    assert len(numbers) == 1
    assert len(list(pages(analyst.detective.list_investigations, "InvestigationDetails", 100, GraphArn=graph))) == before + 1
    assert same_invocation(analyst, str(uuid.uuid4())).start_investigation(**request)["InvestigationId"] not in numbers
    # Ids are made by clients, so another account may come with the same one.
    other = accounts(4)
    theirs = same_invocation(other, identity).start_investigation(**{**request, "GraphArn": other.graph()})["InvestigationId"]
    assert theirs not in numbers
