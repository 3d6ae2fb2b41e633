"""Pictures of the pages for the documentation: `make screenshots`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, ViewportSize

from tests.browser.addresses import addresses
from tests.browser.conftest import PHONE
from tests.browser.site import Site, site
from tuner.sandbox import Sandbox

MOST_BYTES = 150_000
SIZE = ViewportSize(width=1100, height=820)
_PICTURED = (
    "overview",
    "jobs",
    "job",
    "running-job",
    "workloads",
    "workload",
    "targets",
    "target",
    "workers",
    "worker",
    "models",
    "compare-jobs",
    "compare-targets",
    "compare-environments",
)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("tuned"), sandbox, tune=True) as made:
        yield made


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_pictured(
    request: pytest.FixtureRequest, browser: Browser, tuned: Site, scheme: Literal["light", "dark"]
) -> None:
    folder = Path(request.config.getoption("--screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    context = browser.new_context(
        base_url=tuned.server.url, viewport=SIZE, color_scheme=scheme, locale="en-GB"
    )
    page = context.new_page()
    for name, address in addresses(tuned).items():
        if name in _PICTURED:
            page.goto(address)
            if name == "job":
                page.locator("#chart-by-trials .mark.final").last.click(force=True)
                page.locator("#trial h2").wait_for()
                page.mouse.move(0, 0)
            _picture(page, folder / f"{name}-{scheme}.png")
    page.goto(f"/best/{tuned.workload_id('real')}/{tuned.target_id('real')}")
    page.get_by_text("TVMScript and generated code").click()
    page.locator("#script").wait_for()
    _picture(page, folder / f"best-{scheme}.png")
    page.set_viewport_size(PHONE)
    page.goto(addresses(tuned)["job"])
    _picture(page, folder / f"phone-{scheme}.png")
    context.close()


def _picture(page: Page, path: Path) -> None:
    height = min(page.evaluate("document.documentElement.scrollHeight"), SIZE["height"])
    width = page.evaluate("innerWidth")
    page.screenshot(
        path=path, clip={"x": 0, "y": 0, "width": width, "height": height}, full_page=True
    )
    assert path.stat().st_size < MOST_BYTES, path
