"""What is unusual, and what matters, by the command line: the sweep, anomalies, watchlists, and the risk that follows."""

import datetime
import json

import pytest
from installation import start

ACCOUNT = "111122223333"
USER = f"arn:aws:iam::{ACCOUNT}:user/ann"


@pytest.fixture(scope="module")
def server():
    with start() as server:
        yield server


def call(number, time):
    return {
        "eventVersion": "1.08",
        "userIdentity": {"type": "IAMUser", "principalId": "AIDAANN", "arn": USER, "accountId": ACCOUNT, "userName": "ann"},
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventSource": "s3.amazonaws.com",
        "eventName": "ListBuckets",
        "awsRegion": "us-east-1",
        "sourceIPAddress": "198.51.100.1",
        "userAgent": "aws-cli/2.1",
        "eventID": f"e{number}",
        "eventType": "AwsApiCall",
        "recipientAccountId": ACCOUNT,
        "requestParameters": None,
        "responseElements": None,
    }


def test_a_night_of_calls_is_found_told_and_counts_in_risk(server, tmp_path):
    # Three weeks of office hours, and a night some hours ago.
    night = (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=5)).replace(minute=0, second=0, microsecond=0)
    times = [night - datetime.timedelta(days=day, hours=hour) for day in range(1, 22) for hour in range(2, 8)]
    times += [night + datetime.timedelta(seconds=second * 3) for second in range(800)]
    path = tmp_path / "calls.json"
    path.write_text(json.dumps({"Records": [call(number, time) for number, time in enumerate(times)]}))
    server.run("ingest", str(path))
    entity = f"user:{USER}"
    before = server.json("risk", entity)["risks"][0]

    swept = server.json("sweep")
    assert int(swept["hours"]) > 20 * 24 and int(swept["findings"]) >= 1, swept
    found = [one["finding"] for one in server.json("findings", "--product", "Gumshoe", "--archived")["findings"]]
    volume = next(one for one in found if one["type"] == "Behavior:User/UnusualVolume")
    assert volume["title"].startswith("800 calls in the hour")
    shown = server.run("finding", volume["id"])
    assert "Moved by" in shown or "800 calls" in shown

    told = server.json("anomalies", entity)["anomalies"]
    volume = next(one for one in told if one["source"] == "volume")
    assert abs(sum(part["contribution"] for part in volume["parts"]) - volume["score"]) < 1e-6
    assert volume["baseline"].startswith("usual at that hour")
    assert "800 calls in the hour" in server.run("anomalies", entity)

    # Hot risks have it as what it is.
    after = server.json("risk", entity)["risks"][0]
    assert after["score"] > before.get("score", 0), (before, after)
    assert "volume" in [part["source"] for part in after["parts"]]
    assert int(server.json("sweep").get("hours", 0)) == 0

    server.run("watchlist", "add", "user:arn:aws:iam::*:user/an?", "critical", "--note", "holds the keys")
    raised = server.json("risk", entity)["risks"][0]
    assert raised["criticality"] == "critical" and raised["score"] > after["score"]
    entry = server.json("watchlist")["entries"][0]
    assert (entry["note"], entry["criticality"]) == ("holds the keys", "CRITICALITY_CRITICAL")
    assert "holds the keys" in server.run("watchlist", "list")
    server.run("watchlist", "delete", entry["id"])
    assert server.json("risk", entity)["risks"][0]["criticality"] == "normal"
