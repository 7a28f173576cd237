"""A whole installation for tests: a server, its accounts, and who calls in their names."""

import dataclasses
import functools
import itertools
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.parse
import uuid

import grpc
from botocore.exceptions import ClientError

from detective import client, code
from reflection import call, describe

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))

from gumshoe import Server, binary  # noqa: E402  the folder is known only now

CREDENTIALS = "gumshoe.membership.v1.CredentialService"
MEMBERSHIP = "gumshoe.membership.v1.MembershipService"
ORGANIZATIONS = "gumshoe.membership.v1.OrganizationService"
PRINCIPALS = "gumshoe.membership.v1.PrincipalService"
EVERYTHING = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": ["detective:*", "gumshoe:*", "sts:*"], "Resource": "*"}}'

REGIONS = ["us-east-1", "us-east-2", "us-west-2", "ap-northeast-1", "eu-west-1"]
# Services with a database.
DATABASES = ["membership", "ingest", "graph", "investigation"]
# Limits on calls are not meant to stop these tests; test_detective_limits.py sets its own.
UNLIMITED = ["anonymous_per_minute", "reads_per_second", "writes_per_second", "investigations_per_second"]
SETTINGS = [
    "gateway.reflection=true",
    "gateway.policies.max_age_seconds=1",
    f"membership.regions={json.dumps(REGIONS)}",
    *(f"gateway.limits.{name}=1000000" for name in UNLIMITED),
]


def program():
    """The `gumshoe` that was built for tests."""
    folder = os.environ.get("GUMSHOE_TEST_BINARIES")
    return str(pathlib.Path(folder) / "gumshoe") if folder else binary()


@dataclasses.dataclass
class Key:
    """An access key, perhaps a temporary one."""

    id: str
    secret: str
    token: str | None = None


class Caller:
    """A principal of an account with an access key."""

    def __init__(self, installation, account, arn, key):
        self.installation = installation
        self.account = account
        self.arn = arn
        self.key = key

    @functools.cached_property
    def detective(self):
        """boto3's client."""
        return self.client("detective")

    def client(self, service, **options):
        """Any client of boto3 with this key."""
        return client(self.installation.endpoint, self.key, service, **options)

    @functools.cached_property
    def token(self):
        """A bearer token for gRPC."""
        return self.installation.call(CREDENTIALS, "CreateToken", {"access_key_id": self.key.id, "secret_access_key": self.key.secret})["token"]

    def call(self, service, method, **request):
        """A call by gRPC."""
        return self.installation.call(service, method, request, self.token)

    def put_policy(self, arn, document):
        """Sets a principal's only policy."""
        self.call(PRINCIPALS, "PutPrincipalPolicy", principal_arn=arn, name="only", document=document)

    def principal(self, name, policy=None, **more):
        """Adds `user/NAME` or `role/NAME` to the account; its ARN."""
        arn = self.call(PRINCIPALS, "CreatePrincipal", name=name, **more)["principal"]["arn"]
        if policy:
            self.put_policy(arn, policy)
        return arn

    def user(self, policy=None):
        """A new user of the account with this policy, or with none."""
        arn = self.principal(f"user/{uuid.uuid4().hex[:12]}", policy)
        made = self.call(PRINCIPALS, "CreateAccessKey", principal_arn=arn)
        return Caller(self.installation, self.account, arn, Key(made["access_key"]["access_key_id"], made["secret_access_key"]))

    def graph(self):
        """The account's graph, a new one if there was none."""
        return self.detective.create_graph()["GraphArn"]

    def without_graph(self):
        """Removes the account's graphs."""
        for graph in self.detective.list_graphs()["GraphList"]:
            self.detective.delete_graph(GraphArn=graph["Arn"])
        return self


