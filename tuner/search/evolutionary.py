"""Evolutionary search over the points of a schedule space, ranked by a cost model."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from cost_model.arrays import FloatMatrix, ScoreVector
from cost_model.dataset import Dataset, group_of
from cost_model.features import FEATURE_NAMES, extract
from cost_model.protocol import CostModel
from schedules import trace as traces
from schedules.errors import InvalidTraceError
from schedules.ir import module_of
from schedules.records import DEFAULT_TRACE, Candidate, MeasureResult, trace_id
from schedules.target import Target
from schedules.workload import Workload
from tuner.search.batch import choose, keep
from tuner.search.explored import Explored
from tuner.search.gain import Misjudgement, expected_gain
from tuner.search.points import Applied, Space, code_of
from tuner.search.protocol import Trial
from tuner.search.risk import Risk
from tuner.search.sites import Point

BRED_PER_CANDIDATE = 6
GENERATIONS = 2
POPULATION = 256
PARENTS = 12
"""So many of the measured and so many of the population may have offspring."""
FRESH_SHARE = 0.1
LOCAL_SHARE = 0.2
CROSSED_SHARE = 0.2
AGAIN_SHARE = 0.35
"""How often another step follows a step."""
ATTEMPTS = 4
"""So many points are bred for each one that is wanted."""
PATIENCE = 512
"""So many points are tried for the rest of a batch; most of those for GPUs are refused."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """A point that was applied and has features, but no runtime.

    Attributes
    ----------
    point : Point or None
        None for one of another space, which has no neighbours here.
    trace : tvm.s_tir.schedule.Trace
        With its post-processing instructions.
    code : int
        See `tuner.search.points.Applied`.
    features : numpy.ndarray
        float32, 1-D.
    score : float
        By the present model; larger is faster.
    """

    point: Point | None
    trace: Any
    code: int
    features: FloatMatrix
    score: float = 0.0


class EvolutionarySearch:
    """Proposes points near the best; implements `SearchStrategy`.

    A population of points is kept between batches. Each `ask` breeds a few more from what is best,
    by measurement and by the model, and chooses a batch from all (`tuner.search.batch`). Until the
    model has been fitted, and where nothing new can be bred, batches are samples of all designs.

    What the population holds depends on the calls so far; a search that is told all trials at once
    goes on as well, from another population.

    Parameters
    ----------
    workload : Workload
        What to tune.
    target : Target
        What for.
    space : str
        Name of a schedule space.
    seed : int
        Equal seeds and equal results make equal proposals.
    neighbours : sequence of str
        Canonical traces of near workloads' bests, nearest first. What they become here is proposed
        before anything else.
    model : CostModel
        Ranks candidates; fitted by `tell`, owned by this search.
    threads : int
        How many threads apply points and extract features; proposals do not depend on it.
    """

    def __init__(
        self,
        *,
        workload: Workload,
        target: Target,
        space: str,
        seed: int,
        model: CostModel,
        neighbours: Sequence[str] = (),
        threads: int = 1,
    ) -> None:
        self._workload = workload
        self._target = target
        self._module = module_of(workload)
        self._model = model
        self._threads = threads
        self._random = np.random.default_rng(seed)
        self._space = Space(workload=workload, target=target, space=space, seed=seed)
        self._neighbours = tuple(neighbours)
        self._known = {trace_id(DEFAULT_TRACE)}
        self._explored = Explored(self._space, self._random)
        self._population: list[Member] = []
        self._proposed: dict[str, Member] = {}
        self._misjudgement = Misjudgement()
        self._risk = Risk()
        self._measured: list[tuple[float, Point]] = []
        self._dataset = Dataset.empty(len(FEATURE_NAMES))
        self._group = group_of(workload.workload_id, target.target_id)

    # --- ask -------------------------------------------------------------------------------------

    def ask(self, count: int) -> list[Candidate]:
        """Propose candidates; see `SearchStrategy`."""
        adapted = self._adapted()
        first = adapted[:count]
        self._population += adapted[count:]
        count -= len(first)
        if self._model.version is not None:
            for _ in range(GENERATIONS):
                self._breed(count * BRED_PER_CANDIDATE // GENERATIONS)
        if len(self._population) < count:
            self._sample(count)
        incumbent = self._measured[0][1] if self._measured else None
        chosen = choose(
            self._population,
            count,
            incumbent=incumbent,
            chances=self._chances(),
            random=self._random,
        )
        taken = {member.code for member in chosen}
        self._population = [member for member in self._population if member.code not in taken]
        candidates = map(self._candidate, [*first, *chosen])
        return [candidate for candidate in candidates if candidate is not None]

    def _adapted(self) -> list[Member]:
        """Return what the neighbours' traces become here, once."""
        traces_there, self._neighbours = self._neighbours, ()
        applied = [self._space.adapt(trace, self._seed()) for trace in traces_there]
        return self._members_of(self._new(applied))

    def _sample(self, count: int) -> None:
        """Fill the population with samples, or whatever else has not been seen."""
        self._add(self._explored.unseen(), count - len(self._population), attempts=PATIENCE)

    def _breed(self, count: int) -> None:
        """Add offspring, and keep the most promising of what is likely to work."""
        self._add(self._offspring(), count, attempts=ATTEMPTS * count)
        self._population = keep(self._population, POPULATION, chances=self._chances())

    def _chances(self) -> npt.NDArray[np.float32]:
        """Return how likely each of the population is to work."""
        return self._risk.chances([member.point for member in self._population])

    def _offspring(self) -> Iterator[Point]:
        """Yield points to try, without end."""
        random = self._random
        best = [point for _, point in self._measured[:PARENTS]]
        promising = [member.point for member in self._population if member.point is not None]
        promising = promising[:PARENTS]
        local = self._unknown_neighbours()
        while True:
            draw = random.random()
            if draw < FRESH_SHARE or not (best or promising):
                yield self._space.open_point(int(random.integers(len(self._space))))
                continue
            if draw < FRESH_SHARE + LOCAL_SHARE and local:
                yield local.pop()
                continue
            parents = best if best and (not promising or random.random() < 0.5) else promising
            point = self._ranked(parents)
            if random.random() < CROSSED_SHARE:
                point = self._crossed(point, self._ranked(parents))
            yield self._stepped(point)

    def _ranked(self, points: Sequence[Point]) -> Point:
        """Draw one, earlier ones more often."""
        places = np.arange(len(points))
        weights = 1.0 / (2.0 + places)
        return points[int(self._random.choice(places, p=weights / weights.sum()))]

    def _crossed(self, first: Point, second: Point) -> Point:
        if first.design != second.design:
            return first
        decisions = (
            one if self._random.random() < 0.5 else other
            for one, other in zip(first.decisions, second.decisions, strict=True)
        )
        return replace(first, decisions=tuple(decisions))

    def _stepped(self, point: Point) -> Point:
        while True:
            point = self._space.mutated(point, self._random) or point
            if self._random.random() > AGAIN_SHARE:
                return point

    def _unknown_neighbours(self) -> list[Point]:
        if not self._measured:
            return []
        found = [
            point
            for point in self._space.neighbours(self._measured[0][1])
            if not self._explored.is_tried(point)
        ]
        return [found[place] for place in self._random.permutation(len(found))]

    def _add(self, points: Iterator[Point], count: int, *, attempts: int) -> None:
        """Apply points until so many are new, and take them into the population."""
        new: list[Applied] = []
        tried = islice(points, attempts)
        while unknown := self._unknown(tried, count - len(new)):
            new += self._applied(unknown)
        self._population += self._members_of(new)

    def _members_of(self, new: Sequence[Applied]) -> list[Member]:
        features = self._features([applied.schedule for applied in new])
        scores = self._scores(features)
        return [
            Member(
                point=applied.point,
                trace=applied.schedule.trace,
                code=applied.code,
                features=row,
                score=float(score),
            )
            for applied, row, score in zip(new, features, scores, strict=True)
        ]

    def _unknown(self, points: Iterator[Point], count: int) -> list[Point]:
        """Take the next points that nobody has applied; fewer where there are no more."""
        unknown: list[Point] = []
        while len(unknown) < count and (point := next(points, None)) is not None:
            if self._explored.try_point(point):
                unknown.append(point)
        return unknown

    def _applied(self, points: Sequence[Point]) -> list[Applied]:
        """Apply points, and return those that give a new program."""
        seeds = [self._seed() for _ in points]
        # TVM gives the interpreter away while it applies a trace.
        with ThreadPoolExecutor(self._threads) as threads:
            return self._new(threads.map(self._space.apply, points, seeds))

    def _seed(self) -> int:
        return int(self._random.integers(1, 2**31 - 1))

    def _new(self, found: Iterable[Applied | None]) -> list[Applied]:
        """Return what was applied and is another program than all before."""
        return [
            applied for applied in found if applied is not None and self._explored.take(applied)
        ]

    def _candidate(self, member: Member) -> Candidate | None:
        trace = traces.canonical_trace(member.trace)
        identity = trace_id(trace)
        if identity in self._known:
            return None
        self._known.add(identity)
        self._proposed[identity] = member
        version = self._model.version
        return Candidate(
            trace=trace,
            trace_id=identity,
            predicted_score=None if version is None else member.score,
            model_version=version,
        )

    # --- tell ------------------------------------------------------------------------------------

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn from results; see `SearchStrategy`."""
        for trial in trials:
            self._misjudgement.note(trial.candidate, trial.result)
        members = self._members([trial.candidate for trial in trials])
        told = [
            (member, trial.result)
            for member, trial in zip(members, trials, strict=True)
            if member is not None
        ]
        for member, result in told:
            if member.point is not None and result.latency_secs is not None:
                self._measured.append((result.latency_secs, member.point))
        self._measured.sort(key=lambda item: item[0])
        self._risk.note((member.point, result) for member, result in told)
        self._learn(told)

    def expected_gain(self, candidates: Sequence[Candidate]) -> float | None:
        """Return what a proposed batch is expected to gain; see `tuner.search.gain`."""
        scores = [item.predicted_score for item in candidates if item.predicted_score is not None]
        return expected_gain(scores, self._misjudgement.errors, self._random)

    def _members(self, candidates: Sequence[Candidate]) -> list[Member | None]:
        """Return what is known of candidates, with features; None for one that does not apply."""
        texts = {candidate.trace_id: candidate.trace for candidate in candidates}
        self._known |= texts.keys()
        members: dict[str, Member] = {}
        replayed: dict[str, Any] = {}
        for identity, text in texts.items():
            own = self._proposed.pop(identity, None)
            if own is not None:
                members[identity] = own
                continue
            try:
                replayed[identity] = traces.replay(text, self._module)
            except InvalidTraceError:
                continue
        rows = self._features(list(replayed.values()))
        for (identity, schedule), row in zip(replayed.items(), rows, strict=True):
            members[identity] = Member(
                point=self._space.find(texts[identity]),
                trace=schedule.trace,
                code=code_of(schedule),
                features=row,
            )
        found = [members.get(candidate.trace_id) for candidate in candidates]
        self._forget([member for member in found if member is not None])
        return found

    def _forget(self, told: Sequence[Member]) -> None:
        """Let the told leave the population, and never come back."""
        for member in told:
            self._explored.know(member.point, member.code)
        codes = {member.code for member in told}
        self._population = [member for member in self._population if member.code not in codes]

    def _learn(self, told: Sequence[tuple[Member, MeasureResult]]) -> None:
        """Fit the model to all results, and rank the population by it."""
        rows = [member.features for member, _ in told]
        self._dataset = self._dataset.extended(
            Dataset.from_results(
                np.array(rows, dtype=np.float32).reshape(len(rows), len(FEATURE_NAMES)),
                [result for _, result in told],
                group=self._group,
                flops=self._workload.flops,
            )
        )
        if self._dataset.failed.all():
            return
        self._model.fit(self._dataset)
        features = np.array([member.features for member in self._population], dtype=np.float32)
        scores = self._scores(features.reshape(-1, len(FEATURE_NAMES)))
        self._population = [
            replace(member, score=float(score))
            for member, score in zip(self._population, scores, strict=True)
        ]

    # --- the model -------------------------------------------------------------------------------

    def _features(self, schedules: Sequence[Any]) -> FloatMatrix:
        return extract(
            schedules, workload=self._workload, target=self._target, threads=self._threads
        )

    def _scores(self, features: FloatMatrix) -> ScoreVector:
        """Score rows; all alike until the model has been fitted."""
        if self._model.version is None:
            return np.zeros(len(features), dtype=np.float32)
        return self._model.predict(features)
