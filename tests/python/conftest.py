"""What the tests of the Amazon Detective API share: one server on SQLite and one on Postgres."""

import contextlib
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

# boto3 must not look for anything outside.
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_REGION"):
    os.environ.pop(name, None)


# The test that looks at what all the others have seen.
LAST = "test_every_operation_and_each_of_its_errors_was_seen"


def pytest_collection_modifyitems(session, config, items):
    """The last look comes last, and only when there is everything to look at."""
    last = [item for item in items if item.name == LAST]
    rest = [item for item in items if item.name != LAST]
    files = {path.name for path in pathlib.Path(__file__).parent.glob("test_detective*.py")}
    # Hooks of pytest's own that leave items out (`-k`, `--deselect`) come after this one and say so in the options.
    narrowed = config.option.keyword or config.option.markexpr or config.option.deselect or any("::" in argument for argument in config.args)
    complete = files <= {item.path.name for item in rest} and not narrowed
    items[:] = rest + (last if complete else [])
    if last and not complete:
        config.hook.pytest_deselected(items=last)


@contextlib.contextmanager
def _installation(store):
    from installation import Installation, Postgres, start

    with contextlib.ExitStack() as stack:
        settings = stack.enter_context(Postgres()).settings() if store == "postgres" else []
        installation = Installation(stack.enter_context(start(*settings)))
        stack.callback(installation.close)
        yield installation


@pytest.fixture(scope="session")
def sqlite():
    """A running installation on SQLite."""
    with _installation("sqlite") as installation:
        yield installation


@pytest.fixture(scope="session")
def postgres():
    """A running installation on Postgres."""
    with _installation("postgres") as installation:
        yield installation


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def installation(request):
    """A running installation, first on one store, then on the other."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def accounts(installation):
    """Accounts with administrators, the same ones in every test: `accounts(0)` to as many as are asked for."""
    made = []

    def account(index):
        while len(made) <= index:
            made.append(installation.account())
        return made[index]

    return account


@pytest.fixture
def owner(accounts):
    """The administrator of an account that owns a graph without members."""
    from installation import eventually

    owner = accounts(0)
    owner.arn_of_graph = owner.graph()

    def members():
        listed = owner.detective.list_members(GraphArn=owner.arn_of_graph, MaxResults=200)["MemberDetails"]
        return [member["AccountId"] for member in listed]

    def empty():
        numbers = members()
        for begin in range(0, len(numbers), 50):
            owner.detective.delete_members(GraphArn=owner.arn_of_graph, AccountIds=numbers[begin : begin + 50])
        return not numbers

    eventually(empty)
    return owner


@pytest.fixture
def graph(owner):
    """The ARN of the owner's graph."""
    return owner.arn_of_graph