class Installation:
    """A running server with its first account, whose administrator is `root`."""

    def __init__(self, server):
        self.server = server
        self.endpoint = server.endpoint
        self.channel = grpc.insecure_channel(self.endpoint.removeprefix("http://"))
        self.pool = describe(self.channel, [CREDENTIALS, MEMBERSHIP, ORGANIZATIONS, PRINCIPALS])
        self._numbers = itertools.count(200000000001)
        arn = f"arn:aws:iam::{server.graph.split(':')[4]}:user/administrator"
        self.root = Caller(self, server.graph.split(":")[4], arn, Key(server.access_key_id, server.secret_access_key))

    def close(self):
        self.channel.close()

    def call(self, service, method, request, token=None):
        """A call by gRPC."""
        return call(self.channel, self.pool, service, method, request, token)

    def number(self):
        """An account id that nothing knows yet."""
        return str(next(self._numbers))

    def register(self, number=None, email=None):
        """Registers an account in which nobody can call; its id and e-mail address."""
        number = number or self.number()
        email = email or address(number)
        self.root.call(MEMBERSHIP, "CreateAccount", account_id=number, name=f"account {number}", email=email)
        return number, email

    def account(self):
        """A registered account; its first administrator, who may do everything."""
        number, _ = self.register()
        return self.administrator(number)

    def administrator(self, number):
        """The first administrator of a registered account."""
        made = self.root.call(PRINCIPALS, "CreateAccountAdministrator", account_id=number)
        key = Key(made["access_key"]["access_key_id"], made["secret_access_key"])
        return Caller(self, number, made["principal"]["arn"], key)

    def ingest(self, caller, graph, records, folder):
        """Sends CloudTrail records into a graph of the caller's; gives what the command line says."""
        path = pathlib.Path(folder) / f"{uuid.uuid4().hex}.json"
        path.write_text(json.dumps({"Records": records}))
        environment = dict(os.environ, GUMSHOE_ENDPOINT=self.endpoint, GUMSHOE_TOKEN=caller.token, GUMSHOE_GRAPH=graph, XDG_CONFIG_HOME=str(folder))
        command = [self.server.program, "--output", "json", "ingest", str(path)]
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def address(number):
    """The e-mail address of the account of that id."""
    return f"root-{number}@example.com"


def eventually(attempt, patience=20):
    """The first true result of `attempt`."""
    end = time.monotonic() + patience
    while not (result := attempt()):
        assert time.monotonic() < end, f"nothing after {patience} s"
        time.sleep(0.1)
    return result


def refused(expected, call, **request):
    """Calls and is refused with the type of error expected; gives the error's message."""
    try:
        answer = call(**request)
    except ClientError as error:
        assert code(error) == expected, f"{code(error)} instead of {expected}: {error}"
        return error.response["Error"]["Message"]
    raise AssertionError(f"not refused with {expected}: {answer}")


class Postgres:
    """Databases for one installation; they go with the `with` block."""

    def __init__(self):
        self.url = os.environ.get("GUMSHOE_TEST_POSTGRES", "postgres://postgres@127.0.0.1:5432/postgres")
        self.prefix = f"gumshoe_python_{uuid.uuid4().hex[:12]}"

    def __enter__(self):
        for service in DATABASES:
            self._run(f'create database "{self.prefix}_{service}"')
        return self

    def __exit__(self, *_):
        for service in DATABASES:
            self._run(f'drop database if exists "{self.prefix}_{service}" with (force)')

    def _run(self, statement):
        subprocess.run(["psql", "-w", "-qAt", "-v", "ON_ERROR_STOP=1", self.url, "-c", statement], check=True, capture_output=True, text=True)

    def settings(self):
        """Settings of a server that keeps everything here."""
        parts = urllib.parse.urlsplit(self.url)
        for service in DATABASES:
            yield f"{service}.store.url={parts._replace(path=f'/{self.prefix}_{service}').geturl()}"


def start(*settings, folder=None):
    """A server for tests with these settings, not yet entered; later ones win."""
    options = [option for setting in [*SETTINGS, *settings] for option in ("--set", setting)]
    return Server(program(), *options, folder=folder)
