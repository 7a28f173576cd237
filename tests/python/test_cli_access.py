"""Accounts, principals, policies and keys by the command line, and what comes of them for who calls."""

import json

import pytest
from botocore.exceptions import ClientError
from detective import client
from installation import Caller, Key, eventually

# Policies and keys are kept for some seconds.
LATE = 45
READ = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "detective:List*", "Resource": "*"}}


def made(installation, answer):
    """Who calls with the key that a command has shown."""
    key = answer["access_key"]
    return Caller(
        installation, key["principal_arn"].split(":")[4], key["principal_arn"], Key(key["access_key_id"], answer["secret_access_key"])
    )


def refusal(caller):
    """The error of a call by the key, or nothing."""
    try:
        client(caller.installation.endpoint, caller.key, "detective").list_graphs()
    except ClientError as error:
        return error.response["Error"]["Code"]
    return None


def test_keys_are_made_changed_for_others_and_disabled(sqlite, tmp_path):
    cli = sqlite.server.json
    name = f"user/{tmp_path.name}"
    arn = cli("principals", "create", name)["principals"][0]["arn"]
    first = made(sqlite, cli("keys", "create", arn))
    assert refusal(first) == "AccessDeniedException", "a principal without policies"
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps(READ))
    cli("policies", "put", arn, "read", str(policy))
    assert [entry["name"] for entry in cli("policies", "list", arn)["policies"]] == ["read"]
    second = made(sqlite, cli("keys", "rotate", first.key.id, "--principal", arn))
    for caller, expected in ((second, None), (first, "UnrecognizedClientException")):
        eventually(lambda caller=caller, expected=expected: refusal(caller) == expected, LATE)
    states = {key["access_key_id"]: key.get("active", False) for key in cli("keys", "list", arn)["access_keys"]}
    assert states == {first.key.id: False, second.key.id: True}
    cli("keys", "enable", first.key.id)
    eventually(lambda: refusal(first) is None, LATE)
    cli("keys", "delete", first.key.id)
    assert [key["access_key_id"] for key in cli("keys", "list", arn)["access_keys"]] == [second.key.id]
    cli("policies", "delete", arn, "read")
    eventually(lambda: refusal(second) == "AccessDeniedException", LATE)
    cli("principals", "delete", arn)
    assert arn not in [entry["arn"] for entry in cli("principals", "list")["principals"]]


def test_an_account_gets_its_first_administrator_once(sqlite):
    cli = sqlite.server.json
    number = sqlite.number()
    assert cli("accounts", "create", number, "--email", f"root-{number}@example.com")["accounts"][0]["account_id"] == number
    assert number in [entry["account_id"] for entry in cli("accounts", "list")["accounts"]]
    administrator = made(sqlite, cli("accounts", "administrator", number))
    assert administrator.arn == f"arn:aws:iam::{number}:user/administrator"
    assert administrator.detective.create_graph()["GraphArn"].split(":")[4] == number
    with pytest.raises(Exception, match="exit code"):
        cli("accounts", "administrator", number)
