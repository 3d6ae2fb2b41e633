"""The pages that there are."""

from tests.browser.site import Site


def addresses(site: Site) -> dict[str, str]:
    """Return an address of each kind of page by its name."""
    workload_id, target_id = site.workload_id("second"), site.target_id("second")
    epyc, other = (site.workers[name].worker_id for name in ("epyc-01", "epyc-02"))
    return {
        "overview": "/",
        "jobs": "/jobs",
        "job": f"/jobs/{site.jobs['second']}",
        "running-job": f"/jobs/{site.jobs['running']}",
        "failed-job": f"/jobs/{site.jobs['hostile']}",
        "budget": f"/budgets/{site.budget_id('shared-gelu')}",
        "workloads": "/workloads",
        "workload": f"/workloads/{workload_id}",
        "targets": "/targets",
        "target": f"/targets/{target_id}",
        "best": f"/best/{workload_id}/{target_id}",
        "workers": "/workers",
        "worker": f"/workers/{site.workers['xeon-01'].worker_id}",
        "models": "/models",
        "compare": "/compare",
        "compare-jobs": f"/compare?kind=jobs&a={site.jobs['first']}&b={site.jobs['second']}",
        "compare-targets": f"/compare?kind=targets&a={target_id}&b={site.target_id('xeon')}",
        "compare-environments": f"/compare?kind=environments&a={epyc}&b={other}",
    }
