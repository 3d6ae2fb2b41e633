"""The cost model: what is asked of the learner, and what came of it."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Base64Bytes, Field

from tuner.client.wire.base import Wire

Version = Annotated[str, Field(min_length=1, max_length=100, pattern="^[0-9a-z]+$")]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class TrainRequest(Wire):
    """Body of ``POST /v1/models/train``: which trials to learn from, all of them by default."""

    target_id: Name | None = None
    operator: Name | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    promote: bool = False
    """Whether to bring the version into use if it is better on all gates."""


class EvaluateRequest(Wire):
    """Body of ``POST /v1/models/evaluate``: the version in use by default."""

    version: Version | None = None


class PromoteRequest(Wire):
    """Body of ``POST /v1/models/promote``."""

    version: Version
    force: bool = False
    """Whether to promote it even where it is not better."""


class ImportModelRequest(Wire):
    """Body of ``POST /v1/models/import``: a file of ``GET /v1/models/{version}/file``."""

    bundle: Base64Bytes


class TrainedOnView(Wire):
    """What a version was fitted on."""

    query: dict[str, str]
    digest: str
    rows: int
    failed: int
    censored: int
    groups: int


class ModelView(Wire):
    """A version of the cost model."""

    version: str
    promoted: bool
    """Whether it is in use."""
    metrics: dict[str, float]
    """Of its judge, on held-out shapes, operators and targets: ``<gate>.<metric>``."""
    created_at: datetime
    parent: str | None = None
    feature_version: int | None = None
    code_version: str | None = None
    trained_on: TrainedOnView | None = None


class OrderView(Wire):
    """Something asked of the learner."""

    id: str
    kind: Literal["train", "evaluate", "promote", "import"]
    state: Literal["open", "done", "failed"]
    result: dict[str, Any] | None
    error: str | None
    waiting_for: str | None = None
    """Why it may not be taken up yet, in words."""
    created_at: datetime
    finished_at: datetime | None


class RollbackAnswer(Wire):
    """Answer of ``POST /v1/models/rollback``."""

    rolled_back: str
    promoted: str | None
    """The version that is in use now; None where jobs start without one."""
