import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bodies import MAX_DEPTH, check_json
from service.errors import Refusal

CLEAN_TEXT = st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | CLEAN_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(CLEAN_TEXT, inner),
    max_leaves=20,
)


@given(value=JSON, ascii_only=st.booleans())
def test_what_databases_can_hold_is_accepted(value: Any, ascii_only: bool) -> None:
    check_json(json.dumps(value, ensure_ascii=ascii_only).encode())


@given(value=JSON, bad=st.sampled_from(["\0", "a\0", "\ud800", "\udfff\ud800", 2**63, 1e999]))
def test_one_bad_value_anywhere_is_refused(value: Any, bad: Any) -> None:
    with pytest.raises(Refusal):
        check_json(json.dumps([value, {"k": [bad]}]).encode())


def test_keys_are_checked_too() -> None:
    with pytest.raises(Refusal, match="NUL"):
        check_json(b'{"\\u0000": 1}')


def test_an_emoji_is_no_surrogate() -> None:
    check_json(rb'["\ud83d\ude00"]')


def test_an_escaped_backslash_is_no_escape() -> None:
    check_json(rb'["\\u0000", "\\ud800"]')


def test_the_output_of_a_failed_candidate_may_be_anything() -> None:
    check_json(b'{"failure": {"detail": "a\\u0000"}}')
    with pytest.raises(Refusal):
        check_json(b'{"detail": ["a\\u0000"]}')


@pytest.mark.parametrize(("depth", "accepted"), [(MAX_DEPTH, True), (MAX_DEPTH + 2, False)])
def test_depth_has_a_limit(depth: int, accepted: bool) -> None:
    body = b"[" * depth + b"]" * depth
    if accepted:
        check_json(body)
    else:
        with pytest.raises(Refusal, match="nested"):
            check_json(body)


def test_a_large_body_is_checked_quickly() -> None:
    trace = [[["SamplePerfectTile", ["b0"], [4, 64], ["l1", "l2", "l3", "l4"]]] * 50, [[0, [1]]]]
    check_json(json.dumps({"records": [{"trace": trace, "run_secs": [1e-3]}] * 500}).encode())
