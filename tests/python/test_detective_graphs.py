"""Graphs with their tags and packages of data sources: made once, listed, changed, removed."""

import datetime

import pytest
from botocore.exceptions import ClientError

from detective import REGION, code, pages
from installation import eventually, refused

PACKAGES = {"DETECTIVE_CORE", "EKS_AUDIT", "ASFF_SECURITYHUB_FINDING"}
ELSEWHERE = "eu-west-1"


def test_a_graph_is_made_once(installation):
    account = installation.account()
    first = account.detective.create_graph()["GraphArn"]
    assert first.startswith(f"arn:aws:detective:{REGION}:{account.account}:graph:")
    assert account.detective.create_graph(Tags={"ignored": "since it exists"})["GraphArn"] == first
    assert account.detective.list_tags_for_resource(ResourceArn=first)["Tags"] == {}
    [listed] = account.detective.list_graphs()["GraphList"]
    assert listed["Arn"] == first
    assert abs(datetime.datetime.now(datetime.timezone.utc) - listed["CreatedTime"]) < datetime.timedelta(minutes=5)


def test_a_graph_is_made_with_its_tags(installation):
    account = installation.account()
    account.without_graph()
    graph = account.detective.create_graph(Tags={"team": "blue", "cost-center": "", "path/to:x_y=z": "ä €"})["GraphArn"]
    assert account.detective.list_tags_for_resource(ResourceArn=graph)["Tags"] == {"team": "blue", "cost-center": "", "path/to:x_y=z": "ä €"}


def test_a_graph_that_is_removed_is_gone_and_another_can_be_made(installation, accounts):
    account, guest = installation.account(), accounts(1)
    graph = account.detective.create_graph()["GraphArn"]
    account.detective.create_members(GraphArn=graph, Accounts=[{"AccountId": guest.account, "EmailAddress": f"root-{guest.account}@example.com"}])
    account.detective.delete_graph(GraphArn=graph)
    assert account.detective.list_graphs()["GraphList"] == []
    for call, more in (
        (account.detective.delete_graph, {}),
        (account.detective.list_members, {}),
        (account.detective.list_datasource_packages, {}),
        (guest.detective.accept_invitation, {}),
    ):
        refused("ResourceNotFoundException", call, GraphArn=graph, **more)
    refused("ResourceNotFoundException", account.detective.list_tags_for_resource, ResourceArn=graph)

    def closed():
        # The gateway knows a graph for as long as it knows policies.
        try:
            account.detective.list_investigations(GraphArn=graph)
        except ClientError as error:
            return code(error) == "ResourceNotFoundException"
        return False

    eventually(closed)
    assert graph not in [entry["GraphArn"] for entry in guest.detective.list_invitations(MaxResults=200)["Invitations"]]
    second = account.detective.create_graph()["GraphArn"]
    assert second != graph
    assert account.detective.list_members(GraphArn=second)["MemberDetails"] == []


def test_there_is_one_graph_in_each_region(installation):
    account = installation.account()
    here = account.detective.create_graph()["GraphArn"]
    abroad = account.client("detective", region=ELSEWHERE)
    there = abroad.create_graph()["GraphArn"]
    assert there.split(":")[3] == ELSEWHERE
    assert abroad.create_graph()["GraphArn"] == there != here
    assert account.detective.create_graph()["GraphArn"] == here
    assert [entry["Arn"] for entry in abroad.list_graphs()["GraphList"]] == [there]
    assert [entry["Arn"] for entry in pages(account.detective.list_graphs, "GraphList")] == [here]
    abroad.delete_graph(GraphArn=there)
    assert abroad.list_graphs()["GraphList"] == []
    assert [entry["Arn"] for entry in account.detective.list_graphs()["GraphList"]] == [here]


def test_signatures_for_regions_that_are_not_served_are_refused(accounts):
    message = refused("InvalidSignatureException", accounts(0).client("detective", region="sa-east-1").create_graph)
    assert REGION in message


def test_a_graph_is_reached_in_its_own_region(owner, graph):
    message = refused("ValidationException", owner.client("detective", region=ELSEWHERE).list_members, GraphArn=graph)
    assert "graphArn" in message and ELSEWHERE in message


def test_tags_are_set_replaced_and_removed(owner, graph):
    api = owner.detective
    api.tag_resource(ResourceArn=graph, Tags={"a": "1", "b:c/d": "two words", "e": ""})
    api.tag_resource(ResourceArn=graph, Tags={"a": "2", "f": "€"})
    assert api.list_tags_for_resource(ResourceArn=graph)["Tags"] == {"a": "2", "b:c/d": "two words", "e": "", "f": "€"}
    api.untag_resource(ResourceArn=graph, TagKeys=["a", "b:c/d", "never"])
    assert api.list_tags_for_resource(ResourceArn=graph)["Tags"] == {"e": "", "f": "€"}
    api.untag_resource(ResourceArn=graph, TagKeys=["e", "f"])
    assert api.list_tags_for_resource(ResourceArn=graph)["Tags"] == {}


def test_success_without_content_says_so(owner, graph):
    api = owner.detective
    assert api.tag_resource(ResourceArn=graph, Tags={"a": "1"})["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert api.untag_resource(ResourceArn=graph, TagKeys=["a"])["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_a_graph_has_at_most_50_tags(owner, graph):
    letters = "abcdefghijklmnopqrstuvwxyz"
    keys = [first + second for first in letters[:2] for second in letters][:50]
    owner.detective.tag_resource(ResourceArn=graph, Tags=dict.fromkeys(keys, "v"))
    try:
        refused("ValidationException", owner.detective.tag_resource, ResourceArn=graph, Tags={"one-more": "v"})
        owner.detective.tag_resource(ResourceArn=graph, Tags={keys[0]: "another"})
        tags = owner.detective.list_tags_for_resource(ResourceArn=graph)["Tags"]
        assert (len(tags), tags[keys[0]]) == (50, "another")
    finally:
        owner.detective.untag_resource(ResourceArn=graph, TagKeys=keys)


def test_packages_are_listed_and_started(installation):
    account = installation.account()
    graph = account.graph()
    before = dict(pages(account.detective.list_datasource_packages, "DatasourcePackages", GraphArn=graph))
    assert before.keys() <= PACKAGES
    assert before["DETECTIVE_CORE"]["DatasourcePackageIngestState"] == "STARTED"
    account.detective.update_datasource_packages(GraphArn=graph, DatasourcePackages=["EKS_AUDIT", "ASFF_SECURITYHUB_FINDING"])
    after = dict(pages(account.detective.list_datasource_packages, "DatasourcePackages", GraphArn=graph))
    assert after.keys() == PACKAGES
    assert {detail["DatasourcePackageIngestState"] for detail in after.values()} == {"STARTED"}
    for detail in after.values():
        assert abs(datetime.datetime.now(datetime.timezone.utc) - detail["LastIngestStateChange"]["STARTED"]["Timestamp"]) < datetime.timedelta(
            minutes=5
        )
    account.detective.update_datasource_packages(GraphArn=graph, DatasourcePackages=["EKS_AUDIT"])
    assert dict(pages(account.detective.list_datasource_packages, "DatasourcePackages", GraphArn=graph)) == after, "what is started stays as it is"


@pytest.mark.parametrize("packages", [["NOTHING"], ["EKS_AUDIT", "eks_audit"]])
def test_packages_that_do_not_exist_are_refused(packages, owner, graph):
    message = refused("ValidationException", owner.detective.update_datasource_packages, GraphArn=graph, DatasourcePackages=packages)
    assert "datasourcepackages" in message.lower()
