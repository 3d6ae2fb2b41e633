"""TVM's own cost model, trained and asked with stores that were extracted before."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.s_tir.meta_schedule.cost_model.xgb_model import XGBConfig, XGBModel

from tests.benchmarks.model.table import Stores

Vector = npt.NDArray[np.float32]


def train(
    stores: Sequence[Stores], costs: Vector, groups: npt.NDArray[np.int64], *, seed: int
) -> Any:
    """Train it as `XGBModel.update` does: the fastest of each group over the cost is learnt."""
    model = XGBModel(config=XGBConfig(seed=seed, nthread=1), num_warmup_samples=0)
    ratios = np.zeros_like(costs)
    for group in np.unique(groups):
        members = groups == group
        ratios[members] = costs[members].min() / costs[members]
    model._train(xs=list(stores), ys=ratios)
    return model


def predict(model: Any, stores: Sequence[Stores]) -> Vector:
    """Score candidates; higher is faster."""
    scores: Vector = np.asarray(model._predict(xs=list(stores)), dtype=np.float32)
    return scores
