"""Finding groups by the command line: an attack among other findings becomes one group, told and exported in every form.

The STIX bundle is checked by the validator of OASIS and read by its library; both work without a network.
"""

import html.parser
import json

import pytest
import stix2
from detective import client
from installation import Key, eventually, start
from stix2validator import ValidationOptions, validate_string

LATE = 60
QUICK = ["investigation.groups.look_seconds=1", "investigation.groups.interval_seconds=0"]
ATTACKER = "82.221.139.66"
# What the generator's attack makes GuardDuty say.
ATTACK = {
    "UnauthorizedAccess:IAMUser/MaliciousIPCaller.Custom",
    "Discovery:IAMUser/AnomalousBehavior",
    "Exfiltration:S3/AnomalousBehavior",
    "Persistence:IAMUser/AnomalousBehavior",
    "Stealth:IAMUser/CloudTrailLoggingDisabled",
}
HOSTILE = "<img src=x onerror=alert(1)> [x](javascript:alert(1)) ![i](http://evil.example/i.png) | `\u202e"


@pytest.fixture(scope="module")
def server():
    with start(*QUICK) as server:
        yield server


@pytest.fixture(scope="module")
def attack(server, tmp_path_factory):
    """The group of the generator's attack, in a world with other records."""
    folder = tmp_path_factory.mktemp("logs")
    server.run("generate", "--kind", "mixed", "--records", "5000", "--days", "20", "--out", str(folder))
    # A title that somebody hostile had a part in: a finding of the same address.
    finding = {
        "schemaVersion": "2.0",
        "accountId": "111122223333",
        "region": "us-east-1",
        "partition": "aws",
        "id": "f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0",
        "arn": "arn:aws:guardduty:us-east-1:111122223333:detector/d/finding/f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0",
        "type": "Recon:IAMUser/MaliciousIPCaller.Custom",
        "severity": 5,
        "title": HOSTILE,
        "description": HOSTILE,
        "createdAt": "2026-01-24T15:00:00.000Z",
        "updatedAt": "2026-01-24T15:00:00.000Z",
        "resource": {"resourceType": "AccessKey", "accessKeyDetails": {"accessKeyId": "AKIAHOSTILE000000001", "userName": HOSTILE, "userType": "IAMUser", "principalId": "AIDAHOSTILE"}},
        "service": {
            "action": {"actionType": "AWS_API_CALL", "awsApiCallAction": {"api": "ListUsers", "remoteIpDetails": {"ipAddressV4": ATTACKER}, "userAgent": HOSTILE}},
            "eventFirstSeen": "2026-01-24T15:00:00.000Z",
            "eventLastSeen": "2026-01-24T15:00:00.000Z",
            "archived": False,
            "count": 1,
        },
    }
    (folder / "hostile.json").write_text(json.dumps(finding))
    server.run("ingest", str(folder))

    def grouped():
        groups = server.json("groups", "--entity", f"ip_address:{ATTACKER}")["groups"]
        return groups[0] if groups and findings(server, groups[0]["id"]) >= ATTACK | {finding["type"]} else None

    return eventually(grouped, LATE)


def export(server, group, form, path):
    server.run("group", group["id"], "--export", form, "--out", str(path))
    return path.read_text()


def findings(server, group):
    return {finding["type"] for finding in json.loads(server.run("group", group, "--export", "json"))["findings"]}


def test_an_attack_is_one_group(server, attack):
    assert attack["severity"] == 8.0 and attack["status"] == "FINDING_GROUP_STATUS_OPEN"
    assert {"Persistence", "Exfiltration", "Defense Evasion"} <= set(attack["tactics"])
    assert attack["score"] == sum(part["points"] for part in attack["score_parts"]) > 48
    told = server.json("group", attack["id"])
    assert all(sentence["finding_ids"] or sentence["entities"] for sentence in told["summary"])
    times = [event["time"] for event in told["timeline"]]
    assert times == sorted(times) and len(times) >= len(ATTACK)
    shown = server.run("group", attack["id"])
    assert ATTACKER in shown and "Timeline" in shown and "\u202e" not in shown
    every = server.json("groups", "--limit", "1000")["groups"]
    assert [group["severity"] for group in every] == sorted((group["severity"] for group in every), reverse=True)


