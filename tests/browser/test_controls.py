"""Every control of every page, and what a shared address shows."""

import json
import re

from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import watched
from tests.browser.cost_models import IN_USE
from tests.browser.site import Site


def names(page: Page) -> list[str]:
    return page.locator("#jobs tbody tr td:first-child").all_inner_texts()


def test_jobs_are_filtered_and_sorted_by_addresses_that_can_be_shared(
    page: Page, told: Site
) -> None:
    page.goto("/jobs")
    everything = names(page)
    assert len(everything) == len(told.jobs) + 1
    page.get_by_label("Workload or job").fill("conv2d")
    page.get_by_role("button", name="Filter").click()
    expect(page).to_have_url(re.compile(r"/jobs\?q=conv2d$"))
    assert len(names(page)) == 1
    page.get_by_role("link", name="Reset").click()
    page.get_by_label("State").select_option("failed")
    expect(page).to_have_url(re.compile(r"/jobs\?state=failed$"))
    assert len(names(page)) == 1
    page.goto("/jobs")
    page.get_by_label("Target").select_option(told.target_id("xeon"))
    expect(page).to_have_url(re.compile("target_id="))
    assert len(names(page)) == 2
    page.goto("/jobs")
    page.get_by_label("Submitter").fill("anna")
    page.get_by_label("Submitter").press("Enter")
    expect(page).to_have_url(re.compile(r"/jobs\?submitter=anna$"))
    assert 0 < len(names(page)) < len(everything)
    page.goto("/jobs")
    page.locator("th a", has_text="workload").click()
    expect(page.locator("th[aria-sort=descending]")).to_contain_text("workload")
    assert names(page) == sorted(everything, reverse=True)
    page.locator("th a", has_text="workload").click()
    expect(page.locator("th[aria-sort=ascending]")).to_contain_text("workload")
    assert names(page) == sorted(everything)
    for label in ("trials", "best", "speed-up", "state", "created"):
        page.locator("th a", has_text=label).click()
        expect(page.locator("th[aria-sort]")).to_contain_text(label)
        assert len(names(page)) == len(everything)


def test_a_shared_budget_is_reached_from_its_jobs_and_says_where_it_went(
    page: Page, told: Site
) -> None:
    page.goto(f"/jobs/{told.jobs['shared-norm']}")
    page.get_by_role("link", name="shared budget").click()
    expect(page).to_have_url(re.compile(f"/budgets/{told.budget_id('shared-norm')}$"))
    expect(page.locator("#tiles")).to_contain_text("48 / 48")
    rows = page.locator("#jobs tbody tr")
    expect(rows).to_have_count(2)
    for name, trials in (("layer_norm", "16 / 48"), ("gelu", "32 / 48")):
        expect(rows.filter(has_text=name)).to_contain_text(trials)
    rows.filter(has_text="gelu").locator("a.id").click()
    expect(page).to_have_url(re.compile(f"/jobs/{told.jobs['shared-gelu']}$"))


def test_a_trial_is_shown_on_click_and_by_its_address(page: Page, told: Site) -> None:
    page.goto(f"/jobs/{told.jobs['second']}")
    marks = page.locator("#chart-by-trials [data-trial]")
    # 96 trials, the default and three finalists.
    assert marks.count() == page.locator("#chart-by-time [data-trial]").count() == 100
    failed = page.locator("#chart-by-trials .mark.failed[data-trial]").first
    record_id = failed.get_attribute("data-trial")
    failed.hover(force=True)
    expect(page.locator("#tip")).to_be_visible()
    failed.click(force=True)
    detail = page.locator("#trial")
    expect(detail).to_contain_text(str(record_id))
    expect(detail).to_contain_text("killed by SIGKILL")
    detail.get_by_text("Trace", exact=True).click()
    expect(detail.locator("pre", has_text="SamplePerfectTile")).to_be_visible()
    detail.get_by_text("Environment", exact=True).click()
    expect(detail).to_contain_text("AMD EPYC")
    page.reload()
    expect(detail).to_contain_text(str(record_id))
    expect(page.locator("#chart-by-trials .mark.selected")).to_have_attribute(
        "data-trial", str(record_id)
    )
    page.locator("#trials a[data-trial]").first.click()
    expect(detail).not_to_contain_text(str(record_id))
    page.locator("#chart-predictions [data-trial]").first.click(force=True)
    expect(detail).to_contain_text("task-3f2a")


