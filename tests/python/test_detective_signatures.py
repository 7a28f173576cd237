"""Signature Version 4: what is signed wrongly is refused with AWS's own type of error, and not otherwise."""

import datetime
import re

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth

import detective
from detective import SIGNATURE_ERRORS, invoke, send, sign
from installation import EVERYTHING, PRINCIPALS, Key, eventually

JSON = {"Content-Type": "application/json"}
PATH = "/graphs/list"


class SignsAll(SigV4Auth):
    """Signs also what other SDKs do: a header with the digest of the body, and more than is needed."""

    def _modify_request_before_signing(self, request):
        super()._modify_request_before_signing(request)
        request.headers["X-Amz-Content-SHA256"] = self.payload(request)


@pytest.fixture(scope="module")
def caller(accounts):
    return accounts(0)


@pytest.fixture
def endpoint(caller):
    return caller.installation.endpoint


def expect(answer, error):
    """The answer is this error with its status, and says so as AWS does."""
    assert (answer.status, answer.error) == (SIGNATURE_ERRORS[error], error), answer
    assert answer.message
    assert answer.headers["x-amzn-requestid"]
    assert answer.headers["date"]
    assert "secret" not in answer.message.lower()


def post(endpoint, headers, body=b"{}", path=PATH):
    return send(endpoint, "POST", path, headers, body)


def signed(endpoint, key, body=b"{}", **options):
    """Headers of a good request, or of one that is signed a little differently."""
    return sign(endpoint, key, "POST", PATH, body, JSON, **options)[1]


def change(headers, name, pattern, replacement):
    """The headers with a part of one changed."""
    found = next(key for key in headers if key.lower() == name)
    changed = re.sub(pattern, replacement, headers[found])
    assert changed != headers[found]
    return {**headers, found: changed}


def test_a_good_signature_is_taken(endpoint, caller):
    assert post(endpoint, signed(endpoint, caller.key)).status == 200


@pytest.mark.parametrize(
    "extra",
    [{"X-Amz-Meta": "  a   b  "}, {"amz-sdk-invocation-id": "x", "Accept": "*/*"}, {"X-Amzn-Trace-Id": "Root=1"}],
    ids=["blanks", "sdk", "trace"],
)
def test_other_headers_can_be_signed(extra, endpoint, caller):
    headers = sign(endpoint, caller.key, "POST", PATH, b"{}", {**JSON, **extra})[1]
    assert post(endpoint, headers).status == 200


def test_the_digest_of_the_body_can_be_a_header(endpoint, caller):
    headers = signed(endpoint, caller.key, signer=SignsAll)
    assert post(endpoint, headers).status == 200
    expect(post(endpoint, change(headers, "x-amz-content-sha256", "^.", lambda match: "0" if match[0] != "0" else "1")), "InvalidSignatureException")
    headers = {name: value for name, value in headers.items() if name != "X-Amz-Content-SHA256"}
    expect(post(endpoint, headers), "InvalidSignatureException")


def test_the_query_is_signed(endpoint, caller):
    graph = caller.graph()
    path = f"/tags/{graph.replace(':', '%3A')}?tagKeys=b-c&tagKeys=a%2Fb"
    path, headers = sign(endpoint, caller.key, "DELETE", path)
    assert send(endpoint, "DELETE", path, headers).status == 204
    expect(send(endpoint, "DELETE", path + "&tagKeys=d", headers), "InvalidSignatureException")


def test_paths_with_encoded_names_are_signed_as_sdks_do(endpoint, caller):
    graph = caller.graph()
    path, headers = sign(endpoint, caller.key, "GET", f"/tags/{graph.replace(':', '%3A')}")
    assert send(endpoint, "GET", path, headers).status == 200


def test_a_request_without_a_signature_is_refused(endpoint):
    expect(post(endpoint, JSON), "MissingAuthenticationTokenException")
    unsigned = detective.client(endpoint, None)
    with pytest.raises(detective.ClientError) as refused:
        unsigned.list_graphs()
    assert detective.code(refused) == "MissingAuthenticationTokenException"


