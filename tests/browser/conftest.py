"""A headless Chromium of the system's, and the site that it looks at."""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, sync_playwright

from tests.browser.site import Site, site
from tuner.sandbox import Sandbox

REQUIRED = "TUNESMITH_REQUIRE_BROWSER"
DESKTOP = ViewportSize(width=1280, height=800)
PHONE = ViewportSize(width=375, height=740)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    # Ends with this package: while it lives, its event loop runs in the thread of all tests.
    with sync_playwright() as playwright:
        # Its sandbox needs privileges that containers have not; it only meets our own pages.
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs a browser where there is none, unless it has to be there."""
    pictures = config.getoption("--screenshots") is not None
    left_out = [item for item in items if (item.path.name == "test_screenshots.py") != pictures]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    names = ("chromium", "chromium-browser", "google-chrome")
    if any(map(shutil.which, names)) or os.environ.get(REQUIRED):
        return
    skip = pytest.mark.skip(reason=f"no browser: install one of {', '.join(names)}")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(skip)


@pytest.fixture(scope="package")
def sandbox() -> Iterator[Sandbox]:
    with closing(Sandbox()) as opened:
        yield opened


@pytest.fixture(scope="package")
def told(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("site"), sandbox) as made:
        yield made


class Watched:
    """A browser's tab that must be quiet: no error on the console, no request to another host."""

    def __init__(self, context: BrowserContext, host: str) -> None:
        self.page: Page = context.new_page()
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self._hear(message.type, message.text))
        self.page.on("pageerror", lambda error: self.problems.append(f"raised: {error}"))
        self.page.on("request", lambda request: self._see(request.url, host))

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.problems.append(f"console {kind}: {text}")

    def _see(self, url: str, host: str) -> None:
        self.requests.append(url)
        if urlsplit(url).netloc != host:
            self.problems.append(f"asked for {url}")


@contextmanager
def watched(browser: Browser, url: str, **options) -> Iterator[Page]:
    """Open a tab and check at its end that nothing went wrong in it."""
    context = browser.new_context(base_url=url, **{"viewport": DESKTOP, **options})
    try:
        tab = Watched(context, urlsplit(url).netloc)
        tab.page.set_default_timeout(10_000)
        yield tab.page
        assert tab.problems == []
    finally:
        context.close()


@pytest.fixture
def page(browser: Browser, told: Site) -> Iterator[Page]:
    with watched(browser, told.server.url) as opened:
        yield opened
