"""What is limited: how much a graph takes in a day, and how often callers may call."""

import datetime
import json

import pytest
from botocore.exceptions import ClientError
from detective import code
from installation import Installation, address, eventually, refused, start
from test_detective import request
from test_detective_members import record

LIMITED = sorted(
    [
        "DescribeOrganizationConfiguration", "DisableOrganizationAdminAccount", "EnableOrganizationAdminAccount", "GetInvestigation", "ListIndicators",
        "ListInvestigations", "ListOrganizationAdminAccounts", "StartInvestigation", "UpdateInvestigationState", "UpdateOrganizationConfiguration",
    ]
)  # fmt: skip


def serve(*settings):
    options = [part for setting in settings for part in ("--set", setting)]
    return start(*options)


def join(owner, graph, guest):
    """Invites and accepts; the member as it stands then."""
    owner.detective.create_members(GraphArn=graph, Accounts=[{"AccountId": guest.account, "EmailAddress": address(guest.account)}])
    guest.detective.accept_invitation(GraphArn=graph)
    return member(owner, graph, guest)


def member(owner, graph, guest):
    return owner.detective.get_members(GraphArn=graph, AccountIds=[guest.account])["MemberDetails"][0]


def test_a_graph_that_takes_in_too_much_enables_nobody_more(tmp_path):
    with serve("membership.volume_limit_bytes=1") as server:
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
    with serve("membership.graph.url=http://127.0.0.1:1") as server:
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