@pytest.mark.parametrize("authorization", ["Basic YTpi", "Digest x", "AWS4-HMAC-SHA512 Credential=a"])
def test_other_ways_to_authenticate_are_refused(authorization, endpoint):
    answer = post(endpoint, {**JSON, "Authorization": authorization})
    assert (answer.status, answer.error) in {(403, "MissingAuthenticationTokenException"), (400, "IncompleteSignatureException")}, answer


def test_unknown_keys_are_refused(endpoint, caller):
    for key in (
        Key("AKIAIOSFODNN7EXAMPLE", caller.key.secret),
        Key("not a key", caller.key.secret),
        Key("ASIAIOSFODNN7EXAMPLE", caller.key.secret, "token"),
    ):
        expect(post(endpoint, signed(endpoint, key)), "UnrecognizedClientException")


def test_a_wrong_secret_is_refused(endpoint, caller):
    expect(post(endpoint, signed(endpoint, Key(caller.key.id, "x" * 40))), "InvalidSignatureException")


def test_a_session_token_with_a_key_that_has_none_is_refused(endpoint, caller):
    expect(post(endpoint, signed(endpoint, Key(caller.key.id, caller.key.secret, "token"))), "UnrecognizedClientException")


@pytest.mark.parametrize("minutes", [-4, 4])
def test_clocks_may_differ_a_little(minutes, endpoint, caller):
    time = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=minutes)
    assert post(endpoint, signed(endpoint, caller.key, time=time)).status == 200


@pytest.mark.parametrize("minutes, words", [(-6, "Signature expired"), (6, "Signature not yet current"), (-60 * 24 * 3, "Signature expired")])
def test_clocks_may_not_differ_by_much(minutes, words, endpoint, caller):
    time = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=minutes)
    answer = post(endpoint, signed(endpoint, caller.key, time=time))
    expect(answer, "InvalidSignatureException")
    assert words in answer.message


@pytest.mark.parametrize("options", [{"service": "s3"}, {"service": "sts"}, {"region": "xx-nowhere-1"}], ids=["other service", "sts", "other region"])
def test_the_scope_must_be_this_service_in_a_region_that_is_served(options, endpoint, caller):
    expect(post(endpoint, signed(endpoint, caller.key, **options)), "InvalidSignatureException")


def test_a_body_that_was_changed_is_refused(endpoint, caller):
    expect(post(endpoint, signed(endpoint, caller.key), b'{"MaxResults": 1}'), "InvalidSignatureException")
    expect(post(endpoint, signed(endpoint, caller.key), b"{} "), "InvalidSignatureException")


def test_another_address_or_method_is_refused(endpoint, caller):
    headers = signed(endpoint, caller.key)
    expect(post(endpoint, headers, path="/invitations/list"), "InvalidSignatureException")
    expect(send(endpoint, "PUT", "/invitation", headers, b"{}"), "InvalidSignatureException")


@pytest.mark.parametrize("name", ["X-Amz-Date", "Content-Type"])
def test_a_signed_header_that_is_changed_or_gone_is_refused(name, endpoint, caller):
    headers = signed(endpoint, caller.key)
    for wrong in ({**headers, name: headers[name].replace("Z", "Z ") + "x"}, {other: value for other, value in headers.items() if other != name}):
        answer = post(endpoint, wrong)
        assert (answer.status, answer.error) in {(403, "InvalidSignatureException"), (400, "IncompleteSignatureException")}, answer


@pytest.mark.parametrize("name", ["host", "x-amz-date"])
def test_headers_that_must_be_signed_are(name, endpoint, caller):
    class Forgetful(SigV4Auth):
        def headers_to_sign(self, request):
            kept = super().headers_to_sign(request)
            del kept[name]
            return kept

    answer = post(endpoint, signed(endpoint, caller.key, signer=Forgetful))
    assert (answer.status, answer.error) in {(403, "InvalidSignatureException"), (400, "IncompleteSignatureException")}, answer


