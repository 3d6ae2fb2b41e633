"""Looks the best trials of Optuna studies up, in process; prints look-ups per second as JSON.

Run with an environment of its own: ``python optuna_study.py URL STUDIES TRIALS SECS THREADS``.
"""

import json
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import optuna

TRACE = "x" * 1200


def main(url: str, studies: int, trials: int, secs: float, threads: int) -> None:
    """Fill studies, and look bests up in one thread and in several."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(url, engine_kwargs={"pool_size": threads})
    made = []
    for number in range(studies):
        study = optuna.create_study(storage=storage, study_name=f"study {number}")
        study.add_trials(
            [
                optuna.trial.create_trial(value=1e-3 * (1 + trial), user_attrs={"trace": TRACE})
                for trial in range(trials)
            ]
        )
        made.append(study)

    def look_up(seed: int) -> int:
        chance = random.Random(seed)
        count, until = 0, time.monotonic() + secs
        while time.monotonic() < until:
            best = chance.choice(made).best_trial
            assert best.user_attrs["trace"] == TRACE
            count += 1
        return count

    found = {}
    for at_once in (1, threads):
        with ThreadPoolExecutor(at_once) as pool:
            found[str(at_once)] = sum(pool.map(look_up, range(at_once))) / secs
    print(json.dumps(found))


if __name__ == "__main__":
    url, studies, trials, secs, threads = sys.argv[1:]
    main(url, int(studies), int(trials), float(secs), int(threads))
