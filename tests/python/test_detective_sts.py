"""The small STS: who am I, roles, roles for web identities; and temporary credentials at the Detective API."""

import base64
import datetime
import json
import re
import time

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

import detective
from detective import send, sign
from installation import EVERYTHING, PRINCIPALS, Installation, Key, refused, start

READ = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": ["detective:List*"], "Resource": "*"}}'
AUDIENCE = "gumshoe-tests"
ISSUERS = {"EdDSA": "https://login.example.com/realm", "RS256": "https://accounts.example.org"}


def key_of(answer):
    """The key in an answer of STS."""
    given = answer["Credentials"]
    return Key(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])


def trust(*principals, action="sts:AssumeRole", kind="AWS", condition=None):
    statement = {"Effect": "Allow", "Principal": {kind: list(principals)}, "Action": action}
    return json.dumps({"Version": "2012-10-17", "Statement": {**statement, **({"Condition": condition} if condition else {})}})


def api(caller, key):
    return detective.client(caller.installation.endpoint, key)


@pytest.fixture(scope="module")
def caller(accounts):
    """A user that may do everything, in an account of its own."""
    return accounts(5).user(EVERYTHING)


@pytest.fixture(scope="module")
def admin(accounts):
    return accounts(5)


@pytest.fixture(scope="module")
def role(admin, caller):
    """A role that reads, and that the user may assume."""
    return admin.principal("role/Reader", READ, trust_policy=trust(caller.arn))


def test_a_user_is_told_who_it_is(caller):
    told = caller.client("sts").get_caller_identity()
    assert (told["Account"], told["Arn"]) == (caller.account, caller.arn)
    assert told["UserId"]


def test_no_policy_is_needed_to_be_told(admin):
    user = admin.user()
    assert user.client("sts").get_caller_identity()["Arn"] == user.arn


def test_a_role_is_assumed_and_its_policy_holds(admin, caller, role):
    graph = admin.graph()
    answer = caller.client("sts").assume_role(RoleArn=role, RoleSessionName="analyst@example.com", DurationSeconds=900)
    key = key_of(answer)
    assert re.fullmatch(r"ASIA[A-Z2-7]{16}", key.id)
    assert len(key.secret) >= 40
    left = answer["Credentials"]["Expiration"] - datetime.datetime.now(datetime.timezone.utc)
    assert datetime.timedelta(seconds=840) < left < datetime.timedelta(seconds=960)
    session = f"arn:aws:sts::{admin.account}:assumed-role/Reader/analyst@example.com"
    assert answer["AssumedRoleUser"]["Arn"] == session
    assert answer["AssumedRoleUser"]["AssumedRoleId"].endswith(":analyst@example.com")

    told = detective.client(admin.installation.endpoint, key, "sts").get_caller_identity()
    assert (told["Account"], told["Arn"]) == (admin.account, session)
    assert told["UserId"] == answer["AssumedRoleUser"]["AssumedRoleId"]

    assert [entry["Arn"] for entry in api(admin, key).list_graphs()["GraphList"]] == [graph]
    message = refused("AccessDeniedException", api(admin, key).delete_graph, GraphArn=graph)
    assert session in message or role in message


def test_a_session_policy_narrows_a_session(admin, caller, role):
    policy = (
        '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": ["detective:ListGraphs", "detective:DeleteGraph"], "Resource": "*"}}'
    )
    narrow = api(admin, key_of(caller.client("sts").assume_role(RoleArn=role, RoleSessionName="narrow", Policy=policy)))
    narrow.list_graphs()
    refused("AccessDeniedException", narrow.list_invitations)
    refused("AccessDeniedException", narrow.delete_graph, GraphArn=admin.graph())
    refused("MalformedPolicyDocument", caller.client("sts").assume_role, RoleArn=role, RoleSessionName="broken", Policy='{"Version": "2012-10-17"}')


