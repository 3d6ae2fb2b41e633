"""What clients send."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from tuner.client.wire.base import Wire

MAX_TRIALS = 100_000
MAX_TASKS = 256


class OperatorWorkload(Wire):
    """A workload by operator name."""

    op: Annotated[str, Field(min_length=1, max_length=100)]
    args: dict[str, Any] = Field(default_factory=dict)
    dtype: str = "float32"
    constants: list[str] = Field(
        default_factory=list, max_length=16, exclude_if=lambda names: not names
    )
    """Names of inputs that hold the same values in every call, so that they are packed once."""


class IrWorkload(Wire):
    """A workload as TVM IR."""

    ir: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None


def _workload_kind(value: Any) -> str:
    """Choose the form by its main field, so that an error names one form only."""
    if isinstance(value, Mapping):
        return "ir" if "ir" in value else "op"
    return "ir" if isinstance(value, IrWorkload) else "op"


WorkloadRequest = Annotated[
    Annotated[OperatorWorkload, Tag("op")] | Annotated[IrWorkload, Tag("ir")],
    Discriminator(_workload_kind),
]
TargetRequest = Annotated[str, Field(min_length=1, max_length=200)] | dict[str, Any]


class Budget(Wire):
    """When a job stops; trials, seconds or both are needed, and what is reached first counts."""

    trials: Annotated[int, Field(ge=1, le=MAX_TRIALS)] | None = None
    seconds: Annotated[float, Field(gt=0, le=7 * 86400)] | None = None
    least_gain: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Stop when the next batch is expected to make the best faster by a smaller share than this."""


class JobRequest(Wire):
    """Body of ``POST /v1/jobs``."""

    workload: WorkloadRequest
    target: TargetRequest = "native"
    budget: Budget = Budget(trials=64)
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    space: Annotated[str, Field(min_length=1, max_length=100)] = "default"
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None


class SharedTask(Wire):
    """A workload among several that share a budget."""

    workload: WorkloadRequest
    weight: Annotated[float, Field(gt=0, le=1e9)] = 1.0
    """How often it is called, or how much a second of it counts otherwise."""


class SharedBudgetRequest(Wire):
    """Body of ``POST /v1/budgets``."""

    tasks: Annotated[list[SharedTask], Field(min_length=1, max_length=MAX_TASKS)]
    target: TargetRequest = "native"
    budget: Budget
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    space: Annotated[str, Field(min_length=1, max_length=100)] = "default"
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None


class BestRequest(Wire):
    """Body of ``POST /v1/best``."""

    workload: WorkloadRequest
    target: TargetRequest = "native"
    deadline_secs: Annotated[float, Field(gt=0, le=3600)] | None = None


class ImportedRecord(Wire):
    """One measurement that was made elsewhere."""

    workload: WorkloadRequest
    target: dict[str, Any]
    trace: tuple[list[Any], list[Any]]
    """The instructions and the decisions, as TVM writes them."""
    run_secs: Annotated[
        list[Annotated[float, Field(gt=0, allow_inf_nan=False)]],
        Field(min_length=1, max_length=10_000),
    ]


class ImportRequest(Wire):
    """Body of ``POST /v1/records/import``; larger sets are sent in parts."""

    records: Annotated[list[ImportedRecord], Field(min_length=1, max_length=1000)]
