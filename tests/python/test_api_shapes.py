"""A Python client without generated code: reflection, health and calls through the gateway.

Needs the packages grpcio, grpcio-reflection and grpcio-health-checking.
"""

import json
import os
import pathlib
import sys

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from reflection import call, describe, reflect

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))

from gumshoe import Server, binary  # noqa: E402  the folder is known only now

OUTSIDE = {
    "gumshoe.graph.v1.GraphService",
    "gumshoe.ingest.v1.IngestService",
    "gumshoe.investigation.v1.FindingGroupService",
    "gumshoe.investigation.v1.InvestigationService",
    "gumshoe.membership.v1.CredentialService",
    "gumshoe.membership.v1.MembershipService",
    "gumshoe.membership.v1.OrganizationService",
    "gumshoe.membership.v1.PrincipalService",
}


def program():
    folder = os.environ.get("GUMSHOE_TEST_BINARIES")
    return str(pathlib.Path(folder) / "gumshoe") if folder else binary()


@pytest.fixture(scope="module")
def server():
    with Server(program(), "--set", "gateway.reflection=true") as server:
        yield server


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.endpoint.removeprefix("http://")) as channel:
        yield channel


@pytest.fixture(scope="module")
def pool(channel):
    """Every type that the services need."""
    return describe(channel, OUTSIDE)


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_the_services(channel, version):
    listed = {service.name for service in reflect(channel, version, list_services="").list_services_response.service}
    assert OUTSIDE <= listed
    assert "grpc.health.v1.Health" in listed


def test_health_says_that_the_gateway_serves(channel):
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_every_method_says_whether_it_streams_and_what_it_takes(pool):
    methods = [method for name in OUTSIDE for method in pool.FindServiceByName(name).methods]
    assert len(methods) > 30
    for method in methods:
        assert method.input_type.name == f"{method.name}Request", method.full_name
        assert method.output_type.name == f"{method.name}Response", method.full_name


def test_calls_without_credentials_are_refused_with_a_reason(channel, pool, server):
    with pytest.raises(grpc.RpcError) as refused:
        call(channel, pool, "gumshoe.graph.v1.GraphService", "GetGraphStatistics", {"graph_arn": server.graph})
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    details = dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
    assert b"UNAUTHENTICATED" in details and b"gumshoe.dev" in details


@pytest.fixture(scope="module")
def token(server):
    """The token that `gumshoe login` has kept."""
    kept = pathlib.Path(server.folder) / "config" / "gumshoe" / "credentials.toml"
    values = dict(line.split(" = ", 1) for line in kept.read_text().splitlines() if " = " in line)
    return json.loads(values["token"])


def test_a_call_with_a_token_is_answered(channel, pool, server, token):
    answer = call(channel, pool, "gumshoe.graph.v1.GraphService", "GetGraphStatistics", {"graph_arn": server.graph}, token)
    assert answer.get("edges", "0") == "0"


def test_a_wrong_field_is_named(channel, pool, server, token):
    with pytest.raises(grpc.RpcError) as refused:
        request = {"graph_arn": server.graph, "text": "x", "page_size": 100_000}
        call(channel, pool, "gumshoe.graph.v1.GraphService", "SearchEntities", request, token)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert b"page_size" in dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
