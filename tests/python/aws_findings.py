"""AWS with findings: moto's server and, for findings, the operations that moto (5.2) does not have.

It refuses calls whose signature is not right, as the AWS SDK for Python computes it, and fails, or waits, when told to.
"""

import datetime
import io
import json
import threading
import uuid

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from moto.guardduty.exceptions import DetectorNotFoundException
from moto.guardduty.models import guardduty_backends
from moto.guardduty.responses import GuardDutyResponse
from moto.guardduty.urls import url_paths as guardduty_paths
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.securityhub.responses import SecurityHubResponse
from moto.securityhub.urls import url_paths as securityhub_paths
from moto.sts.models import sts_backends
from werkzeug.serving import WSGIRequestHandler, make_server

# The account of keys that moto knows nothing of.
ACCOUNT = "123456789012"
KEY, SECRET = "AKIAFEEDBACKKEY", "feedback-secret"


def _findings(response):
    """The findings of the detector in a call's path, by id."""
    detector = response.path.split("/")[2]
    backend = response.guardduty_backend
    if detector not in backend.detectors:
        return None
    return vars(backend.detectors[detector]).setdefault("findings", {})


def _guardduty(act):
    """An operation on the findings that a call names; GuardDuty refuses those that it does not have."""

    def operation(response):
        found, request = _findings(response), json.loads(response.body)
        if found is None or not all(finding in found for finding in request["findingIds"]):
            raise DetectorNotFoundException
        return json.dumps(act([found[finding] for finding in request["findingIds"]], request) or {})

    return operation


def _feedback(findings, request):
    assert request["feedback"] in ("USEFUL", "NOT_USEFUL")
    for finding in findings:
        finding["service"]["userFeedback"] = request["feedback"]
        finding["comments"] = request.get("comments")


def _archive(value):
    def act(findings, request):
        assert set(request) == {"findingIds"}
        for finding in findings:
            finding["service"]["archived"] = value

    return act


def _batch_update_findings(response):
    request = json.loads(response.body)
    known = {(finding.data["Id"], finding.data["ProductArn"]): finding.data for finding in response.securityhub_backend.findings}
    processed, unprocessed = [], []
    assert set(request) <= {"FindingIdentifiers", "Note", "VerificationState", "Workflow"}
    for identifier in request["FindingIdentifiers"]:
        finding = known.get((identifier["Id"], identifier["ProductArn"]))
        if finding is None:
            unprocessed.append({"FindingIdentifier": identifier, "ErrorCode": "FindingNotFound", "ErrorMessage": "Finding Not Found"})
            continue
        finding.update({name: request[name] for name in ("Workflow", "VerificationState") if name in request})
        if "Note" in request:
            finding["Note"] = {**request["Note"], "UpdatedAt": datetime.datetime.now(datetime.timezone.utc).isoformat()}
        processed.append(identifier)
    return json.dumps({"ProcessedFindings": processed, "UnprocessedFindings": unprocessed})


def _extend():
    """Adds to moto what it lacks."""
    operations = {
        "update_findings_feedback": ("feedback", _guardduty(_feedback)),
        "archive_findings": ("archive", _guardduty(_archive(True))),
        "unarchive_findings": ("unarchive", _guardduty(_archive(False))),
        "get_findings": ("get", _guardduty(lambda findings, _: {"findings": findings})),
    }
    for name, (path, operation) in operations.items():
        setattr(GuardDutyResponse, name, operation)
        guardduty_paths["{0}/detector/(?P<detector_id>[^/]+)/findings/" + path + "$"] = GuardDutyResponse.dispatch
    SecurityHubResponse.batch_update_findings = _batch_update_findings
    securityhub_paths["{0}/findings/batchupdate$"] = SecurityHubResponse.dispatch


_extend()


def _secret(key):
    """Secret and session token of a key."""
    for accounts in sts_backends.values():
        for backend in accounts.values():
            role = backend.get_assumed_role_from_access_key(key)
            if role:
                return role.secret_access_key, role.session_token
    return (SECRET, None) if key == KEY else (None, None)


