"""Training on a cluster, behind the same call; needs the extra ``dask``."""

import numpy as np
import pytest

from cost_model.base_model import BaseModel
from cost_model.metrics import pairwise_accuracy
from tests.unit.cost_model.test_base_model import tasks

distributed = pytest.importorskip("distributed")


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_a_cluster_grew_is_like_one_of_this_process() -> None:
    from cost_model.distributed import on_cluster

    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        grown = BaseModel(seed=1, grow=on_cluster(cluster.scheduler_address))
        grown.fit(tasks())
    here = BaseModel(seed=1)
    here.fit(tasks())
    unseen = tasks(seed=9, first=100, fails=False)

    for model in (grown, here):
        scores = model.predict(unseen.features)
        accuracy = pairwise_accuracy(scores, unseen.latency_secs, unseen.groups)
        assert accuracy is not None
        assert accuracy > 0.7
    ratio = (
        grown.estimate(unseen.features).latency_secs / here.estimate(unseen.features).latency_secs
    )
    assert np.abs(np.log2(ratio)).max() < 0.5
