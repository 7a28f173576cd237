"""Organizations: an administrator named by the management account, and accounts that become members by themselves."""

import pytest

from detective import REGION
from installation import ORGANIZATIONS, address, refused


@pytest.fixture(scope="module")
def organization(installation):
    """The management account of a new organization with three accounts in it."""
    manager, administrator, member = (installation.account() for _ in range(3))
    manager.call(ORGANIZATIONS, "CreateOrganization")
    added = manager.call(ORGANIZATIONS, "AddOrganizationAccounts", account_ids=[administrator.account, member.account])
    assert sorted(added["account_ids"]) == sorted([administrator.account, member.account])
    manager.administrator, manager.member = administrator, member
    return manager


@pytest.fixture
def graph(organization):
    """The organization's graph; there is no administrator afterwards."""
    # The account's own graph would become the organization's; so there is none.
    organization.administrator.without_graph()
    organization.detective.enable_organization_admin_account(AccountId=organization.administrator.account)
    [administrator] = organization.detective.list_organization_admin_accounts()["Administrators"]
    yield administrator["GraphArn"]
    organization.detective.disable_organization_admin_account()


def statuses(organization, graph):
    listed = organization.administrator.detective.list_members(GraphArn=graph, MaxResults=200)["MemberDetails"]
    return {entry["AccountId"]: (entry["Status"], entry["InvitationType"]) for entry in listed}


def test_the_management_account_names_and_removes_the_administrator(organization):
    manager, administrator = organization.detective, organization.administrator
    administrator.without_graph()
    assert manager.list_organization_admin_accounts()["Administrators"] == []
    manager.enable_organization_admin_account(AccountId=administrator.account)
    [named] = manager.list_organization_admin_accounts(MaxResults=1)["Administrators"]
    assert named["AccountId"] == administrator.account
    assert named["GraphArn"].startswith(f"arn:aws:detective:{REGION}:{administrator.account}:graph:")
    assert named["DelegationTime"].tzinfo
    assert [entry["Arn"] for entry in administrator.detective.list_graphs()["GraphList"]] == [named["GraphArn"]]

    # Said again, nothing happens: an answer may have been lost.
    manager.enable_organization_admin_account(AccountId=administrator.account)
    assert manager.list_organization_admin_accounts()["Administrators"] == [named]
    refused("ValidationException", manager.enable_organization_admin_account, AccountId=organization.member.account)

    manager.disable_organization_admin_account()
    assert manager.list_organization_admin_accounts()["Administrators"] == []
    assert administrator.detective.list_graphs()["GraphList"] == []
    refused("ResourceNotFoundException", administrator.detective.list_members, GraphArn=named["GraphArn"])


def test_only_accounts_of_the_organization_can_administer_it(organization, accounts):
    refused("ValidationException", organization.detective.enable_organization_admin_account, AccountId=accounts(1).account)
    refused("ValidationException", organization.detective.enable_organization_admin_account, AccountId="000000000000")


def of_managers(caller, organization):
    """The management account's operations, as the caller would call them."""
    return [
        (caller.detective.list_organization_admin_accounts, {}),
        (caller.detective.enable_organization_admin_account, {"AccountId": organization.administrator.account}),
        (caller.detective.disable_organization_admin_account, {}),
    ]


def test_an_account_outside_any_organization_is_told_so(organization, accounts):
    for call, more in of_managers(accounts(1), organization):
        # Terraform looks for these words.
        assert "account is not a member of an organization" in refused("ValidationException", call, **more)


def test_an_account_of_the_organization_does_not_manage_it(organization):
    for call, more in of_managers(organization.member, organization):
        refused("AccessDeniedException", call, **more)


def test_accounts_of_the_organization_are_enabled_without_being_asked(organization, graph):
    member = organization.member
    answer = organization.administrator.detective.create_members(
        GraphArn=graph, Accounts=[{"AccountId": member.account, "EmailAddress": address(member.account)}]
    )
    assert [(entry["Status"], entry["InvitationType"]) for entry in answer["Members"]] == [("ENABLED", "ORGANIZATION")]
    refused("ConflictException", member.detective.disassociate_membership, GraphArn=graph)
    answer = organization.administrator.detective.delete_members(GraphArn=graph, AccountIds=[member.account])
    assert answer["AccountIds"] == [member.account]


def test_new_accounts_become_members_where_that_is_switched_on(organization, graph, installation):
    api = organization.administrator.detective
    assert api.describe_organization_configuration(GraphArn=graph)["AutoEnable"] is False
    first, second, third = (installation.register()[0] for _ in range(3))
    organization.call(ORGANIZATIONS, "AddOrganizationAccounts", account_ids=[first])
    assert first not in statuses(organization, graph)

    api.update_organization_configuration(GraphArn=graph, AutoEnable=True)
    assert api.describe_organization_configuration(GraphArn=graph)["AutoEnable"] is True
    organization.call(ORGANIZATIONS, "AddOrganizationAccounts", account_ids=[second])
    assert statuses(organization, graph)[second] == ("ENABLED", "ORGANIZATION")
    # Left out is off: the SDK for Go, and so Terraform, leaves out what is false.
    api.update_organization_configuration(GraphArn=graph)
    assert api.describe_organization_configuration(GraphArn=graph)["AutoEnable"] is False
    api.update_organization_configuration(GraphArn=graph, AutoEnable=True)
    api.update_organization_configuration(GraphArn=graph, AutoEnable=False)
    organization.call(ORGANIZATIONS, "AddOrganizationAccounts", account_ids=[third])
    assert third not in statuses(organization, graph)

    organization.call(ORGANIZATIONS, "RemoveOrganizationAccounts", account_ids=[second])
    assert second not in statuses(organization, graph)


def test_accounts_outside_can_be_invited_to_the_organizations_graph(organization, graph, accounts):
    guest = accounts(2)
    organization.administrator.detective.create_members(
        GraphArn=graph, Accounts=[{"AccountId": guest.account, "EmailAddress": address(guest.account)}]
    )
    assert statuses(organization, graph)[guest.account] == ("INVITED", "INVITATION")
    guest.detective.accept_invitation(GraphArn=graph)
    assert statuses(organization, graph)[guest.account] == ("ENABLED", "INVITATION")
    guest.detective.disassociate_membership(GraphArn=graph)


def test_a_graph_of_no_organization_has_no_configuration(owner, organization):
    own = owner.graph()
    refused("ValidationException", owner.detective.describe_organization_configuration, GraphArn=own)
    refused("ValidationException", owner.detective.update_organization_configuration, GraphArn=own, AutoEnable=True)
