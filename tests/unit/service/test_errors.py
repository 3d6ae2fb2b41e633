import inspect
import json

import pytest

from schedules import errors
from service.errors import Refusal, answer, error_answer

TREE = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.TunesmithError)
]


@pytest.mark.parametrize("kind", TREE)
def test_every_error_of_the_tree_has_an_answer(kind: type[errors.TunesmithError]) -> None:
    told = error_answer(kind("what to mend"))
    body = json.loads(bytes(told.body))
    ours = kind in (errors.TunesmithError, errors.ContractError)
    assert (told.status_code == 500) == ours
    assert ("what to mend" in body["detail"]) != ours
    if issubclass(kind, errors.InputError):
        assert told.status_code == 422


def test_statuses_are_those_of_the_tree() -> None:
    assert error_answer(errors.NotFoundError("")).status_code == 404
    assert error_answer(errors.ConflictError("")).status_code == 409
    unavailable = error_answer(errors.UnavailableError(""))
    assert unavailable.status_code == 503
    assert int(unavailable.headers["retry-after"]) >= 1
    assert error_answer(KeyError("secret")).status_code == 500
    assert error_answer(Refusal(429, "busy", "later", {"Retry-After": "3"})).status_code == 429


def test_names_are_stable() -> None:
    names = {
        kind.__name__: json.loads(bytes(error_answer(kind("")).body))["error"] for kind in TREE
    }
    assert names == {
        "TunesmithError": "internal_error",
        "InputError": "invalid_input",
        "UnknownOperatorError": "unknown_operator",
        "InvalidArgumentError": "invalid_argument",
        "InvalidWorkloadError": "invalid_workload",
        "InvalidTargetError": "invalid_target",
        "InvalidTraceError": "invalid_trace",
        "NotFoundError": "not_found",
        "ConflictError": "conflict",
        "ContractError": "internal_error",
        "UnavailableError": "unavailable",
    }


def test_a_detail_may_quote_anything_but_not_at_any_length() -> None:
    told = answer(422, "invalid_input", "\ud800\0" + "x" * 10**6)
    assert len(told.body) < 10_000
    assert json.loads(bytes(told.body))["detail"].startswith("\ud800\0x")