@pytest.mark.parametrize(
    "pattern, replacement",
    [
        (r"Signature=.*", ""),
        (r"SignedHeaders=[^,]*, ", ""),
        (r"Credential=[^,]*, ", ""),
        (r"/aws4_request", ""),
        (r"/aws4_request", "/aws5_request"),
        (r"Signature=\w{4}", "Signature="),
        (r"Credential=[^/]*/", "Credential="),
        (r" .*", " "),
    ],
)
def test_a_header_that_is_not_whole_is_refused(pattern, replacement, endpoint, caller):
    answer = post(endpoint, change(signed(endpoint, caller.key), "authorization", pattern, replacement))
    assert answer.error in ("IncompleteSignatureException", "InvalidSignatureException"), answer
    expect(answer, answer.error)


def test_a_header_without_any_signature_is_incomplete(endpoint, caller):
    expect(post(endpoint, change(signed(endpoint, caller.key), "authorization", r", Signature=.*", "")), "IncompleteSignatureException")


@pytest.mark.parametrize("day", ["20000101", "20991231", "2024"])
def test_the_day_of_the_scope_must_be_that_of_the_date(day, endpoint, caller):
    answer = post(endpoint, change(signed(endpoint, caller.key), "authorization", r"/\d{8}/", f"/{day}/"))
    assert (answer.status, answer.error) in {(403, "InvalidSignatureException"), (400, "IncompleteSignatureException")}, answer


def test_presigned_addresses_are_refused(endpoint, caller):
    path, headers = sign(endpoint, caller.key, "POST", PATH, b"{}", JSON, signer=SigV4QueryAuth, expires=60)
    assert "X-Amz-Signature" in path
    answer = send(endpoint, "POST", path, headers, b"{}")
    assert answer.status in (400, 403) and answer.error in SIGNATURE_ERRORS, answer


def test_asymmetric_signatures_are_refused(endpoint, caller):
    headers = change(signed(endpoint, caller.key), "authorization", "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256")
    answer = post(endpoint, {**headers, "X-Amz-Region-Set": "*"})
    assert answer.status in (400, 403) and answer.error in SIGNATURE_ERRORS, answer


def test_a_bearer_token_is_taken_instead_of_a_signature(endpoint, caller):
    answer = post(endpoint, {**JSON, "Authorization": f"Bearer {caller.token}"})
    assert answer.status == 200, answer
    answer = post(endpoint, {**JSON, "Authorization": f"Bearer {caller.token[:-4]}AAAA"})
    expect(answer, "UnrecognizedClientException")


# What is known of a key is kept for half a minute; so the keys here are refused before they are known.


def test_a_key_that_is_disabled_is_refused_until_it_is_enabled_again(endpoint, caller):
    user = caller.user(EVERYTHING)
    caller.call(PRINCIPALS, "UpdateAccessKey", access_key_id=user.key.id, active=False)
    expect(post(endpoint, signed(endpoint, user.key)), "UnrecognizedClientException")
    caller.call(PRINCIPALS, "UpdateAccessKey", access_key_id=user.key.id, active=True)
    eventually(lambda: post(endpoint, signed(endpoint, user.key)).status == 200)


def test_keys_are_rotated_without_a_gap(endpoint, caller):
    user = caller.user(EVERYTHING)
    made = caller.call(PRINCIPALS, "CreateAccessKey", principal_arn=user.arn)
    second = Key(made["access_key"]["access_key_id"], made["secret_access_key"])
    assert second.secret != user.key.secret
    assert invoke(endpoint, second, "ListGraphs", b"{}").status == 200
    caller.call(PRINCIPALS, "DeleteAccessKey", access_key_id=user.key.id)
    expect(post(endpoint, signed(endpoint, user.key)), "UnrecognizedClientException")
    assert invoke(endpoint, second, "ListGraphs", b"{}").status == 200
    listed = caller.call(PRINCIPALS, "ListAccessKeys", principal_arn=user.arn)
    assert [key["access_key_id"] for key in listed["access_keys"]] == [second.id]
    assert second.secret not in str(listed)


def test_a_principal_that_is_removed_has_no_keys(endpoint, caller):
    user = caller.user(EVERYTHING)
    caller.call(PRINCIPALS, "DeletePrincipal", principal_arn=user.arn)
    expect(post(endpoint, signed(endpoint, user.key)), "UnrecognizedClientException")
