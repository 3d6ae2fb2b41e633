"""Notifications between processes, through a real PostgreSQL."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from service.db.notify import Channel, _payloads

pytestmark = pytest.mark.alone

DEADLINE_SECS = 20.0

OTHER_PROCESS = """
import sys
from service.db.notify import Channel
from service.events import Events
events = Events()
channel = Channel(sys.argv[1], receive=events.receive, missed=events.missed)
events.connect(channel.send)
channel.start()
events.job_changed("job-7")
events.batch_ready("target-7")
events.best_changed("workload-7", "target-7")
channel.stop()
"""


class Member:
    """One process's end of the channel."""

    def __init__(self, url: str) -> None:
        self.heard: list[str] = []
        self.connections = 0
        self._changed = threading.Condition()
        self.channel = Channel(url, receive=self._receive, missed=self._missed)

    def _receive(self, text: str) -> None:
        with self._changed:
            self.heard.append(text)
            self._changed.notify_all()

    def _missed(self) -> None:
        with self._changed:
            self.connections += 1
            self._changed.notify_all()

    def wait_for(self, *texts: str, connections: int = 1) -> None:
        def arrived() -> bool:
            return set(texts) <= set(self.heard) and self.connections >= connections

        with self._changed:
            assert self._changed.wait_for(arrived, DEADLINE_SECS), self.heard


@contextmanager
def members(url: str, count: int) -> Iterator[list[Member]]:
    joined = [Member(url) for _ in range(count)]
    for member in joined:
        member.channel.start()
    try:
        for member in joined:
            member.wait_for()
        yield joined
    finally:
        for member in joined:
            member.channel.stop()


def test_what_one_process_tells_every_other_one_hears(postgres_server: str) -> None:
    with members(postgres_server, 2) as heard:
        subprocess.run([sys.executable, "-c", OTHER_PROCESS, postgres_server], check=True)
        for member in heard:
            member.wait_for("job job-7", "batch target-7", "best workload-7 target-7")


def test_a_process_does_not_hear_itself(postgres_server: str) -> None:
    with members(postgres_server, 2) as (one, other):
        one.channel.send("from one")
        other.wait_for("from one")
        other.channel.send("from other")
        one.wait_for("from other")
        assert one.heard == ["from other"]


def test_equal_notifications_that_wait_become_one(postgres_server: str) -> None:
    with members(postgres_server, 2) as (one, other):
        for number in range(1000):
            one.channel.send("again")
            one.channel.send(f"number {number} of the target {'x' * 64}")
        one.channel.send("last")
        other.wait_for("last", *(f"number {n} of the target {'x' * 64}" for n in range(1000)))
        assert other.heard.count("again") < 500


def test_after_a_lost_connection_everyone_is_told_and_hears_again(postgres_server: str) -> None:
    with members(postgres_server, 2) as (one, other):
        with psycopg.connect(postgres_server, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND query ~ '^LISTEN|pg_notify|synchronous_commit'"
            )
        for member in (one, other):
            member.wait_for(connections=2)
        deadline = time.monotonic() + DEADLINE_SECS
        # What is sent on the connection that is gone is lost.
        while "still there" not in other.heard and time.monotonic() < deadline:
            one.channel.send("still there")
            time.sleep(0.05)
        assert "still there" in other.heard


def test_a_database_that_is_not_there_holds_nobody_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    member = Member("postgresql://nobody@127.0.0.1:9/nothing")
    member.channel.start()
    for number in range(20_000):
        member.channel.send(str(number))
    started = time.monotonic()
    member.channel.stop()
    assert time.monotonic() - started < DEADLINE_SECS
    assert "notifications are interrupted" in caplog.text


def test_payloads_stay_within_what_the_database_takes() -> None:
    texts = [f"job {number:064}" for number in range(1000)]
    payloads = _payloads(texts)
    assert [line for payload in payloads for line in payload.split("\n")] == texts
    assert max(map(len, payloads)) < 8000
    assert len(payloads) < 15
