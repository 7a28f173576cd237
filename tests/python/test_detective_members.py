"""The life of members: invited, accepted, refused, wrongly addressed, not yet known, disabled, removed."""

import datetime

import pytest

from detective import pages
from installation import MEMBERSHIP, address, eventually, refused

NOBODY = "999999999999"


def invite(owner, graph, *callers, **more):
    """Invites accounts under their right addresses."""
    accounts = [{"AccountId": caller.account, "EmailAddress": address(caller.account)} for caller in callers]
    answer = owner.detective.create_members(GraphArn=graph, Accounts=accounts, **more)
    assert answer["UnprocessedAccounts"] == []
    return answer["Members"]


def member(owner, graph, number):
    """The account as a member, or None."""
    answer = owner.detective.get_members(GraphArn=graph, AccountIds=[number])
    assert len(answer["MemberDetails"]) + len(answer["UnprocessedAccounts"]) == 1
    return answer["MemberDetails"][0] if answer["MemberDetails"] else None


def status(owner, graph, number):
    found = member(owner, graph, number)
    return found and found["Status"]


def invitation(caller, graph):
    """The graph among the caller's invitations, or None."""
    found = [entry for entry in caller.detective.list_invitations(MaxResults=200)["Invitations"] if entry["GraphArn"] == graph]
    assert len(found) <= 1
    return found[0] if found else None


def test_an_invited_account_is_enabled_when_it_accepts_and_leaves_when_it_wants(owner, graph, accounts):
    guest = accounts(1)
    before = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=2)
    [invited] = invite(owner, graph, guest, Message="please join", DisableEmailNotification=False)
    assert invited["AccountId"] == guest.account
    assert invited["EmailAddress"] == address(guest.account)
    assert (invited["Status"], invited["InvitationType"]) == ("INVITED", "INVITATION")
    assert invited["GraphArn"] == graph
    assert invited["MasterId"] == invited["AdministratorId"] == owner.account
    assert before <= invited["InvitedTime"] <= invited["UpdatedTime"] <= before + datetime.timedelta(seconds=60)
    assert "DisabledReason" not in invited
    assert invitation(guest, graph)["Status"] == "INVITED"

    guest.detective.accept_invitation(GraphArn=graph)
    enabled = member(owner, graph, guest.account)
    assert enabled["Status"] == "ENABLED"
    assert enabled["InvitedTime"] == invited["InvitedTime"]
    assert enabled["UpdatedTime"] >= invited["UpdatedTime"]
    assert enabled["DatasourcePackageIngestStates"]["DETECTIVE_CORE"] == "STARTED"
    assert invitation(guest, graph)["Status"] == "ENABLED"

    refused("ConflictException", guest.detective.accept_invitation, GraphArn=graph)
    refused("ConflictException", guest.detective.reject_invitation, GraphArn=graph)

    guest.detective.disassociate_membership(GraphArn=graph)
    assert member(owner, graph, guest.account) is None
    assert invitation(guest, graph) is None
    refused("ResourceNotFoundException", guest.detective.disassociate_membership, GraphArn=graph)


def test_an_invitation_that_is_refused_is_gone_and_can_be_repeated(owner, graph, accounts):
    guest = accounts(1)
    invite(owner, graph, guest)
    refused("ConflictException", guest.detective.disassociate_membership, GraphArn=graph)
    guest.detective.reject_invitation(GraphArn=graph)
    assert invitation(guest, graph) is None
    assert member(owner, graph, guest.account) is None
    refused("ResourceNotFoundException", guest.detective.reject_invitation, GraphArn=graph)
    refused("ResourceNotFoundException", guest.detective.accept_invitation, GraphArn=graph)
    assert [entry["Status"] for entry in invite(owner, graph, guest)] == ["INVITED"]