def test_a_role_trusts_whom_it_names(admin, caller, role, accounts):
    other = admin.user(EVERYTHING)
    refused("AccessDenied", other.client("sts").assume_role, RoleArn=role, RoleSessionName="session")
    refused("AccessDenied", caller.client("sts").assume_role, RoleArn=role.replace("Reader", "Missing"), RoleSessionName="session")
    untrusting = admin.principal("role/Untrusting", READ)
    refused("AccessDenied", caller.client("sts").assume_role, RoleArn=untrusting, RoleSessionName="session")
    # The trust alone is not enough: the caller's own policy must allow it, too.
    timid = admin.user(READ)
    admin.principal("role/ForTheTimid", READ, trust_policy=trust(timid.arn))
    refused("AccessDenied", timid.client("sts").assume_role, RoleArn=role.replace("Reader", "ForTheTimid"), RoleSessionName="session")
    # Another account's users can be trusted.
    stranger = accounts(1).user(EVERYTHING)
    shared = admin.principal("role/Shared", READ, trust_policy=trust(f"arn:aws:iam::{stranger.account}:root"))
    key = key_of(stranger.client("sts").assume_role(RoleArn=shared, RoleSessionName="session"))
    assert [entry["Arn"].split(":")[4] for entry in api(admin, key).list_graphs()["GraphList"]] == [admin.account]


@pytest.mark.parametrize(
    "wrong",
    [
        {"RoleSessionName": "x"},
        {"RoleSessionName": "a b"},
        {"DurationSeconds": 899},
        {"DurationSeconds": 43201},
        {"RoleArn": "arn:aws:iam::1:role/x" + "y" * 8},
    ],
)
def test_input_is_checked(wrong, caller, role):
    sts = caller.client("sts", validation=False)
    message = refused("ValidationError", sts.assume_role, **{"RoleArn": role, "RoleSessionName": "session", **wrong})
    assert next(iter(wrong)).lower() in message.lower()


def test_temporary_credentials_need_their_token_and_no_other(admin, caller, role):
    endpoint = admin.installation.endpoint
    first, second = (key_of(caller.client("sts").assume_role(RoleArn=role, RoleSessionName="session")) for _ in range(2))

    def answer(key):
        path, headers = sign(endpoint, key, "POST", "/graphs/list", b"{}", {"Content-Type": "application/json"})
        return send(endpoint, "POST", path, headers, b"{}")

    assert answer(first).status == 200
    for wrong in (
        Key(first.id, first.secret),
        Key(first.id, first.secret, second.token),
        Key(first.id, first.secret, first.token[:-4] + "AAAA"),
        Key(first.id, first.secret, "x"),
    ):
        refusal = answer(wrong)
        assert (refusal.status, refusal.error) in {(403, "UnrecognizedClientException"), (403, "InvalidSignatureException")}, refusal
    refusal = answer(Key(first.id, second.secret, first.token))
    assert (refusal.status, refusal.error) == (403, "InvalidSignatureException"), refusal

    # The token is taken off on the way, its header still among the signed ones.
    path, headers = sign(endpoint, first, "POST", "/graphs/list", b"{}", {"Content-Type": "application/json"})
    stripped = {name: value for name, value in headers.items() if name.lower() != "x-amz-security-token"}
    refusal = send(endpoint, "POST", path, stripped, b"{}")
    assert refusal.status in (400, 403) and refusal.error in detective.SIGNATURE_ERRORS, refusal


def test_a_role_that_is_gone_has_no_sessions(admin, caller):
    gone = admin.principal("role/Gone", READ, trust_policy=trust(caller.arn))
    key = key_of(caller.client("sts").assume_role(RoleArn=gone, RoleSessionName="session"))
    admin.call(PRINCIPALS, "DeletePrincipal", principal_arn=gone)
    refused("UnrecognizedClientException", api(admin, key).list_graphs)
    # Another role of the same name does not bring them back.
    admin.principal("role/Gone", READ, trust_policy=trust(caller.arn))
    again = key_of(caller.client("sts").assume_role(RoleArn=gone, RoleSessionName="session"))
    api(admin, again).list_graphs()
    refused("UnrecognizedClientException", api(admin, key).list_graphs)


def test_sts_refuses_wrong_signatures_in_its_own_words(admin, caller):
    wrong = detective.client(admin.installation.endpoint, Key(caller.key.id, "x" * 40), "sts")
    assert refused("SignatureDoesNotMatch", wrong.get_caller_identity)
    unknown = detective.client(admin.installation.endpoint, Key("AKIAIOSFODNN7EXAMPLE", "x" * 40), "sts")
    assert refused("InvalidClientTokenId", unknown.get_caller_identity)
    assert refused("InvalidAction", caller.client("sts").get_session_token)


# Web identities need an issuer of their own, so a server of their own.


def encoded(part):
    text = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


