"""What membership means for data: whose logs enter a graph, what is metered, and what a removed graph leaves behind."""

import datetime
import json
import pathlib
import uuid

import pytest
from installation import MEMBERSHIP, address, eventually

# A change of membership takes effect in ingest within this many seconds; a volume is shown after at most a minute.
LATE = 20
VOLUME_LATE = 90


def records(account, count=3, source="s3.amazonaws.com"):
    """CloudTrail records of an account, which no other call has made."""
    now = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    return [
        {
            "eventVersion": "1.09",
            "userIdentity": {
                "type": "IAMUser",
                "principalId": "AIDAEXAMPLE",
                "arn": f"arn:aws:iam::{account}:user/ann",
                "accountId": account,
                "userName": "ann",
            },
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "eventSource": source,
            "eventName": "ListBuckets",
            "awsRegion": "us-east-1",
            "sourceIPAddress": "203.0.113.7",
            "userAgent": "test",
            "eventID": str(uuid.uuid4()),
            "recipientAccountId": account,
        }
        for _ in range(count)
    ]


def ingest(installation, folder, found):
    """Sends records into the first account's graph; how many are events, and how many were not taken."""
    owner = installation.root
    totals = installation.ingest(owner, owner.graph(), found, folder)["totals"]
    assert totals["records"] == len(found) == totals["events"] + totals["duplicates"] + totals["dead_letters"]
    return totals["events"], totals["dead_letters"]


def test_a_members_data_stops_and_starts_with_its_status(installation, tmp_path):
    owner, guest = installation.root, installation.account()
    graph = owner.graph()
    stranger = installation.number()

    def taken(account):
        return ingest(installation, tmp_path, records(account)) == (3, 0)

    assert taken(owner.account), "the administrator's own logs are taken"
    assert taken(stranger), "nobody has registered this account: on one's own machine its logs are taken"
    assert ingest(installation, tmp_path, records(guest.account)) == (0, 3), "a registered account that is no member"
    letters = installation.server.json("dead-letters", "--limit", "1000")["dead_letters"]
    refused = [letter for letter in letters if guest.account in letter["reason"]]
    assert len(refused) == 3
    assert all(letter["reason"] == f"account {guest.account} is not an enabled member of the graph" for letter in refused)
    assert not any(letter.get("raw") for letter in refused), "nothing of it enters the graph"

    owner.detective.create_members(GraphArn=graph, Accounts=[{"AccountId": guest.account, "EmailAddress": address(guest.account)}])
    assert ingest(installation, tmp_path, records(guest.account)) == (0, 3), "an invitation is not enough"
    guest.detective.accept_invitation(GraphArn=graph)
    came_in = []

    def events():
        came_in.append(ingest(installation, tmp_path, records(guest.account))[0])
        return came_in[-1]

    eventually(lambda: events() == 3, LATE)
    guest.detective.disassociate_membership(GraphArn=graph)
    eventually(lambda: events() == 0, LATE)
    found = installation.server.json("events", "--entity", f"user:arn:aws:iam::{guest.account}:user/ann", "--limit", "1000")
    assert len(found["events"]) == sum(came_in), "what came in while it was a member stays"


def test_volumes_are_of_what_is_in_the_graph(sqlite, tmp_path):
    installation = sqlite
    owner, guest = installation.root, installation.account()
    graph = owner.graph()
    owner.detective.create_members(GraphArn=graph, Accounts=[{"AccountId": guest.account, "EmailAddress": address(guest.account)}])
    guest.detective.accept_invitation(GraphArn=graph)
    found = records(guest.account, 20)
    eventually(lambda: ingest(installation, tmp_path, found)[0] == 20, LATE)
    assert ingest(installation, tmp_path, found) == (0, 0), "known already"
    size = sum(len(json.dumps(record)) for record in found)

    def member():
        [detail] = owner.detective.get_members(GraphArn=graph, AccountIds=[guest.account])["MemberDetails"]
        return detail if detail.get("VolumeUsageInBytes") else None

    detail = eventually(member, VOLUME_LATE)
    assert detail["VolumeUsageInBytes"] == pytest.approx(size, rel=0.05)
    assert detail["VolumeUsageByDatasourcePackage"]["DETECTIVE_CORE"]["VolumeUsageInBytes"] == detail["VolumeUsageInBytes"]
    usage = owner.call(MEMBERSHIP, "GetUsage", graph_arn=graph, days=1)
    mine = [entry for entry in usage["usage"] if entry["account_id"] == guest.account]
    assert [int(entry["records"]) for entry in mine] == [20]
    assert usage["projected_monthly_cost"] > 0 and usage["currency"] == "USD"


def test_a_removed_graph_leaves_no_data(installation, tmp_path):
    owner = installation.root
    graph = owner.graph()
    assert ingest(installation, tmp_path, records(owner.account)) == (3, 0)
    folder = pathlib.Path(installation.server.folder) / "data" / "lake" / graph.rsplit(":", 1)[-1]
    assert any(path.is_file() for path in folder.rglob("*"))
    owner.detective.delete_graph(GraphArn=graph)
    eventually(lambda: not any(path.is_file() for path in folder.rglob("*")), LATE)
    assert owner.graph() != graph, "the next graph is a new one"
