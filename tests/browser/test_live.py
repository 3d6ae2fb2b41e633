"""Pages that change while they are looked at, and pages that do not."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import watched
from tests.browser.site import Site, site
from tests.integration.api_server import live_server
from tuner.sandbox import Sandbox


@pytest.fixture
def running(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Site]:
    """A site of its own, since its running job ends."""
    with site(tmp_path_factory.mktemp("running"), sandbox, past=False) as made:
        yield made


def test_a_running_job_is_followed_to_its_end(browser: Browser, running: Site) -> None:
    job_id = running.jobs["running"]
    with (
        watched(browser, running.server.url) as page,
        watched(browser, running.server.url) as overview,
    ):
        overview.goto("/")
        expect(overview.locator("#active")).to_contain_text("32 / 48")
        page.goto(f"/jobs/{job_id}")
        expect(page.locator("#live")).to_have_text("live")
        marks = page.locator("#chart-by-trials [data-trial]")
        expect(marks).to_have_count(32)
        page.locator("#trials a[data-trial]").first.click()
        expect(page.locator("#trial h2")).to_contain_text("Record")
        shown = page.locator("#trial").inner_text()
        running.finish_lease()
        expect(marks).to_have_count(36)
        expect(page.locator("#tiles")).to_contain_text("36")
        expect(overview.locator("#active")).to_contain_text("36 / 48")
        # What was selected stays.
        assert page.locator("#trial").inner_text() == shown
        expect(page.locator("#chart-by-trials .mark.selected")).to_have_count(1)
        running.end_running_job()
        expect(page.locator("#live")).to_have_text("ended")
        expect(page.locator("#head .chip")).to_have_text("done")
        assert_silent(page)


def test_the_page_of_a_finished_job_asks_for_nothing_more(page: Page, told: Site) -> None:
    page.goto(f"/jobs/{told.jobs['second']}")
    expect(page.locator("h1")).to_contain_text("done")
    assert page.locator("#main[data-events]").count() == 0
    assert_silent(page)


def test_a_lost_server_is_said(browser: Browser, tmp_path: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    with live_server(tmp_path) as server:
        page.goto(f"{server.url}/jobs/{server.submit()['id']}")
        expect(page.locator("#charts")).to_contain_text("No trial yet")
        expect(page.locator("#live")).to_have_text("live")
    expect(page.locator("#live")).to_have_text(re.compile("reconnecting"), timeout=10_000)
    context.close()


def assert_silent(page: Page, secs: float = 1.5) -> None:
    requests: list[str] = []
    # Refreshes that are under way may end.
    time.sleep(1)
    page.on("request", lambda request: requests.append(request.url))
    page.wait_for_timeout(1000 * secs)
    assert requests == []
