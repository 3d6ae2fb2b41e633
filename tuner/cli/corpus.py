"""Measuring the corpus: its workloads as jobs of a server's workers."""

import click

from schedules.errors import UnavailableError
from tuner.cli.progress import TrialProgress
from tuner.client.errors import JobFailedError
from tuner.client.sdk import Client
from tuner.corpus import corpus


def measure_corpus(client: Client, *, trials: int, target: str) -> None:
    """Let a server tune every workload of the corpus.

    Raises
    ------
    UnavailableError
        Not one of the jobs could be done.
    """
    calls = corpus()
    jobs = [
        client.submit(
            (call.op, dict(call.args), call.dtype), target=target, trials=trials, priority=-1
        )
        for call in calls
    ]
    done = 0
    with TrialProgress("corpus") as progress:
        for number, job in enumerate(jobs, start=1):
            progress.update(
                phase=f"workload {number} of {len(jobs)}",
                done=number - 1,
                total=len(jobs),
                best_secs=None,
                failures=0,
            )
            try:
                job.wait()
                done += 1
            except JobFailedError as error:
                click.echo(str(error), err=True)
    if not done:
        raise UnavailableError("no workload of the corpus could be tuned; see the messages above")
