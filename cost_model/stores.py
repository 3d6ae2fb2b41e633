"""Pooling: from a matrix with one row per buffer store to one row per program.

TVM extracts a row for every buffer store, and programs have different numbers of them. Four views
are kept: amounts added up over all stores, the share of the work under each loop annotation, the
largest of all stores for what loops are and how they are annotated, and columns of the dominant
store. The dominant store, with the most operations and iterations, is where a program spends its
time and where a schedule makes the difference; averages over stores would blur its tiling with that
of initialisations and copies, whose cost the totals keep.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from cost_model.columns import (
    ANNOTATIONS,
    ARITHMETIC_COLUMNS,
    BUFFERS_PER_STORE,
    DOMINANT_COLUMNS,
    LARGEST_COLUMNS,
    SHARE_COLUMNS,
    STORE_COLUMNS,
    TOTAL_COLUMNS,
    TRAFFIC,
)

_Matrix = npt.NDArray[np.float64]

_INDEX: Final = {name: index for index, name in enumerate(STORE_COLUMNS)}
_ARITHMETIC: Final = [_INDEX[name] for name in ARITHMETIC_COLUMNS]
_TOTAL: Final = [place for place, name in enumerate(ARITHMETIC_COLUMNS) if name in TOTAL_COLUMNS]
_DOMINANT: Final = [_INDEX[name] for name in DOMINANT_COLUMNS]
_LARGEST: Final = [_INDEX[name] for name in LARGEST_COLUMNS]
_TRAFFIC: Final = np.array(
    [[_INDEX[f"buffer{slot}.{name}"] for slot in range(BUFFERS_PER_STORE)] for name in TRAFFIC]
)
_ITERATIONS: Final = _INDEX["outer.extent"]
_ANNOTATED: Final = {
    "vectorize": _INDEX["vectorize.count"],
    "unroll": _INDEX["outer.unroll_step"],
    "parallel": _INDEX["parallel.count"],
}
_EXPLICIT_UNROLL: Final = _INDEX["unroll.count"]
_WIDTH: Final = sum(map(len, (TOTAL_COLUMNS, SHARE_COLUMNS, LARGEST_COLUMNS, DOMINANT_COLUMNS)))


def pool(stores: _Matrix) -> _Matrix:
    """Pool the stores of one program.

    Parameters
    ----------
    stores : numpy.ndarray
        float64, shape (stores, 164), columns as in `cost_model.columns.STORE_COLUMNS`. May be
        empty, and may hold NaN and infinities, which TVM makes where it divides by zero; they
        count as zero.

    Returns
    -------
    numpy.ndarray
        float64, 1-D: values for ``TOTAL_COLUMNS``, ``SHARE_COLUMNS``, ``LARGEST_COLUMNS`` and
        ``DOMINANT_COLUMNS``, all finite; zeros where there are no stores.
    """
    if not len(stores):
        return np.zeros(_WIDTH)
    logs = np.nan_to_num(stores, nan=0.0, posinf=0.0, neginf=0.0)
    arithmetic = _amounts(logs[:, _ARITHMETIC])
    traffic = _amounts(logs[:, _TRAFFIC])
    iterations = _amounts(logs[:, _ITERATIONS])
    # Counting iterations too lets a copy, which computes nothing, have some work.
    work = arithmetic.sum(axis=1) + iterations
    totals = [*arithmetic[:, _TOTAL].sum(axis=0), *traffic.sum(axis=(0, 2))]
    shares = [_share(work, logs, annotation) for annotation in ANNOTATIONS]
    dominant = logs[work.argmax()]
    largest = logs.max(axis=0)
    return np.concatenate(
        [np.log2(1.0 + np.array(totals)), shares, largest[_LARGEST], dominant[_DOMINANT]]
    )


def _amounts(logs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.exp2(logs) - 1.0


def _share(work: _Matrix, logs: _Matrix, annotation: str) -> float:
    inside = logs[:, _ANNOTATED[annotation]] > 0
    if annotation == "unroll":
        inside |= logs[:, _EXPLICIT_UNROLL] > 0
    return float(work[inside].sum() / max(work.sum(), 1.0))
