"""The AWS command line against the server, with nothing changed but endpoint and credentials."""

import datetime
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from detective import REGION

AWS = pathlib.Path(sys.executable).with_name("aws")


class Failed(Exception):
    """The command line failed; says what it said."""


@pytest.fixture(scope="module")
def aws(sqlite, tmp_path_factory):
    """Runs `aws detective …` as an administrator, and gives what it prints as JSON."""
    caller = sqlite.account()
    home = tmp_path_factory.mktemp("aws")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AWS_ACCESS_KEY_ID": caller.key.id,
        "AWS_SECRET_ACCESS_KEY": caller.key.secret,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": sqlite.endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
    }

    def run(*arguments, service="detective"):
        done = subprocess.run(
            [AWS, "--output", "json", service, *arguments], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if done.returncode:
            raise Failed(done.stderr)
        return json.loads(done.stdout) if done.stdout.strip() else None

    run.caller = caller
    return run


@pytest.fixture(scope="module")
def graph(aws):
    return aws("create-graph", "--tags", "team=blue")["GraphArn"]


def test_the_command_line_knows_who_it_is(aws):
    assert aws("get-caller-identity", service="sts")["Arn"] == aws.caller.arn


def test_graphs_are_listed(aws, graph):
    listed = aws("list-graphs")["GraphList"]
    assert [entry["Arn"] for entry in listed] == [graph]
    assert datetime.datetime.fromisoformat(listed[0]["CreatedTime"].replace("Z", "+00:00")).tzinfo


def test_tags_go_through_the_path(aws, graph):
    assert aws("tag-resource", "--resource-arn", graph, "--tags", "a:b/c=d e") is None
    assert aws("list-tags-for-resource", "--resource-arn", graph)["Tags"]["a:b/c"] == "d e"
    assert aws("untag-resource", "--resource-arn", graph, "--tag-keys", "a:b/c") is None
    assert "a:b/c" not in aws("list-tags-for-resource", "--resource-arn", graph)["Tags"]


def test_members_are_invited_and_listed(aws, graph, sqlite):
    accounts = [sqlite.register() for _ in range(3)]
    given = [f"AccountId={number},EmailAddress={email}" for number, email in accounts]
    made = aws("create-members", "--graph-arn", graph, "--accounts", *given, "--message", "welcome")
    assert {entry["Status"] for entry in made["Members"]} == {"INVITED"}
    listed, token = [], None
    while True:
        page = aws("list-members", "--graph-arn", graph, "--max-results", "2", *(("--next-token", token) if token else ()))
        listed += [entry["AccountId"] for entry in page["MemberDetails"]]
        token = page.get("NextToken")
        if not token:
            break
    assert listed == [number for number, _ in accounts]


def test_an_investigation_is_started(aws, graph):
    end = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    times = [time.strftime("%Y-%m-%dT%H:%M:%SZ") for time in (end - datetime.timedelta(days=1), end)]
    entity = f"arn:aws:iam::{aws.caller.account}:user/alice"
    made = aws("start-investigation", "--graph-arn", graph, "--entity-arn", entity, "--scope-start-time", times[0], "--scope-end-time", times[1])
    assert re.fullmatch(r"\d{21}", made["InvestigationId"])
    listed = aws("list-investigations", "--graph-arn", graph)["InvestigationDetails"]
    assert [entry["InvestigationId"] for entry in listed] == [made["InvestigationId"]]


def test_errors_are_shown_with_their_type(aws, graph):
    with pytest.raises(Failed, match=r"\(ResourceNotFoundException\)"):
        aws("list-members", "--graph-arn", graph.rsplit(":", 1)[0] + ":" + "0" * 32)
    with pytest.raises(Failed, match=r"\(ValidationException\).*NextToken"):
        aws("list-graphs", "--next-token", "nonsense")
