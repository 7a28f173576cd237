"""What is limited: how much a graph takes in a day, and how often an account may call."""

import json

import pytest
from botocore.exceptions import ClientError

from detective import code, invoke
from installation import Installation, address, refused, start
from test_detective import OPERATIONS, method, request
from test_detective_members import record


def join(owner, graph, guest):
    """Invites and accepts; the member as it stands then."""
    owner.detective.create_members(GraphArn=graph, Accounts=[{"AccountId": guest.account, "EmailAddress": address(guest.account)}])
    guest.detective.accept_invitation(GraphArn=graph)
    return member(owner, graph, guest)


def member(owner, graph, guest):
    return owner.detective.get_members(GraphArn=graph, AccountIds=[guest.account])["MemberDetails"][0]


def test_a_graph_that_takes_in_too_much_enables_nobody_more(tmp_path):
    with start("membership.volume_limit_bytes=1") as server:
        installation = Installation(server)
        owner, guest = installation.account(), installation.account()
        graph = owner.graph()
        installation.ingest(owner, graph, [record(owner.account, index) for index in range(3)], tmp_path)
        joined = join(owner, graph, guest)
        assert (joined["Status"], joined["DisabledReason"]) == ("ACCEPTED_BUT_DISABLED", "VOLUME_TOO_HIGH")
        assert joined["DatasourcePackageIngestStates"]["DETECTIVE_CORE"] == "DISABLED"
        refused("ServiceQuotaExceededException", owner.detective.start_monitoring_member, GraphArn=graph, AccountId=guest.account)
        assert member(owner, graph, guest)["Status"] == "ACCEPTED_BUT_DISABLED"
        assert guest.detective.list_invitations()["Invitations"][0]["DisabledReason"] == "VOLUME_TOO_HIGH"
        guest.detective.disassociate_membership(GraphArn=graph)
        installation.close()


def test_a_member_whose_volume_is_not_known_is_enabled_when_the_administrator_asks():
    with start("membership.graph.url=http://127.0.0.1:1") as server:
        installation = Installation(server)
        owner, guest = installation.account(), installation.account()
        graph = owner.graph()
        joined = join(owner, graph, guest)
        assert (joined["Status"], joined["DisabledReason"]) == ("ACCEPTED_BUT_DISABLED", "VOLUME_UNKNOWN")
        owner.detective.start_monitoring_member(GraphArn=graph, AccountId=guest.account)
        enabled = member(owner, graph, guest)
        assert enabled["Status"] == "ENABLED" and "DisabledReason" not in enabled
        assert enabled["UpdatedTime"] > joined["UpdatedTime"]
        installation.close()


@pytest.fixture(scope="module")
def hurried():
    """An account of an installation that takes one call a second and kind."""
    with start(*(f"gateway.limits.{name}_per_second=1" for name in ("reads", "writes", "investigations"))) as server:
        installation = Installation(server)
        owner = installation.account()
        owner.arn_of_graph = owner.graph()
        yield owner
        installation.close()


# After the graph is gone nothing more can be asked of it.
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "DeleteGraph"])
def test_who_calls_too_often_has_to_wait(name, hurried):
    for _ in range(30):
        try:
            method(hurried, name)(**request(name, hurried.arn_of_graph))
        except ClientError as error:
            if code(error) == "TooManyRequestsException":
                return
    raise AssertionError("never refused")


def test_clients_are_told_how_long_to_wait_and_do_so(hurried):
    body = json.dumps({"GraphArn": hurried.arn_of_graph}).encode()
    answers = [invoke(hurried.installation.endpoint, hurried.key, "ListMembers", body) for _ in range(4)]
    assert answers[-1].error == "TooManyRequestsException", answers
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert 1 <= int(answers[-1].headers["x-amz-retry-after"]) <= 1000
    assert hurried.client("detective", attempts=5).list_members(GraphArn=hurried.arn_of_graph)["MemberDetails"] is not None
