"""Records of which the tests of the tuning log have many."""

import random
from datetime import UTC, datetime, timedelta

from schedules.records import FailureKind, MeasureResult, TuningRecord
from tests.contracts.store_values import CPU, GPU, failed, measured, record

DAY = timedelta(days=1)
NOON = datetime(2024, 1, 30, 12, tzinfo=UTC)


def mixed(count: int) -> list[TuningRecord]:
    """Records of many days, operators, targets and workers; a fifth fail, a fifth are slow."""
    chance = random.Random(0)
    made = []
    for number in range(count):
        result = measured(10 ** chance.uniform(-6, -2))
        if number % 5 == 3:
            result = failed(chance.choice(list(FailureKind)))
        elif number % 5 == 4:
            result = MeasureResult(run_secs=(1e-3,), censored_secs=1e-3)
        made.append(
            record(
                number,
                created_at=NOON + number * timedelta(hours=5),
                operator=chance.choice(["matmul", "softmax", None]),
                target_id=chance.choice([CPU, GPU]).target_id,
                worker_id=chance.choice(["w1", "w2", None]),
                result=result,
            )
        )
    return made
