import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.db.histogram import LAST_BUCKET, RELATIVE_ERROR, bucket_of, quantile_secs, secs_of

SECS = st.floats(min_value=1e-9, max_value=2000.0)


@given(SECS)
def test_a_bucket_stands_for_what_is_in_it(secs):
    assert secs_of(bucket_of(secs)) == pytest.approx(secs, rel=RELATIVE_ERROR * 1.0001)


@given(SECS, SECS)
def test_buckets_are_in_the_order_of_latencies(first, second):
    assert (bucket_of(first) <= bucket_of(second)) or first > second


def test_what_is_out_of_range_is_in_the_buckets_at_the_ends():
    assert bucket_of(0.0) == bucket_of(1e-12) == 0
    assert bucket_of(1e9) == LAST_BUCKET


@given(st.lists(SECS, min_size=1, max_size=60), st.floats(min_value=0, max_value=1))
def test_quantiles_are_within_the_relative_error(latencies, q):
    counts: dict[int, int] = {}
    for secs in latencies:
        counts[bucket_of(secs)] = counts.get(bucket_of(secs), 0) + 1
    true = sorted(latencies)[max(1, math.ceil(q * len(latencies))) - 1]
    assert quantile_secs(counts, q) == pytest.approx(true, rel=RELATIVE_ERROR * 1.0001)


def test_nothing_has_no_quantiles():
    assert quantile_secs({}, 0.5) is None
