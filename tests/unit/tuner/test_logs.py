import json
import logging
import sys

from tuner import logs


def line(message, *values, error=None, **extra):
    record = logging.LogRecord("x.y", logging.WARNING, "f", 1, message, values, error)
    record.__dict__.update(extra)
    return json.loads(logs.JsonFormatter().format(record))


def test_a_line_is_one_object_with_what_was_given():
    found = line("lost %d\n<b>", 3, action="count", job_id="j1")
    assert found["message"] == "lost 3\n<b>"
    assert (found["level"], found["logger"]) == ("warning", "x.y")
    assert (found["action"], found["job_id"]) == ("count", "j1")
    assert found["time"].endswith("+00:00")
    assert "args" not in found


def test_lines_carry_the_ids_of_their_context():
    with logs.identified(job_id="j1"):
        logs.identify(lease_id="l1")
        assert {"job_id": "j1", "lease_id": "l1"}.items() <= line("x").items()
        logs.identify(lease_id=None)
        assert "lease_id" not in line("x")
    assert "job_id" not in line("x")


def test_errors_are_told_whole():
    try:
        raise ValueError("bad")
    except ValueError:
        found = line("failed", error=sys.exc_info())
    assert "ValueError: bad" in found["exception"]
