"""Who needs a calm machine in a race, and how long it is waited for."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle, repeat
from typing import Any

from tuner.measure.race import Race
from tuner.measure.watch import Look

RUN_SECS = 0.002


class Restless:
    """A machine that is calm before everything is timed, and no more afterwards."""

    def __init__(self) -> None:
        self._looks = cycle([0.0, 1.0])

    def look(self) -> Look:
        return Look(stolen=next(self._looks), burst_secs={})

    def is_calm(self, look: Look) -> bool:
        return look.stolen == 0.0


@dataclass
class Runner:
    """An entry whose repeats take as long as they are told to, without running anything."""

    place: int
    secs: Iterator[float]
    run_secs: tuple[float, ...] = ()
    failure: None = None
    conditions: dict[str, Any] = field(default_factory=dict)

    @property
    def child(self) -> "Runner":
        return self

    def resume(self) -> None:
        """Go on."""

    def pause(self) -> None:
        """Stand still."""

    def run(self, deadline_secs: float, **order: Any) -> None:
        time.sleep(RUN_SECS)
        self.run_secs += (next(self.secs),)

    def note(self, conditions: dict[str, Any]) -> None:
        self.conditions |= conditions


def race_of(*secs: float, patience_secs: float, wanted: int = 3) -> tuple[Race, list[Runner]]:
    race = Race(
        Restless(),  # type: ignore[arg-type]  # in place of a machine
        patience_secs=patience_secs,
        wanted=lambda run_secs, _: [place for place in run_secs if len(run_secs[place]) < wanted],
    )
    runners = [Runner(place=place, secs=repeat(each)) for place, each in enumerate(secs)]
    for runner in runners:
        race.add(runner, 0.001, 0.001, 1.0)  # type: ignore[arg-type]  # in place of a child
    return race, runners


def test_who_has_lost_for_certain_is_not_timed_again_where_the_machine_is_disturbed() -> None:
    race, (fast, near, far) = race_of(1.0, 3.0, 5.0, patience_secs=0.05)

    while race.round():
        pass
    race.leave()

    assert len(far.run_secs) == 3
    assert far.conditions["noise"] == "disturbed"
    assert len(fast.run_secs) > 3
    assert len(near.run_secs) > 3


def test_a_pause_is_taken_off_the_patience() -> None:
    race, (runner,) = race_of(1.0, patience_secs=0.01)

    race.pause(0.02)
    while race.round():
        pass
    race.leave()

    assert len(runner.run_secs) == 3


def test_who_leaves_together_is_judged_together() -> None:
    race, (fast, far) = race_of(1.0, 9.0, patience_secs=0.05)

    while race.round():
        pass

    assert [entry.place for entry in race.leave()] == [0, 1]
    assert len(fast.run_secs) > 3
    assert far.run_secs == (9.0,) * 3
    assert len(race) == 0