class Active(html.parser.HTMLParser):
    """What a browser would load or run."""

    def __init__(self):
        super().__init__()
        self.found, self.text = [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        loads = [name for name in attributes if name.startswith("on") or name in ("src", "srcset", "action", "style", "data")]
        if tag in ("script", "img", "iframe", "object", "embed", "link", "form", "base", "svg") or loads:
            self.found.append((tag, attributes))
        if not attributes.get("href", "#").startswith("#"):
            self.found.append((tag, attributes))

    def handle_data(self, data):
        self.text.append(data)


def test_documents_have_no_active_content(server, attack, tmp_path):
    page = export(server, attack, "html", tmp_path / "group.html")
    parser = Active()
    parser.feed(page)
    assert parser.found == []
    assert "<img src=x onerror=alert(1)>" in "".join(parser.text), "it is shown as text"
    assert "default-src 'none'" in page
    text = export(server, attack, "markdown", tmp_path / "group.md")
    assert r"\<img src=x onerror=alert(1)\>" in text and r"\[x\](javascript" in text and "\u202e" not in text
    document = json.loads(export(server, attack, "json", tmp_path / "group.json"))
    assert HOSTILE in [finding["title"] for finding in document["findings"]], "data is as it came"


def test_a_bundle_is_valid_stix(server, attack, tmp_path):
    text = export(server, attack, "stix", tmp_path / "group.stix.json")
    result = validate_string(text, ValidationOptions(version="2.1", strict_properties=True))
    assert result.is_valid, [str(error) for error in result.errors]
    bundle = stix2.parse(text, allow_custom=False)
    kinds = {thing["type"] for thing in bundle.objects}
    assert {"grouping", "observed-data", "sighting", "attack-pattern", "note", "ipv4-addr", "user-account", "identity"} <= kinds
    for thing in bundle.objects:
        if thing["type"] == "ipv4-addr":
            assert thing["id"] == stix2.v21.IPv4Address(value=thing["value"])["id"]
        if thing["type"] == "user-account":
            assert thing["id"] == stix2.v21.UserAccount(user_id=thing["user_id"])["id"]
        if thing["type"] == "software":
            assert thing["id"] == stix2.v21.Software(name=thing["name"])["id"]
    known = {thing["id"] for thing in bundle.objects}
    (grouping,) = (thing for thing in bundle.objects if thing["type"] == "grouping")
    assert set(grouping["object_refs"]) <= known
    assert text == export(server, attack, "stix", tmp_path / "again.json"), "the same each time"


def test_a_group_is_closed_and_opened(server, attack):
    closed = server.json("group", attack["id"], "--close", "--note", "key rotated")["group"]
    assert closed["status"] == "FINDING_GROUP_STATUS_CLOSED"
    assert attack["id"] in [group["id"] for group in server.json("groups", "--status", "closed")["groups"]]
    assert attack["id"] not in [group["id"] for group in server.json("groups", "--status", "open")["groups"]]
    assert server.json("group", attack["id"])["decisions"][0]["note"] == "key rotated"
    assert server.json("group", attack["id"], "--open")["group"]["status"] == "FINDING_GROUP_STATUS_OPEN"


def test_an_investigation_names_the_group(server, attack):
    entities = json.loads(server.run("group", attack["id"], "--export", "json"))["entities"]
    # Any of the users that its findings share will do.
    user = next(entity["entity"] for entity in entities if entity["entity"].startswith("user:") and entity["ties"])
    detective = client(server.endpoint, Key(server.access_key_id, server.secret_access_key), "detective")
    started = detective.start_investigation(
        GraphArn=server.graph, EntityArn=user.removeprefix("user:"), ScopeStartTime="2026-01-24T00:00:00Z", ScopeEndTime="2026-01-25T00:00:00Z"
    )

    def ended():
        found = detective.get_investigation(GraphArn=server.graph, InvestigationId=started["InvestigationId"])
        return found if found["Status"] == "SUCCESSFUL" else None

    eventually(ended, LATE)
    indicators = detective.list_indicators(GraphArn=server.graph, InvestigationId=started["InvestigationId"], IndicatorType="RELATED_FINDING_GROUP")
    assert [one["IndicatorDetail"]["RelatedFindingGroupDetail"]["Id"] for one in indicators["Indicators"]] == [attack["id"]]
