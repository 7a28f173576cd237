"""Triage by the command line: findings of GuardDuty and Security Hub listed, judged, given back to AWS, and suppressed.

What AWS has then is seen through boto3, on moto's server: see aws_findings.py.
"""

import json
import os
import uuid

import pytest
from aws_findings import ACCOUNT, KEY, SECRET, Aws
from installation import eventually, start

LATE = 30
# A verdict is looked for and tried again soon.
QUICK = ["investigation.feedback.look_seconds=1", "investigation.feedback.retry_seconds=1"]


def feedback(aws, *more):
    """Settings of a server that gives verdicts back."""
    return [*QUICK, "investigation.feedback.enabled=true", f"investigation.feedback.endpoint_url={aws.endpoint}", *more]


@pytest.fixture(scope="module")
def aws():
    with Aws() as aws:
        # Where every AWS client looks for them.
        os.environ.update(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)
        yield aws
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            os.environ.pop(name)


@pytest.fixture(scope="module")
def server(aws):
    with start(*feedback(aws, "investigation.feedback.max_attempts=2")) as server:
        yield server


def ingest(server, folder, *findings):
    """Sends findings as they were exported."""
    path = folder / f"{uuid.uuid4().hex}.jsonl"
    path.write_text("".join(json.dumps(finding) + "\n" for finding in findings))
    server.run("ingest", str(path))


def name(finding):
    """The finding's id in Gumshoe."""
    return finding.get("arn") or finding["Id"]


def triaged(server, finding):
    """A finding as it is listed, wherever it stands."""
    found = server.json("findings", "--archived", "--suppressed", "--limit", "1000")["findings"]
    return next(one for one in found if one["finding"]["id"] == name(finding))


def delivered(server, finding, state="DELIVERED"):
    """The delivery of a finding's verdict, once it is in this state."""

    def there():
        delivery = triaged(server, finding)["verdict"]["delivery"]
        return delivery if delivery["state"] == f"DELIVERY_STATE_{state}" else None

    return eventually(there, LATE)


def listed(server, *options):
    """Titles of the findings listed."""
    return [one["finding"]["title"] for one in server.json("findings", *options)["findings"]]


def test_a_verdict_changes_the_finding_in_guardduty(aws, server, tmp_path):
    scanner = aws.detect("ann")
    ingest(server, tmp_path, scanner)
    assert aws.guardduty(scanner) == (None, False)
    for verdict, seen in [
        ("true-positive", ("USEFUL", False)),
        ("false-positive", ("NOT_USEFUL", True)),
        ("reopened", ("NOT_USEFUL", False)),
        ("benign", ("USEFUL", True)),
        ("true-positive", ("USEFUL", False)),
    ]:
        server.run("verdict", name(scanner), verdict, "--note", "known scanner")
        assert delivered(server, scanner)["attempts"] == 1
        assert aws.guardduty(scanner) == seen, verdict
    comments = [body["comments"] for _, path, body in aws.calls if path.endswith("/feedback")]
    assert comments and set(comments) == {"known scanner"}
    shown = server.run("finding", name(scanner))
    assert shown.count("delivered") == 5 and "known scanner" in shown


def test_a_verdict_changes_the_finding_in_security_hub(aws, server, tmp_path):
    hole = aws.report("eu-west-1")
    ingest(server, tmp_path, hole)
    for verdict, workflow, state in [
        ("false-positive", "SUPPRESSED", "FALSE_POSITIVE"),
        ("reopened", "NEW", "UNKNOWN"),
        ("benign", "SUPPRESSED", "BENIGN_POSITIVE"),
        ("true-positive", "NOTIFIED", "TRUE_POSITIVE"),
    ]:
        server.run("verdict", name(hole), verdict, "--note", verdict)
        delivered(server, hole)
        found = aws.securityhub(hole)
        assert (found["Workflow"]["Status"], found["VerificationState"]) == (workflow, state)
        assert (found["Note"]["Text"], found["Note"]["UpdatedBy"].split("/")[-1]) == (verdict, "administrator")


