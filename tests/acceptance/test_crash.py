"""Nothing is lost when the server dies."""

import time

import tuner
from tests.acceptance.conftest import ServerProcess

TRIALS = 20


def test_a_killed_server_keeps_every_record_and_finishes_the_job(tmp_path):
    with ServerProcess(tmp_path) as server, tuner.Client(server.url) as client:
        job = client.submit({"op": "dense", "args": {"n": 64, "m": 64, "k": 64}}, trials=TRIALS)
        while job.refresh().view.trials_done < 3:
            time.sleep(0.05)
        before = {record.record_id for record in client.records(job_id=job.id)}
        server.kill()
        server.start()
        assert before <= {record.record_id for record in client.records(job_id=job.id)}
        assert job.wait(timeout_secs=180).verified
        trials = [item for item in client.records(job_id=job.id) if item.purpose == "trial"]
        assert len(trials) == TRIALS
        assert len({item.record_id for item in trials}) == TRIALS