def test_the_controls_of_a_job(page: Page, told: Site) -> None:
    page.goto(f"/jobs/{told.jobs['second']}")
    expect(page.locator("#tiles")).to_contain_text("of 96")
    expect(page.locator("#predicted")).to_contain_text("in the right order")
    expect(page.locator("#spent")).to_contain_text("finalists re-measured")
    expect(page.locator("#chart-by-trials .keys")).to_contain_text("job before")
    page.get_by_role("link", name="linear").click()
    expect(page).to_have_url(re.compile("scale=linear"))
    expect(page.locator("#chart-by-trials .y text").first).to_have_text("0 ns")
    page.get_by_role("link", name="log", exact=True).click()
    for show, rows in (("final", 4), ("failed", None), ("improved", None), ("all", 100)):
        page.get_by_role("link", name=show, exact=True).click()
        listed = page.locator("#trials tbody tr")
        if rows is not None:
            expect(listed).to_have_count(rows)
        expect(page.locator("#trials .switch [aria-current]")).to_have_text(show)
    page.get_by_role("link", name="compare with the job before").click()
    expect(page.locator("#chart-overlay .line")).to_have_count(2 + 2)
    expect(page.locator(".sides")).to_contain_text("reached at trial")


def test_a_best_is_told_with_all_that_it_takes_to_use_it(browser: Browser, told: Site) -> None:
    workload_id, target_id = told.workload_id("second"), told.target_id("second")
    server = told.server
    allowed = {"permissions": ["clipboard-read", "clipboard-write"]}
    with watched(browser, server.url, **allowed) as page:
        page.goto(f"/workloads/{workload_id}")
        page.get_by_role("link", name="tuned").first.click()
        expect(page).to_have_url(re.compile(f"/best/{workload_id}/"))
        expect(page.locator("main")).to_contain_text("against numpy")
        page.get_by_role("button", name="Copy").click()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert f'tuner.Client("{server.url}")' in copied
        assert "'num-cores': 16" in copied
        with page.expect_download() as download:
            page.get_by_role("link", name="best as JSON").click()
        text = download.value.path().read_text()
        answer = server.http.get(f"/v1/best?workload_id={workload_id}&target_id={target_id}")
        assert json.loads(text) == answer.json()
        page.get_by_text("Trace", exact=True).click()
        expect(page.get_by_role("region", name="Trace")).to_contain_text("SamplePerfectTile")
        page.locator("table.facts a", has_text=re.compile("^[0-9a-f]{32}$")).click()
        expect(page.locator("#trial")).to_contain_text("passed")


def test_a_best_is_shown_as_the_program_that_the_compiler_makes_of_it(
    page: Page, told: Site
) -> None:
    page.goto(f"/best/{told.workload_id('gelu')}/{told.target_id('gelu')}")
    page.get_by_text("TVMScript and generated code").click()
    expect(page.get_by_role("region", name="TVMScript")).to_contain_text("T.parallel(1024)")
    expect(page.get_by_role("region", name="Generated assembly")).to_contain_text("main")
    with page.expect_download() as download:
        page.get_by_role("link", name="generated code").click()
    assert "main" in download.value.path().read_text()


def test_a_program_that_cannot_be_written_says_why(browser: Browser, told: Site) -> None:
    context = browser.new_context(base_url=told.server.url)
    page = context.new_page()
    page.goto(f"/best/{told.workload_id('second')}/{told.target_id('second')}")
    page.get_by_text("TVMScript and generated code").click()
    # The story's traces are made up.
    expect(page.locator(".fragment")).to_contain_text("does not apply to this workload")
    context.close()


def test_workloads_targets_and_workers_lead_to_each_other(page: Page, told: Site) -> None:
    page.goto("/")
    page.get_by_role("link", name="Workloads").click()
    page.get_by_label("Name or id").fill("batch")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("link", name=re.compile("^batch_matmul")).click()
    expect(page.locator("#chart-history").first).to_contain_text("History of bests")
    page.get_by_role("link", name="znver4, 16 cores").first.click()
    expect(page).to_have_url(re.compile(told.target_id("second")))
    page.get_by_role("link", name="speed-up").click()
    expect(page.locator("th[aria-sort=descending]")).to_contain_text("speed-up")
    page.get_by_role("link", name="epyc-01").click()
    expect(page.locator("#chart-drift .mark")).to_have_count(14)
    expect(page.locator("#activity")).to_contain_text("Trials a minute")
    page.get_by_role("link", name="compare its environment").click()
    page.locator("select[name=b]").select_option(told.workers["epyc-02"].worker_id)
    expect(page.locator("tr.differs")).to_have_count(2)
    page.goto(f"/workers/{told.workers['xeon-01'].worker_id}")
    expect(page.locator("#head .problem")).to_contain_text("reference kernel")
    page.get_by_role("link", name="Models").click()
    expect(page.locator("main")).to_contain_text(IN_USE)
    expect(page.locator("main")).to_contain_text("task-3f2a")


def test_two_targets_and_two_jobs_are_compared(page: Page, told: Site) -> None:
    page.goto("/compare?kind=targets")
    page.locator("select[name=a]").select_option(told.target_id("second"))
    page.locator("select[name=b]").select_option(told.target_id("xeon"))
    expect(page.locator("main")).to_contain_text("A by 2.")
    page.get_by_role("link", name="jobs", exact=True).click()
    page.locator("select[name=a]").select_option(told.jobs["first"])
    page.locator("select[name=b]").select_option(told.jobs["second"])
    expect(page.locator("main")).to_contain_text("B by 1.")
