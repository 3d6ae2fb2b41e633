"""The dashboard of a server that wants tokens."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from service.auth import Auth, read_tokens
from tests.integration.api_server import Server, live_server

READER = "a-reader-token-of-some-length"
WORKER = "a-worker-token-of-some-length"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory: Path = tmp_path_factory.mktemp("guarded")
    tokens = directory / "tokens"
    tokens.write_text(f"{READER} read\n{WORKER} measure\n")
    with live_server(directory, auth=Auth(read_tokens(tokens))) as running:
        yield running


def test_a_token_opens_the_page_that_was_asked_for(browser: Browser, guarded: Server) -> None:
    job = guarded.http.get("/jobs?state=done", follow_redirects=False)
    assert job.status_code == 303
    assert job.headers["location"] == "/sign-in?next=%2Fjobs%3Fstate%3Ddone"
    context = browser.new_context(base_url=guarded.url)
    page = context.new_page()
    page.goto("/jobs?state=done")
    field, problem = page.get_by_label("Token"), page.get_by_role("alert")
    field.fill("no-token-of-this-server")
    page.get_by_role("button", name="Sign in").click()
    expect(problem).to_have_text("The token is not known.")
    field.fill(WORKER)
    page.get_by_role("button", name="Sign in").click()
    expect(problem).to_have_text("The token may not read.")
    field.fill(READER)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{guarded.url}/jobs?state=done")
    (cookie,) = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert page.evaluate("document.cookie") == ""
    # Whoever has a cookie and is asked nevertheless, as after a link from elsewhere, goes on.
    page.goto("/sign-in?next=/workers")
    expect(page).to_have_url(f"{guarded.url}/workers")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.goto("/jobs")
    expect(page.get_by_label("Token")).to_be_visible()
    context.close()


def test_the_cookie_opens_pages_only(guarded: Server) -> None:
    cookie = {"Cookie": f"tunesmith_token={READER}"}
    http = guarded.http
    assert http.get("/jobs", headers=cookie).status_code == 200
    assert http.get("/v1/jobs", headers=cookie).status_code == 401
    assert http.get("/jobs", headers={"Authorization": f"Bearer {READER}"}).status_code == 200
    assert http.get("/session", headers={"X-Fragment": "1"}).status_code == 401
    assert http.get("/static/dashboard.css").status_code == 200


@pytest.mark.parametrize("address", ["//evil.example", "https://evil.example", "/\\evil.example"])
def test_signing_in_leads_nowhere_else(guarded: Server, address: str) -> None:
    page = guarded.http.get("/sign-in", params={"next": address})
    assert 'data-next="/"' in page.text