def test_a_wrong_address_fails_until_it_is_put_right(owner, graph, accounts):
    guest = accounts(1)
    answer = owner.detective.create_members(GraphArn=graph, Accounts=[{"AccountId": guest.account, "EmailAddress": "else@example.com"}])
    assert [entry["Status"] for entry in answer["Members"]] == ["VERIFICATION_FAILED"]
    assert answer["Members"][0]["EmailAddress"] == "else@example.com"
    assert invitation(guest, graph) is None, "whoever is wrongly addressed is not told"
    refused("ResourceNotFoundException", guest.detective.accept_invitation, GraphArn=graph)
    refused("ConflictException", owner.detective.start_monitoring_member, GraphArn=graph, AccountId=guest.account)
    assert [entry["Status"] for entry in invite(owner, graph, guest)] == ["INVITED"]
    guest.detective.accept_invitation(GraphArn=graph)
    assert status(owner, graph, guest.account) == "ENABLED"


def test_addresses_are_compared_without_regard_to_case(owner, graph, accounts):
    number = accounts(1).account
    answer = owner.detective.create_members(GraphArn=graph, Accounts=[{"AccountId": number, "EmailAddress": address(number).upper()}])
    assert [entry["Status"] for entry in answer["Members"]] == ["INVITED"]


@pytest.mark.parametrize("right, expected", [(True, "INVITED"), (False, "VERIFICATION_FAILED")])
def test_an_account_that_nobody_knows_is_verified_when_it_is_registered(right, expected, installation, owner, graph):
    number = installation.number()
    answer = owner.detective.create_members(GraphArn=graph, Accounts=[{"AccountId": number, "EmailAddress": address(number)}])
    assert [entry["Status"] for entry in answer["Members"]] == ["VERIFICATION_IN_PROGRESS"]
    refused("ConflictException", owner.detective.start_monitoring_member, GraphArn=graph, AccountId=number)
    installation.register(number, address(number) if right else "else@example.com")
    assert status(owner, graph, number) == expected


def test_an_invitation_said_twice_is_one(owner, graph, accounts):
    guest = accounts(1)
    first, second = invite(owner, graph, guest), invite(owner, graph, guest)
    assert [entry["InvitedTime"] for entry in first] == [entry["InvitedTime"] for entry in second]
    answer = owner.detective.create_members(GraphArn=graph, Accounts=[{"AccountId": guest.account, "EmailAddress": "else@example.com"}])
    assert (answer["Members"], [entry["AccountId"] for entry in answer["UnprocessedAccounts"]]) == ([], [guest.account])
    assert status(owner, graph, guest.account) == "INVITED"


def test_accounts_that_cannot_be_added_come_back_with_the_reason(owner, graph, accounts):
    guest = accounts(1)
    invite(owner, graph, guest)
    guest.detective.accept_invitation(GraphArn=graph)
    numbers = [owner.account, guest.account, accounts(2).account]
    answer = owner.detective.create_members(GraphArn=graph, Accounts=[{"AccountId": number, "EmailAddress": address(number)} for number in numbers])
    assert [entry["AccountId"] for entry in answer["Members"]] == numbers[2:]
    reasons = {entry["AccountId"]: entry["Reason"] for entry in answer["UnprocessedAccounts"]}
    assert reasons.keys() == set(numbers[:2])
    assert "administer" in reasons[owner.account]
    assert "already a member" in reasons[guest.account]


def test_members_are_removed_and_those_that_are_none_come_back(owner, graph, accounts):
    guest = accounts(1)
    invite(owner, graph, guest)
    guest.detective.accept_invitation(GraphArn=graph)
    answer = owner.detective.delete_members(GraphArn=graph, AccountIds=[guest.account, owner.account, NOBODY])
    assert answer["AccountIds"] == [guest.account]
    assert {entry["AccountId"] for entry in answer["UnprocessedAccounts"]} == {owner.account, NOBODY}
    assert all(entry["Reason"] for entry in answer["UnprocessedAccounts"])
    assert invitation(guest, graph) is None
    answer = owner.detective.delete_members(GraphArn=graph, AccountIds=[guest.account])
    assert answer["AccountIds"] == []
    assert [entry["AccountId"] for entry in answer["UnprocessedAccounts"]] == [guest.account]


def test_members_are_given_in_the_order_asked_for(owner, graph, accounts):
    guests = [accounts(3), accounts(1), accounts(2)]
    invite(owner, graph, *guests)
    answer = owner.detective.get_members(GraphArn=graph, AccountIds=[guest.account for guest in guests] + [NOBODY])
    assert [entry["AccountId"] for entry in answer["MemberDetails"]] == [guest.account for guest in guests]
    assert [entry["AccountId"] for entry in answer["UnprocessedAccounts"]] == [NOBODY]


