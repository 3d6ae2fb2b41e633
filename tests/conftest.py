"""What tests of several kinds share."""

from collections.abc import Iterator

import pytest

from tests.postgres import postgres


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--screenshots", metavar="FOLDER", help="Write pictures of the dashboard's pages, only."
    )


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a server; its own database is left alone."""
    with postgres() as url:
        yield url