def test_what_aws_refuses_is_seen_to_have_failed(aws, server, tmp_path):
    denied, gone, later = aws.detect("ann"), aws.detect("ann"), aws.detect("ann")
    ingest(server, tmp_path, denied, {**gone, "id": "0" * 32, "arn": gone["arn"].replace(gone["id"], "0" * 32)}, later)
    gone["arn"] = gone["arn"].replace(gone["id"], "0" * 32)
    aws.failures.extend(["403 Forbidden"] * 2)
    server.run("verdict", name(denied), "benign")
    failed = delivered(server, denied, "FAILED")
    assert (failed["reason"], failed["attempts"]) == ("guardduty:UpdateFindingsFeedback: 403", 2)
    server.run("verdict", name(gone), "benign")
    assert "BadRequestException" in delivered(server, gone, "FAILED")["reason"]
    assert "failed: guardduty:UpdateFindingsFeedback: 403" in server.run("finding", name(denied))
    aws.failures.append("500 Internal Server Error")
    server.run("verdict", name(later), "benign")
    assert delivered(server, later)["attempts"] == 2


def test_a_verdict_is_given_back_though_the_server_is_killed(aws, tmp_path):
    scanner = aws.detect("ann")
    folder = tmp_path / "server"
    folder.mkdir()
    settings = feedback(aws, "investigation.feedback.lease_seconds=4")
    aws.calls.clear()
    aws.gate.clear()
    try:
        with start(*settings, folder=str(folder)) as first:
            ingest(first, tmp_path, scanner)
            first.run("verdict", name(scanner), "false-positive")
            eventually(lambda: aws.calls, LATE)
            first.process.kill()
            first.process.wait()
    finally:
        aws.gate.set()
    os.environ.update(GUMSHOE_ACCESS_KEY_ID=first.access_key_id, GUMSHOE_SECRET_ACCESS_KEY=first.secret_access_key)
    try:
        with start(*settings, folder=str(folder)) as second:
            delivered(second, scanner)
    finally:
        for key in ("GUMSHOE_ACCESS_KEY_ID", "GUMSHOE_SECRET_ACCESS_KEY"):
            os.environ.pop(key)
    assert aws.guardduty(scanner) == ("NOT_USEFUL", True)
    assert [path.split("/")[-1] for _, path, _ in aws.calls] == ["feedback", "feedback", "archive"], "at least once, and the same again"
    assert aws.calls[0] == aws.calls[1]


def test_a_role_is_assumed_in_the_findings_account(aws, tmp_path):
    elsewhere = aws.detect("ann", account="222222222222")
    with start(*feedback(aws, "investigation.feedback.role=arn:{partition}:iam::{account}:role/gumshoe-feedback")) as server:
        ingest(server, tmp_path, elsewhere)
        server.run("verdict", name(elsewhere), "benign")
        delivered(server, elsewhere)
    assert aws.guardduty(elsewhere) == ("USEFUL", True)


def test_nothing_is_given_back_unless_it_is_asked_for(aws, tmp_path):
    scanner = aws.detect("ann")
    aws.calls.clear()
    with start(*QUICK, f"investigation.feedback.endpoint_url={aws.endpoint}") as server:
        ingest(server, tmp_path, scanner)
        server.run("verdict", name(scanner), "false-positive")
        # What it teaches is proposed all the same, after which nothing is left to do.
        eventually(lambda: server.json("suppressions")["suppressions"], LATE)
        assert "delivery" not in triaged(server, scanner)["verdict"]
    assert (aws.calls, aws.guardduty(scanner)) == ([], (None, False))