class Issuer:
    """An OpenID provider that signs what it is asked to."""

    def __init__(self, kind):
        self.kind = kind
        self.name = ISSUERS[kind]
        self.provider = self.name.removeprefix("https://")
        self.key = ed25519.Ed25519PrivateKey.generate() if kind == "EdDSA" else rsa.generate_private_key(65537, 2048)

    def public(self):
        return self.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()

    def token(self, **claims):
        now = int(time.time())
        claims = {"iss": self.name, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 300, **claims}
        text = f"{encoded({'alg': self.kind, 'typ': 'JWT'})}.{encoded(claims)}"
        signature = self.key.sign(text.encode()) if self.kind == "EdDSA" else self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{encoded(signature)}"


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    """An installation that believes two issuers, and the issuers."""
    folder = tmp_path_factory.mktemp("federation")
    issuers = {kind: Issuer(kind) for kind in ISSUERS}
    believed = [{"issuer": "gumshoe", "audience": "gumshoe", "keys": {"public_key": str(folder / "data" / "keys" / "bearer.public.pem")}}]
    for kind, issuer in issuers.items():
        path = folder / f"{kind}.pem"
        path.write_text(issuer.public())
        believed.append({"issuer": issuer.name, "audience": AUDIENCE, "keys": {"public_key": str(path)}, "account": "111122223333"})
    with start(f"gateway.issuers={toml(believed)}", folder=str(folder)) as server:
        installation = Installation(server)
        yield installation, issuers
        installation.close()


@pytest.fixture(scope="module", params=list(ISSUERS))
def federated(request, federation):
    """An installation, an issuer, and a role for one of the issuer's users."""
    installation, issuers = federation
    issuer = issuers[request.param]
    condition = {"StringEquals": {f"{issuer.provider}:sub": "alice", f"{issuer.provider}:aud": AUDIENCE}}
    document = trust(issuer.provider, action="sts:AssumeRoleWithWebIdentity", kind="Federated", condition=condition)
    role = installation.root.principal(f"role/{request.param}", READ, trust_policy=document)
    return installation, issuer, role


def toml(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(member)}" for key, member in value.items()) + " }"
    return "[" + ", ".join(map(toml, value)) + "]" if isinstance(value, list) else json.dumps(value)


def test_a_web_identity_assumes_a_role(federated):
    installation, issuer, role = federated
    sts = detective.client(installation.endpoint, None, "sts")
    answer = sts.assume_role_with_web_identity(RoleArn=role, RoleSessionName="alice", WebIdentityToken=issuer.token(), DurationSeconds=900)
    assert answer["SubjectFromWebIdentityToken"] == "alice"
    assert answer["Audience"] == AUDIENCE
    assert answer["Provider"] in (issuer.name, issuer.provider)
    assert answer["AssumedRoleUser"]["Arn"].endswith(f":assumed-role/{issuer.kind}/alice")
    key = key_of(answer)
    graphs = detective.client(installation.endpoint, key).list_graphs()["GraphList"]
    assert [entry["Arn"] for entry in graphs] == [installation.server.graph]
    refused("AccessDeniedException", detective.client(installation.endpoint, key).delete_graph, GraphArn=installation.server.graph)


@pytest.mark.parametrize(
    "claims, error",
    [
        ({"exp": 1_700_000_000}, "ExpiredTokenException"),
        ({"iss": "https://elsewhere.example.com"}, "InvalidIdentityToken"),
        ({"aud": "another"}, "InvalidIdentityToken"),
        ({"sub": "mallory"}, "AccessDenied"),
    ],
    ids=["expired", "issuer", "audience", "subject"],
)
def test_a_web_identity_must_be_believed_and_trusted(claims, error, federated):
    installation, issuer, role = federated
    sts = detective.client(installation.endpoint, None, "sts")
    refused(error, sts.assume_role_with_web_identity, RoleArn=role, RoleSessionName="alice", WebIdentityToken=issuer.token(**claims))


def test_a_web_identity_signed_by_another_is_refused(federated):
    installation, issuer, role = federated
    sts = detective.client(installation.endpoint, None, "sts")
    unsigned = f"{encoded({'alg': 'none'})}.{issuer.token().split('.')[1]}."
    confused = Issuer(issuer.kind).token()
    for token in (unsigned, confused, "not a token at all", issuer.token()[:-6] + "AAAAAA"):
        refused("InvalidIdentityToken", sts.assume_role_with_web_identity, RoleArn=role, RoleSessionName="alice", WebIdentityToken=token)