def test_monitoring_starts_for_members_that_have_accepted(owner, graph, accounts):
    guest = accounts(1)
    refused("ResourceNotFoundException", owner.detective.start_monitoring_member, GraphArn=graph, AccountId=guest.account)
    invite(owner, graph, guest)
    refused("ConflictException", owner.detective.start_monitoring_member, GraphArn=graph, AccountId=guest.account)
    guest.detective.accept_invitation(GraphArn=graph)
    owner.detective.start_monitoring_member(GraphArn=graph, AccountId=guest.account)
    assert status(owner, graph, guest.account) == "ENABLED"


def test_a_member_sees_its_own_membership_and_nothing_of_the_graph(owner, graph, accounts):
    guest, other = accounts(1), accounts(2)
    invite(owner, graph, guest, other)
    guest.detective.accept_invitation(GraphArn=graph)
    for call, more in (
        (guest.detective.list_members, {}),
        (guest.detective.get_members, {"AccountIds": [other.account]}),
        (guest.detective.create_members, {"Accounts": [{"AccountId": NOBODY, "EmailAddress": "a@example.com"}]}),
        (guest.detective.delete_members, {"AccountIds": [other.account]}),
        (guest.detective.list_datasource_packages, {}),
        (guest.detective.delete_graph, {}),
    ):
        refused("AccessDeniedException", call, GraphArn=graph, **more)
    assert {entry["AccountId"] for entry in guest.detective.list_invitations()["Invitations"]} == {guest.account}


def test_an_account_can_give_its_data_to_many_graphs(owner, graph, accounts):
    guest, second = accounts(1), accounts(4)
    graphs = sorted([graph, second.graph()])
    invite(owner, graph, guest)
    if invitation(guest, second.graph()) is None:
        invite(second, second.graph(), guest)
    listed = list(pages(guest.detective.list_invitations, "Invitations"))
    assert [entry["GraphArn"] for entry in listed] == graphs
    assert {entry["AdministratorId"] for entry in listed} == {owner.account, second.account}
    for arn in graphs:
        if invitation(guest, arn)["Status"] == "INVITED":
            guest.detective.accept_invitation(GraphArn=arn)
    answer = guest.detective.batch_get_membership_datasources(GraphArns=[*graphs, graph[:-1] + ("0" if graph[-1] != "0" else "1")])
    assert [entry["GraphArn"] for entry in answer["MembershipDatasources"]] == graphs
    for entry in answer["MembershipDatasources"]:
        assert entry["AccountId"] == guest.account
        assert entry["DatasourcePackageIngestHistory"]["DETECTIVE_CORE"]["STARTED"]["Timestamp"].tzinfo
    assert len(answer["UnprocessedGraphs"]) == 1
    second.detective.delete_members(GraphArn=second.graph(), AccountIds=[guest.account])


def test_the_history_of_packages_is_kept_for_each_member(owner, graph, accounts):
    guest, invited = accounts(1), accounts(2)
    invite(owner, graph, guest, invited)
    guest.detective.accept_invitation(GraphArn=graph)
    answer = owner.detective.batch_get_graph_member_datasources(GraphArn=graph, AccountIds=[guest.account, invited.account, NOBODY])
    history = {entry["AccountId"]: entry["DatasourcePackageIngestHistory"] for entry in answer["MemberDatasources"]}
    assert history.keys() == {guest.account, invited.account}
    assert "STARTED" in history[guest.account]["DETECTIVE_CORE"]
    assert "STARTED" not in history[invited.account].get("DETECTIVE_CORE", {})
    assert [entry["AccountId"] for entry in answer["UnprocessedAccounts"]] == [NOBODY]


def strangers(installation, count):
    return [{"AccountId": number, "EmailAddress": address(number)} for number in (installation.number() for _ in range(count))]