def test_false_positives_teach(aws, tmp_path):
    with start(*feedback(aws)) as server:
        first, second, others = aws.detect("ann"), aws.detect("ann"), aws.detect("bob")
        ingest(server, tmp_path, first, second, others)
        server.run("verdict", name(first), "false-positive")
        proposed = eventually(lambda: server.json("suppressions", "list", "--state", "proposed")["suppressions"], LATE)[0]
        assert (proposed["finding_id"], proposed["past_findings"]) == (name(first), 2)
        assert proposed["pattern"]["type"] == first["type"]
        assert {entity["id"].split("/")[-1] for entity in proposed["pattern"]["entities"]} == {"ann", "198.51.100.7"}
        assert sorted(listed(server)) == ["ann from 198.51.100.7"] * 2 + ["bob from 198.51.100.7"]

        assert "is now accepted" in server.run("suppressions", "accept", proposed["id"])
        assert listed(server) == ["bob from 198.51.100.7"]
        ingest(server, tmp_path, aws.detect("ann"))
        assert listed(server) == ["bob from 198.51.100.7"], "also what comes later"
        suppressed = [one for one in server.json("findings", "--suppressed")["findings"] if one.get("suppression_id")]
        assert {one["suppression_id"] for one in suppressed} == {proposed["id"]} and len(suppressed) == 3
        assert f"{proposed['id']}" in server.run("finding", name(second))
        server.run("verdict", name(second), "true-positive")
        assert len(listed(server)) == 2, "a verdict is stronger"

        server.run("suppressions", "delete", proposed["id"])
        assert len(listed(server)) == 4
        assert server.json("suppressions")["suppressions"] == []
        deleted = server.json("suppressions", "list", "--state", "deleted")["suppressions"][0]
        assert {deleted[role].split("/")[-1] for role in ("author_arn", "decider_arn", "deleter_arn")} == {"administrator"}

        server.run("verdict", name(others), "false-positive")
        proposed = eventually(lambda: server.json("suppressions")["suppressions"], LATE)[0]
        server.run("suppressions", "dismiss", proposed["id"])
        assert "dismissed" in server.run("suppressions") and len(listed(server)) == 4
        assert server.command("suppressions", "accept", str(uuid.uuid4()))[0] == 4
        assert server.command("suppressions", "accept", "nonsense")[0] == 2
        assert server.command("suppressions", "delete")[0] == 2


def test_findings_are_filtered(aws, tmp_path):
    with start(*QUICK) as server:
        recon = aws.detect("low", severity=2.5, kind="Recon:IAMUser/UserPermissions")
        medium = aws.detect("medium", severity=6.9, kind="Recon:EC2/PortProbeUnprotectedPort")
        worst = aws.detect("worst", severity=9.5, account="222222222222")
        hole = aws.report()
        ingest(server, tmp_path, recon, medium, worst, hole)
        titles = {name: f"{name} from 198.51.100.7" for name in ("low", "medium", "worst")}
        everything = [titles["worst"], "CVE-2026-1", titles["medium"], titles["low"]]
        assert listed(server) == everything
        for options, expected in [
            (["--min-severity", "medium", "--max-severity", "high"], ["CVE-2026-1", titles["medium"]]),
            (["--max-severity", "2.4"], []),
            (["--type", "Recon:"], [titles["medium"], titles["low"]]),
            (["--type", "*PortProbe*"], [titles["medium"]]),
            (["--type", "Recon:?AMUser/*"], [titles["low"]]),
            (["--product", "guardduty"], [titles["worst"], titles["medium"], titles["low"]]),
            (["--product", "securityhub"], ["CVE-2026-1"]),
            (["--product", "*/aws/inspector"], ["CVE-2026-1"]),
            (["--account", "222222222222"], [titles["worst"]]),
            (["--account", ACCOUNT, "--product", "guardduty", "--min-severity", "low"], [titles["medium"], titles["low"]]),
            (["--until", "2020-01-01"], []),
            (["--since", "1h", "--type", "Recon:"], [titles["medium"], titles["low"]]),
            (["--entity", "i-0123456789abcdef0"], ["CVE-2026-1"]),
        ]:
            assert listed(server, *options) == expected, options
        server.run("verdict", name(recon), "benign")
        server.run("verdict", name(worst), "true-positive")
        assert listed(server, "--status", "benign", "--status", "true-positive") == [titles["worst"], titles["low"]]
        assert listed(server, "--status", "open") == ["CVE-2026-1", titles["medium"]]
        resolved = {**hole, "UpdatedAt": "2099-01-01T00:00:00Z", "Workflow": {"Status": "RESOLVED"}}
        ingest(server, tmp_path, resolved)
        assert listed(server, "--status", "archived") == ["CVE-2026-1"]
        assert "CVE-2026-1" not in listed(server) and "CVE-2026-1" in listed(server, "--archived")
        assert listed(server, "--limit", "2") == [titles["worst"], titles["medium"]]
        for wrong in (["--status", "closed"], ["--max-severity", "11"], ["--min-severity", "high", "--max-severity", "low"], ["--account", "1"]):
            assert server.command("findings", *wrong)[0] == 2, wrong
