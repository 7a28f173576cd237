"""The checks of these tests themselves: that they see what is wrong with an answer, and nothing wrong with a right one."""

import http.server
import json
import threading

import pytest

import detective
from detective import Unmodelled, answer_faults, client, faults, model
from installation import Key

GRAPH = "arn:aws:detective:us-east-1:111122223333:graph:" + "0123456789abcdef" * 2
HEADERS = {"x-amzn-requestid": "1", "date": "now", "content-type": "application/json"}
TIME = "2024-06-01T00:00:00.123456Z"
MEMBER = {
    "AccountId": "111122223333", "EmailAddress": "a@example.com", "GraphArn": GRAPH, "MasterId": "222233334444", "AdministratorId": "222233334444",
    "Status": "ENABLED", "InvitedTime": TIME, "UpdatedTime": TIME, "InvitationType": "INVITATION", "VolumeUsageInBytes": 5, "PercentOfGraphUtilization": 0.5,
    "VolumeUsageByDatasourcePackage": {"DETECTIVE_CORE": {"VolumeUsageInBytes": 5, "VolumeUsageUpdateTime": TIME}},
}  # fmt: skip


def of_members(**changes):
    member = {name: value for name, value in {**MEMBER, **changes}.items() if value is not ...}
    return faults(model().operation_model("ListMembers").output_shape, {"MemberDetails": [member]})


def test_a_right_answer_has_no_faults():
    assert of_members() == []


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"Status": "ACTIVE"}, "is not one of"),
        ({"Status": None}, "is not a string"),
        ({"Status": ...}, "Status is missing"),
        ({"AccountId": "1"}, "less than 12"),
        ({"AccountId": "11112222333a"}, "does not match"),
        ({"AccountId": 111122223333}, "is not a string"),
        ({"InvitedTime": 1717200000}, "not a timestamp"),
        ({"InvitedTime": "2024-06-01 00:00:00"}, "not a timestamp"),
        ({"Extra": 1}, "not a member of MemberDetail"),
        ({"VolumeUsageInBytes": 5.5}, "not an integer"),
        ({"VolumeUsageInBytes": True}, "not an integer"),
        ({"PercentOfGraphUtilization": "1"}, "not a number"),
        ({"VolumeUsageByDatasourcePackage": {"OTHER": {}}}, "is not one of"),
        ({"VolumeUsageByDatasourcePackage": {"EKS_AUDIT": {}}}, "VolumeUsageInBytes is missing"),
        ({"VolumeUsageByDatasourcePackage": []}, "is not an object"),
    ],
)
def test_each_fault_of_an_answer_is_seen(changes, words):
    assert any(words in fault for fault in of_members(**changes))


@pytest.mark.parametrize(
    "name, status, headers, body, words",
    [
        ("ListGraphs", 201, {}, b'{"GraphList": []}', "status 201"),
        ("ListGraphs", 200, {"content-type": "text/plain"}, b'{"GraphList": []}', "content type"),
        ("ListGraphs", 200, {"x-amzn-requestid": ""}, b'{"GraphList": []}', "RequestId"),
        ("ListGraphs", 200, {}, b"{}", "GraphList is missing"),
        ("TagResource", 200, {}, b"", "status 200 instead of 204"),
        ("DeleteGraph", 200, {}, b"{}", "a body where there is none"),
        ("ListGraphs", 404, {"x-amzn-errortype": "ResourceNotFoundException"}, b'{"Message": "m"}', "does not answer"),
        ("ListMembers", 400, {"x-amzn-errortype": "ResourceNotFoundException"}, b'{"Message": "m"}', "status 400 instead of 404"),
        ("ListMembers", 404, {"x-amzn-errortype": "ResourceNotFoundException"}, b"{}", "without a message"),
        ("ListMembers", 404, {"x-amzn-errortype": "NotFound"}, b'{"Message": "m"}', "unknown type of error"),
        ("ListMembers", 400, {"x-amzn-errortype": "ValidationException"}, b'{"Message": "m", "ErrorCode": "BAD"}', "is not one of"),
        ("ListMembers", 400, {"x-amzn-errortype": "ValidationException"}, b'{"Message": "m", "Field": "x"}', "is not a member"),
        ("ListMembers", 403, {}, b'{"Message": "m"}', "unknown type of error"),
    ],
)
def test_each_fault_around_an_answer_is_seen(name, status, headers, body, words):
    seen = set(detective.SEEN)
    try:
        found = answer_faults(model().operation_model(name), status, {**HEADERS, **headers}, body)
    finally:
        detective.SEEN.clear()
        detective.SEEN.update(seen)
    assert any(words in fault for fault in found), found


@pytest.fixture
def answering():
    """A server that answers everything with what it is told to."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("x-amzn-requestid", "1")
            self.send_header("content-length", str(len(Handler.body)))
            self.end_headers()
            self.wfile.write(Handler.body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def answer(value):
        Handler.body = json.dumps(value).encode()
        return client(f"http://127.0.0.1:{server.server_port}", Key("AKIAIOSFODNN7EXAMPLE", "secret"))

    seen = set(detective.SEEN)
    yield answer
    detective.SEEN.clear()
    detective.SEEN.update(seen)
    server.shutdown()
    server.server_close()


def test_clients_hold_every_answer_to_the_model(answering):
    right = {"GraphList": [{"Arn": GRAPH, "CreatedTime": TIME}]}
    assert answering(right).list_graphs()["GraphList"][0]["CreatedTime"].year == 2024
    with pytest.raises(Unmodelled, match="not a member of Graph"):
        answering({"GraphList": [{**right["GraphList"][0], "Region": "us-east-1"}]}).list_graphs()
    with pytest.raises(Unmodelled, match="not a timestamp"):
        answering({"GraphList": [{"Arn": GRAPH, "CreatedTime": 1717200000}]}).list_graphs()
