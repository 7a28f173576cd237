"""What Terraform's `aws_detective_*` resources do in their lives, call by call.

Each class makes the calls of one resource of the AWS provider in the same order, reads the same types of error, and waits
for the same statuses. The SDK for Go leaves out members that are false; so do these calls.
"""

import time

import pytest
from botocore.exceptions import ClientError

from detective import code
from installation import ORGANIZATIONS, address


class Unexpected(Exception):
    """A status that the provider does not wait through."""


def call(method, **request):
    """A call as the SDK for Go makes it."""
    return method(**{name: value for name, value in request.items() if value is not False and value is not None})


def every(method, member, **request):
    """All items of a list, as the SDK's paginators walk it: they say no size."""
    items, token = [], None
    while True:
        page = call(method, **request, NextToken=token)
        items += page[member]
        token = page.get("NextToken")
        if not token:
            return items


def single(items):
    """The only item, or None; more than one is an error of the provider's."""
    assert len(items) <= 1
    return items[0] if items else None


def unless(error_type, method, **request):
    """Calls; an error of that type is passed over."""
    try:
        return call(method, **request)
    except ClientError as error:
        if code(error) != error_type:
            raise
        return None


def wait(refresh, pending, target, patience=20):
    """The provider's waiter: other statuses than these are an error."""
    end = time.monotonic() + patience
    while True:
        found, status = refresh()
        if status in target:
            return found
        if status not in pending:
            raise Unexpected(status)
        assert time.monotonic() < end, f"still {status}"
        time.sleep(0.2)


class Graph:
    """`aws_detective_graph`, with the provider's way with tags."""

    def __init__(self, api):
        self.api = api
        self.id = None

    def create(self, tags=None):
        self.id = call(self.api.create_graph, Tags=tags or None)["GraphArn"]
        return self.read(new=True)

    def read(self, new=False):
        """The attributes; None if it is gone from the state."""
        found = single([graph for graph in every(self.api.list_graphs, "GraphList") if graph["Arn"] == self.id])
        if found is None:
            assert not new
            return None
        tags = call(self.api.list_tags_for_resource, ResourceArn=self.id)["Tags"]
        return {"id": self.id, "graph_arn": found["Arn"], "created_time": found["CreatedTime"], "tags": tags}

    def update(self, old, new):
        removed = [key for key in old if key not in new]
        if removed:
            call(self.api.untag_resource, ResourceArn=self.id, TagKeys=removed)
        updated = {key: value for key, value in new.items() if old.get(key) != value}
        if updated:
            call(self.api.tag_resource, ResourceArn=self.id, Tags=updated)
        return self.read()

    def delete(self):
        unless("ResourceNotFoundException", self.api.delete_graph, GraphArn=self.id)


class Member:
    """`aws_detective_member`; its id is `GRAPH/ACCOUNT`."""

    def __init__(self, api):
        self.api = api
        self.id = None

    def create(self, graph, number, email, message=None, disable_email_notification=False):
        accounts = [{"AccountId": number, "EmailAddress": email}]
        call(self.api.create_members, GraphArn=graph, Accounts=accounts, Message=message, DisableEmailNotification=disable_email_notification)

        def refresh():
            found = self.find(graph, number)
            return found, found["Status"] if found else ""

        wait(refresh, {"VERIFICATION_IN_PROGRESS"}, {"INVITED", "ENABLED"})
        self.id = f"{graph}/{number}"
        return self.read(new=True)

    def find(self, graph, number):
        try:
            members = every(self.api.list_members, "MemberDetails", GraphArn=graph)
        except ClientError as error:
            if code(error) != "ResourceNotFoundException":
                raise
            return None
        return single([member for member in members if member["AccountId"] == number])

    def read(self, new=False):
        graph, number = self.id.split("/")
        found = self.find(graph, number)
        if found is None:
            assert not new
            return None
        return {
            "id": self.id,
            "account_id": found["AccountId"],
            "administrator_id": found["AdministratorId"],
            "disabled_reason": found.get("DisabledReason", ""),
            "email_address": found["EmailAddress"],
            "graph_arn": found["GraphArn"],
            "invited_time": found["InvitedTime"],
            "status": found["Status"],
            "updated_time": found["UpdatedTime"],
            "volume_usage_in_bytes": found.get("VolumeUsageInBytes"),
        }

    def delete(self):
        graph, number = self.id.split("/")
        unless("ResourceNotFoundException", self.api.delete_members, GraphArn=graph, AccountIds=[number])


class InvitationAccepter:
    """`aws_detective_invitation_accepter`, in the member's own account."""

    def __init__(self, api):
        self.api = api
        self.id = None

    def create(self, graph):
        call(self.api.accept_invitation, GraphArn=graph)
        self.id = graph
        return self.read(new=True)

    def read(self, new=False):
        found = single([entry for entry in every(self.api.list_invitations, "Invitations") if entry["GraphArn"] == self.id])
        assert found or not new
        return {"id": self.id, "graph_arn": found["GraphArn"]} if found else None

    def delete(self):
        unless("ResourceNotFoundException", self.api.disassociate_membership, GraphArn=self.id)


class OrganizationAdminAccount:
    """`aws_detective_organization_admin_account`, in the management account."""

    def __init__(self, api):
        self.api = api
        self.id = None

    def create(self, number):
        call(self.api.enable_organization_admin_account, AccountId=number)
        self.id = number
        wait(lambda: (self.find(), "found" if self.find() else "missing"), {"missing"}, {"found"})
        return self.read(new=True)

    def find(self):
        try:
            administrators = every(self.api.list_organization_admin_accounts, "Administrators")
        except ClientError as error:
            if code(error) == "ValidationException" and "account is not a member of an organization" in error.response["Error"]["Message"]:
                return None
            raise
        return single([entry for entry in administrators if entry["AccountId"] == self.id])

    def read(self, new=False):
        found = self.find()
        assert found or not new
        return {"id": self.id, "account_id": found["AccountId"]} if found else None

    def delete(self):
        unless("ResourceNotFoundException", self.api.disable_organization_admin_account)
        wait(lambda: (None, "found" if self.find() else "missing"), {"found"}, {"missing"})


