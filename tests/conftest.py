"""What tests of several kinds share."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.postgres import postgres

ACCEPTANCE = Path(__file__).parent / "acceptance"
"""Its tests run alone, as they measure; elsewhere only those do that say so."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--screenshots", metavar="FOLDER", help="Write pictures of the dashboard's pages, only."
    )


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(ACCEPTANCE):
            item.add_marker(pytest.mark.alone)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a server; its own database is left alone."""
    with postgres() as url:
        yield url
