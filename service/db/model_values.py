"""The store's values about the cost model, beside those of `cost_model.versions`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from cost_model.held_out import TrainingSet


class OrderKind(StrEnum):
    """What is asked of the learner."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    PROMOTE = "promote"
    IMPORT = "import"


class OrderState(StrEnum):
    """Where an order stands."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"


class ModelFile(StrEnum):
    """The files of a version; see `cost_model.versions.Trained`."""

    CONTENT = "content"
    JUDGE = "judge"


@dataclass(frozen=True, kw_only=True)
class ModelOrder:
    """Something asked of the learner, and what came of it.

    Attributes
    ----------
    order_id : str
        Sorts by the time at which it was given.
    kind, state : OrderKind, OrderState
        What, and where it stands.
    request : Mapping[str, object]
        What exactly, as JSON.
    content : bytes or None
        A file that came with it.
    result : Mapping[str, object] or None
        What came of it, as JSON.
    error : str or None
        Why it failed.
    """

    order_id: str
    kind: OrderKind
    state: OrderState
    request: Mapping[str, object]
    content: bytes | None = field(repr=False)
    result: Mapping[str, object] | None
    error: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class DatasetQuery:
    """Which trials to learn from; None does not restrict.

    Attributes
    ----------
    target_id, operator : str or None
        Of one target, of one operator of the catalogue.
    since, until : datetime or None
        Stored at or after the one, and before the other; timezone-aware.
    """

    target_id: str | None = None
    operator: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def as_dict(self) -> dict[str, str]:
        """Return what restricts, as texts."""
        found = {
            "target_id": self.target_id,
            "operator": self.operator,
            "since": self.since.isoformat() if self.since else None,
            "until": self.until.isoformat() if self.until else None,
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A dataset cut from the database.

    Attributes
    ----------
    query : DatasetQuery
        What was asked for; with `until`, so that it can be cut again.
    digest : str
        See `cost_model.versions.digest_of`.
    training_set : TrainingSet
        Its rows.
    """

    query: DatasetQuery
    digest: str
    training_set: TrainingSet


@dataclass(frozen=True, kw_only=True)
class Featureless:
    """Measured candidates of one task whose features are not stored yet, by trace id."""

    workload_id: str
    target_id: str
    traces: Mapping[str, str]