class OrganizationConfiguration:
    """`aws_detective_organization_configuration`; it goes with its graph."""

    def __init__(self, api):
        self.api = api
        self.id = None

    def apply(self, graph, auto_enable):
        call(self.api.update_organization_configuration, GraphArn=graph, AutoEnable=auto_enable)
        self.id = graph
        return self.read()

    def read(self):
        answer = call(self.api.describe_organization_configuration, GraphArn=self.id)
        return {"id": self.id, "graph_arn": self.id, "auto_enable": answer["AutoEnable"]}


def imported(kind, api, identity):
    """What `terraform import` makes of an id."""
    resource = kind(api)
    resource.id = identity
    return resource.read()


@pytest.fixture(scope="module")
def owner(installation):
    return installation.account()


@pytest.fixture
def graph(owner):
    """A graph as Terraform makes it, gone afterwards."""
    resource = Graph(owner.detective)
    resource.create()
    yield resource
    resource.delete()
    assert resource.read() is None


def test_a_graph_with_tags(owner):
    resource = Graph(owner.detective)
    made = resource.create({"key1": "value1"})
    assert made["tags"] == {"key1": "value1"}
    assert made["id"] == made["graph_arn"]
    assert imported(Graph, owner.detective, made["id"]) == made
    assert resource.read() == made, "a second plan changes nothing"
    tags = {"key1": "value1updated", "key2": "value2"}
    assert resource.update(made["tags"], tags) == {**made, "tags": tags}
    assert resource.update(tags, {"key2": "value2"}) == {**made, "tags": {"key2": "value2"}}
    resource.delete()
    assert resource.read() is None
    resource.delete()


def test_a_graph_without_tags(graph):
    assert graph.read()["tags"] == {}


def test_a_graph_that_somebody_else_removes_disappears(owner):
    resource = Graph(owner.detective)
    made = resource.create()
    Graph(owner.detective).api.delete_graph(GraphArn=made["id"])
    assert resource.read() is None
    again = resource.create()
    assert again["id"] != made["id"]
    resource.delete()


@pytest.mark.parametrize("message", [None, "This is a message of the invitation"])
def test_a_member(message, owner, graph, accounts):
    number = accounts(7).account
    resource = Member(owner.detective)
    made = resource.create(graph.id, number, address(number), message)
    assert made["status"] == "INVITED"
    assert made["administrator_id"] == owner.account
    assert made["account_id"] == number
    assert made["invited_time"] <= made["updated_time"]
    assert imported(Member, owner.detective, made["id"]) == made
    resource.delete()
    assert resource.read() is None
    resource.delete()


def test_a_member_with_a_wrong_address_fails_at_once(owner, graph, accounts):
    with pytest.raises(Unexpected, match="VERIFICATION_FAILED"):
        Member(owner.detective).create(graph.id, accounts(7).account, "else@example.com", disable_email_notification=True)


def test_a_member_disappears_with_its_graph(owner, accounts):
    graph = Graph(owner.detective)
    graph.create()
    number = accounts(7).account
    resource = Member(owner.detective)
    resource.create(graph.id, number, address(number))
    graph.delete()
    assert resource.read() is None
    resource.delete()


def test_an_accepted_invitation(owner, graph, accounts):
    guest = accounts(7)
    member = Member(owner.detective)
    member.create(graph.id, guest.account, address(guest.account))
    resource = InvitationAccepter(guest.detective)
    made = resource.create(graph.id)
    assert imported(InvitationAccepter, guest.detective, made["id"]) == made
    assert member.read()["status"] == "ENABLED"
    # Destroyed in the order of dependence: the accepter, the member, the graph.
    resource.delete()
    assert resource.read() is None
    assert member.read() is None
    resource.delete()
    member.delete()


def test_an_organization(installation):
    manager = installation.account()
    manager.call(ORGANIZATIONS, "CreateOrganization")
    graph = Graph(manager.detective)
    made = graph.create()
    # In the provider's own tests the management account names itself.
    administrator = OrganizationAdminAccount(manager.detective)
    named = administrator.create(manager.account)
    assert imported(OrganizationAdminAccount, manager.detective, named["id"]) == named
    assert graph.read() == made, "its graph becomes the organization's"

    configuration = OrganizationConfiguration(manager.detective)
    assert configuration.apply(graph.id, True)["auto_enable"] is True
    assert imported(OrganizationConfiguration, manager.detective, graph.id)["auto_enable"] is True
    assert configuration.apply(graph.id, False)["auto_enable"] is False

    administrator.delete()
    assert administrator.read() is None
    # The graph went with the administrator.
    assert graph.read() is None
    graph.delete()


def test_an_administrator_in_several_regions(installation):
    manager, administrator = installation.account(), installation.account()
    manager.call(ORGANIZATIONS, "CreateOrganization")
    manager.call(ORGANIZATIONS, "AddOrganizationAccounts", account_ids=[administrator.account])
    resources = [OrganizationAdminAccount(manager.client("detective", region=region)) for region in ("us-east-1", "eu-west-1", "us-west-2")]
    for resource in resources:
        assert resource.create(administrator.account)["account_id"] == administrator.account
    for resource in resources:
        resource.delete()
        assert resource.read() is None


def test_an_account_outside_any_organization(owner):
    resource = OrganizationAdminAccount(owner.detective)
    resource.id = owner.account
    assert resource.read() is None
