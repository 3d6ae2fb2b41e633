"""Every page, as a browser shows it: themes, phone, accessibility, hostile names."""

import re
from pathlib import Path
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.addresses import addresses
from tests.browser.conftest import PHONE, watched
from tests.browser.cost_models import IN_USE
from tests.browser.site import Site
from tests.browser.story import HOSTILE
from tests.integration.api_server import live_server

_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
AXE_RULES = {
    "light": {"runOnly": {"type": "tag", "values": _TAGS}},
    # The same document in other colours.
    "dark": {"runOnly": {"type": "rule", "values": ["color-contrast"]}},
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_have_no_barriers_and_stay_with_this_host(
    browser: Browser, told: Site, scheme: str
) -> None:
    axe, barriers = Axe(), list[str]()
    with watched(browser, told.server.url, color_scheme=scheme) as page:
        for name, address in addresses(told).items():
            answer = page.goto(address)
            assert answer is not None
            assert answer.status == 200, name
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'self';")
            assert "unsafe" not in policy
            found = axe.run(page, options=AXE_RULES[scheme])
            if found.violations_count:
                barriers.append(f"{name}: {found.generate_report()}")
    assert barriers == [], "\n".join(barriers)


def test_no_page_is_wider_than_a_phone(browser: Browser, told: Site) -> None:
    phone = {"viewport": PHONE, "has_touch": True, "is_mobile": True}
    with watched(browser, told.server.url, **phone) as page:
        for name, address in addresses(told).items():
            page.goto(address)
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= PHONE["width"], (name, width)
            # Text in charts keeps its size.
            sizes = page.evaluate(
                "[...document.querySelectorAll('.frame text')].map("
                "text => text.getBoundingClientRect().height)"
            )
            assert all(size >= 10 for size in sizes), name


def test_what_was_injected_is_shown_as_text_and_never_runs(page: Page, told: Site) -> None:
    for address in ("/jobs", "/workloads", f"/jobs/{told.jobs['hostile']}"):
        page.goto(address)
        expect(page.locator("main")).to_contain_text(HOSTILE)
        assert page.evaluate("window.hacked") is None
        assert page.locator("main script, main img").count() == 0
    page.locator("#trials a[data-trial]").first.click()
    expect(page.locator("#trial pre.problem")).to_contain_text(HOSTILE)
    page.goto(f"/jobs?q={HOSTILE}&state=failed")
    expect(page.get_by_label("Workload or job")).to_have_value(HOSTILE)


def test_the_theme_follows_the_system_until_one_is_chosen(browser: Browser, told: Site) -> None:
    def ground(page: Page) -> str:
        return str(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))

    with watched(browser, told.server.url, color_scheme="dark") as page:
        page.goto("/")
        dark = ground(page)
        button = page.get_by_role("button", name=re.compile("^Theme"))
        expect(button).to_have_text("Theme: system")
        button.click()
        expect(button).to_have_text("Theme: light")
        light = ground(page)
        assert light != dark
        page.goto("/jobs")
        assert ground(page) == light
        button.click()
        expect(button).to_have_text("Theme: dark")
        assert ground(page) == dark
        page.emulate_media(color_scheme="light")
        assert ground(page) == dark
        button.click()
        assert ground(page) == light


def test_a_keyboard_reaches_the_page_its_controls_and_its_trials(page: Page, told: Site) -> None:
    page.goto(f"/jobs/{told.jobs['second']}")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
    page.keyboard.press("Enter")
    plot = page.locator("#chart-by-trials .plot")
    plot.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#trial h2")).to_contain_text("Record")
    first = page.url
    assert "trial=" in first
    page.keyboard.press("ArrowRight")
    page.wait_for_function("first => location.href !== first", arg=first)
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("first => location.href === first", arg=first)


def test_versions_of_the_cost_model_are_shown_with_their_judgement(page: Page) -> None:
    page.goto("/models")
    versions = page.get_by_role("region", name="Versions").locator("tbody tr")
    expect(versions).to_have_count(2)
    expect(versions.first).to_contain_text(IN_USE)
    expect(versions.first).to_contain_text("yes")
    judged = page.get_by_role("region", name="On what was held out")
    expect(judged.locator("thead")).to_contain_text("pairwise accuracy")
    expect(judged.locator("tbody tr").first).to_contain_text("shape")


def test_an_empty_database_is_told_how_to_be_filled(browser: Browser, tmp_path: Path) -> None:
    with live_server(tmp_path) as empty, watched(browser, empty.url) as page:
        for address, text in (
            ("/", "tunesmith submit"),
            ("/jobs", "tunesmith submit"),
            ("/workloads", "they come with jobs"),
            ("/targets", "they come with workers and jobs"),
            ("/workers", f"tunesmith worker --server {empty.url}"),
            ("/models", "tunesmith model train"),
            ("/compare", "There are no two jobs yet"),
        ):
            page.goto(address)
            expect(page.locator("main")).to_contain_text(text)


def test_unknown_pages_and_wrong_queries_are_pages_that_help(browser: Browser, told: Site) -> None:
    context = browser.new_context(base_url=told.server.url)
    page = context.new_page()
    for address, status, text in (
        ("/nowhere", 404, "Not found"),
        ("/jobs/none", 404, "there is no job none"),
        ("/workers/none", 404, "there is no worker none"),
        ("/workloads/none", 404, "there is no workload none"),
        ("/targets/none", 404, "there is no target none"),
        ("/best/none/none", 404, "no best is known"),
        (f"/workloads/{quote(HOSTILE, safe='')}", 404, "There is no page"),
        ("/jobs?sort=size", 422, "sort by one of"),
        ("/jobs?state=lost", 422, "state"),
        ("/jobs?offset=-1", 422, "offset"),
        ("/compare?kind=colours", 422, "kind"),
        (f"/compare?kind=jobs&a={told.jobs['first']}&b=none", 404, "there is no job none"),
        ("/jobs?q=';DROP TABLE jobs;--", 200, "No job is like that"),
    ):
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == status, address
        assert answer.headers["content-type"].startswith("text/html")
        expect(page.locator("main")).to_contain_text(text)
        assert page.evaluate("window.hacked") is None
    context.close()