def _wrong(environ, body):
    """What is wrong with a call's signature, or nothing."""
    header = environ.get("HTTP_AUTHORIZATION", "")
    try:
        scheme, fields = header.split(" ", 1)
        fields = dict(field.strip().split("=", 1) for field in fields.split(","))
        key, _, region, service, end = fields["Credential"].split("/")
    except (KeyError, ValueError):
        return f"not a signature: {header!r}"
    secret, token = _secret(key)
    if (scheme, end) != ("AWS4-HMAC-SHA256", "aws4_request") or not secret:
        return "an unknown key or scheme"
    if environ.get("HTTP_X_AMZ_SECURITY_TOKEN") != token:
        return "not the session's token"
    names = fields["SignedHeaders"].split(";")
    if not {"host", "x-amz-date"} <= set(names) or (token and "x-amz-security-token" not in names):
        return f"not all is signed: {names}"
    plain = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
    headers = {name: environ[plain.get(name) or "HTTP_" + name.upper().replace("-", "_")] for name in names}
    url = f"http://{environ['HTTP_HOST']}{environ['RAW_URI'] if 'RAW_URI' in environ else environ['PATH_INFO']}"
    request = AWSRequest(method=environ["REQUEST_METHOD"], url=url, data=body, headers=headers)
    request.context["timestamp"] = environ["HTTP_X_AMZ_DATE"]
    said = datetime.datetime.strptime(environ["HTTP_X_AMZ_DATE"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    if abs(datetime.datetime.now(datetime.timezone.utc) - said) > datetime.timedelta(minutes=5):
        return "signed at another time"
    signer = SigV4Auth(Credentials(key, secret, token), service, region)
    expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    return None if expected == fields["Signature"] else "another signature"


class Quiet(WSGIRequestHandler):
    """Logs nothing."""

    def log(self, *_):
        pass


class Aws:
    """The running server; ends with the `with` block."""

    def __init__(self):
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.calls = []
        self.failures = []
        self.gate = threading.Event()
        self.gate.set()

    def __enter__(self):
        self.server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Quiet)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()

    def _answer(self, environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        ours = "Boto3" not in environ.get("HTTP_USER_AGENT", "")
        wrong = _wrong(environ, body) if ours else None
        if wrong:
            text = json.dumps({"message": wrong}).encode()
            start_response("403 Forbidden", [("Content-Type", "application/json"), ("x-amzn-ErrorType", "InvalidSignatureException")])
            return [text]
        if ours and environ["PATH_INFO"] != "/":
            self.calls.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], json.loads(body)))
            self.gate.wait(60)
            if self.failures:
                start_response(self.failures.pop(0), [("Content-Type", "application/json")])
                return [b"{}"]
        return self.moto(environ, start_response)

    def client(self, service, region="us-east-1", account=ACCOUNT):
        """boto3's client, in an account."""
        key, secret, token = KEY, SECRET, None
        if account != ACCOUNT:
            role = self.client("sts").assume_role(RoleArn=f"arn:aws:iam::{account}:role/looker", RoleSessionName="test")["Credentials"]
            key, secret, token = role["AccessKeyId"], role["SecretAccessKey"], role["SessionToken"]
        return boto3.client(
            service,
            region,
            endpoint_url=self.endpoint,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def detect(self, user, account=ACCOUNT, region="us-east-1", kind="UnauthorizedAccess:IAMUser/TorIPCaller", severity=8.0, address="198.51.100.7"):
        """GuardDuty finds something: the finding as it exports it."""
        client = self.client("guardduty", region, account)
        detector = (client.list_detectors()["DetectorIds"] or [client.create_detector(Enable=True)["DetectorId"]])[0]
        number = uuid.uuid4().hex
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        finding = {
            "schemaVersion": "2.0",
            "accountId": account,
            "region": region,
            "partition": "aws",
            "id": number,
            "arn": f"arn:aws:guardduty:{region}:{account}:detector/{detector}/finding/{number}",
            "type": kind,
            "resource": {
                "resourceType": "AccessKey",
                "accessKeyDetails": {"accessKeyId": f"AKIA{number[:16].upper()}", "principalId": f"AIDA{user}", "userType": "IAMUser", "userName": user},
            },
            "service": {
                "serviceName": "guardduty",
                "detectorId": detector,
                "action": {"actionType": "AWS_API_CALL", "awsApiCallAction": {"api": "ListBuckets", "remoteIpDetails": {"ipAddressV4": address}}},
                "archived": False,
                "count": 1,
                "eventFirstSeen": now,
                "eventLastSeen": now,
            },
            "severity": severity,
            "createdAt": now,
            "updatedAt": now,
            "title": f"{user} from {address}",
            "description": "Calls from a Tor exit node.",
        }
        vars(guardduty_backends[account][region].detectors[detector])["findings"] = {
            **vars(guardduty_backends[account][region].detectors[detector]).get("findings", {}),
            number: json.loads(json.dumps(finding)),
        }
        return finding

    def guardduty(self, finding):
        """A finding as boto3 sees it in GuardDuty: user feedback, and whether it is archived."""
        client = self.client("guardduty", finding["region"], finding["accountId"])
        service = client.get_findings(DetectorId=finding["service"]["detectorId"], FindingIds=[finding["id"]])["Findings"][0]["Service"]
        return service.get("UserFeedback"), service["Archived"]

    def report(self, region="us-east-1"):
        """Security Hub takes in a finding: the finding as it exports it."""
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        finding = {
            "SchemaVersion": "2018-10-08",
            "Id": f"inspector/{uuid.uuid4().hex}",
            "ProductArn": f"arn:aws:securityhub:{region}::product/aws/inspector",
            "GeneratorId": "inspector",
            "AwsAccountId": ACCOUNT,
            "Region": region,
            "Types": ["Software and Configuration Checks/Vulnerabilities/CVE"],
            "CreatedAt": now,
            "UpdatedAt": now,
            "Severity": {"Label": "HIGH", "Normalized": 70},
            "Title": "CVE-2026-1",
            "Description": "An old library.",
            "Resources": [{"Type": "AwsEc2Instance", "Id": "i-0123456789abcdef0", "Partition": "aws", "Region": region}],
            "Workflow": {"Status": "NEW"},
            "RecordState": "ACTIVE",
        }
        assert self.client("securityhub", region).batch_import_findings(Findings=[finding])["SuccessCount"] == 1
        return finding

    def securityhub(self, finding):
        """A finding as boto3 sees it in Security Hub."""
        found = self.client("securityhub", finding["Region"]).get_findings()["Findings"]
        return next(one for one in found if one["Id"] == finding["Id"])