def test_every_page_of_members_is_walked(installation, owner, graph):
    asked = strangers(installation, 7)
    owner.detective.create_members(GraphArn=graph, Accounts=asked)
    expected = [entry["AccountId"] for entry in asked]
    for size in (1, 3, 7, 200):
        assert [entry["AccountId"] for entry in pages(owner.detective.list_members, "MemberDetails", size, GraphArn=graph)] == expected


def test_tokens_of_pages_are_opaque_and_belong_to_their_call(installation, owner, graph, accounts):
    owner.detective.create_members(GraphArn=graph, Accounts=strangers(installation, 3))
    token = owner.detective.list_members(GraphArn=graph, MaxResults=1)["NextToken"]
    assert graph not in token and owner.account not in token
    assert owner.detective.list_members(GraphArn=graph, MaxResults=2, NextToken=token)["MemberDetails"]
    flipped = token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1]
    for wrong in (flipped, token[: len(token) // 2], "x", "a" * 1024):
        assert "NextToken" in refused("ValidationException", owner.detective.list_members, GraphArn=graph, NextToken=wrong)
    refused("ValidationException", owner.detective.list_graphs, NextToken=token)
    refused("ValidationException", owner.detective.list_invitations, NextToken=token)
    other = accounts(4)
    refused("ValidationException", other.detective.list_members, GraphArn=other.graph(), NextToken=token)


def test_a_graph_has_at_most_1200_members(installation, owner, graph):
    for _ in range(24):
        assert len(owner.detective.create_members(GraphArn=graph, Accounts=strangers(installation, 50))["Members"]) == 50
    assert "1200" in refused("ServiceQuotaExceededException", owner.detective.create_members, GraphArn=graph, Accounts=strangers(installation, 1))
    listed = list(pages(owner.detective.list_members, "MemberDetails", 200, GraphArn=graph))
    assert len({entry["AccountId"] for entry in listed}) == len(listed) == 1200
    asked = [entry["AccountId"] for entry in listed[:50]]
    assert owner.detective.delete_members(GraphArn=graph, AccountIds=asked)["AccountIds"] == asked
    assert len(owner.detective.create_members(GraphArn=graph, Accounts=strangers(installation, 50))["Members"]) == 50


def test_what_members_give_is_measured(installation, tmp_path):
    owner = installation.account()
    graph = owner.graph()
    number = installation.number()
    # Of accounts that nobody has registered a server of one's own takes logs; nothing of the graph is measured yet.
    installation.ingest(owner, graph, [record(number, index) for index in range(20)], tmp_path)
    installation.register(number)
    guest = installation.administrator(number)
    invite(owner, graph, guest)
    guest.detective.accept_invitation(GraphArn=graph)

    def measured():
        found = member(owner, graph, number)
        return found if found.get("VolumeUsageInBytes") else None

    found = eventually(measured, patience=70)
    assert 20 * 300 < found["VolumeUsageInBytes"] < 20 * 3000
    assert found["VolumeUsageUpdatedTime"] <= datetime.datetime.now(datetime.timezone.utc)
    package = found["VolumeUsageByDatasourcePackage"]["DETECTIVE_CORE"]
    assert package["VolumeUsageInBytes"] == found["VolumeUsageInBytes"]
    assert 0 <= found["PercentOfGraphUtilization"] < 0.01
    usage = owner.call(MEMBERSHIP, "GetUsage", graph_arn=graph)
    assert {entry["account_id"]: int(entry["bytes"]) for entry in usage["usage"]} == {number: found["VolumeUsageInBytes"]}


def record(account, index):
    """A CloudTrail record of the account."""
    return {
        "eventVersion": "1.09",
        "userIdentity": {
            "type": "IAMUser",
            "principalId": "AIDAEXAMPLE",
            "arn": f"arn:aws:iam::{account}:user/alice",
            "accountId": account,
            "userName": "alice",
        },
        "eventTime": (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventSource": "s3.amazonaws.com",
        "eventName": "ListBuckets",
        "awsRegion": "us-east-1",
        "sourceIPAddress": "198.51.100.2",
        "userAgent": "aws-cli/2.15.0",
        "requestParameters": None,
        "responseElements": None,
        "requestID": f"request-{account}-{index}",
        "eventID": f"{account}-0000-4000-8000-{index:012}",
        "readOnly": True,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": account,
        "eventCategory": "Management",
    }
