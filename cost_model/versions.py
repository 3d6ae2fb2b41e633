"""Versions of base models: what was learnt, from what, by which code, and how good it is."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from schedules.errors import ContractError, InputError
from schedules.identity import sha256_id

_DIGITS = 16
_LARGEST_BUNDLE_BYTES = 256 * 2**20
_FILES = ("version.json", "model.zip", "judge.zip")


def version_of(model_bytes: bytes) -> str:
    """Return the version of a model file's content: the first 16 digits of its SHA-256."""
    return hashlib.sha256(model_bytes).hexdigest()[:_DIGITS]


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """What a model was fitted on: a cut of the database that can be made again.

    Attributes
    ----------
    query : Mapping[str, str]
        Which records were asked for; all of them where it is empty but for ``until``.
    digest : str
        SHA-256 of the ids of the records and the version of their features.
    rows : int
        Trials.
    failed, censored : int
        How many of these failed, and of how many only a bound is known.
    groups : int
        How many pairs of workload and target.
    """

    query: Mapping[str, str]
    digest: str
    rows: int
    failed: int
    censored: int
    groups: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "query", MappingProxyType(dict(self.query)))

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes as JSON has them."""
        return {**vars(self), "query": dict(self.query)}


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """The provenance of one base model; never changed.

    Attributes
    ----------
    version : str
        From `version_of`; equal for equal models, whenever they were fitted.
    created_at : datetime
        When it was fitted; timezone-aware.
    parent : str or None
        The version that was in use then.
    feature_version : int
        What its features mean; see `cost_model.columns`.
    code_version : str
        The release that fitted it.
    trained_on : TrainedOn
        What it was fitted on.
    metrics : Mapping[str, float]
        How its judge did on what is held out; see `cost_model.training.judged`.
    """

    version: str
    created_at: datetime
    parent: str | None
    feature_version: int
    code_version: str
    trained_on: TrainedOn
    metrics: Mapping[str, float]

    def __post_init__(self) -> None:
        if self.created_at.tzinfo is None:
            raise ContractError("created_at must be timezone-aware")
        object.__setattr__(self, "metrics", MappingProxyType(dict(self.metrics)))


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A base model with its judge.

    Attributes
    ----------
    content : bytes
        The model, fitted on all that there is: what jobs use.
    judge : bytes
        The same, fitted without what is held out: what is compared with other versions.
    metrics : Mapping[str, float]
        Of the judge, on what is held out; named ``<gate>.<metric>``.
    """

    content: bytes = field(repr=False)
    judge: bytes = field(repr=False)
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A version with its files, as it travels from one server to another.

    Attributes
    ----------
    version : ModelVersion
        Where it comes from.
    content, judge : bytes
        See `Trained`.
    """

    version: ModelVersion
    content: bytes = field(repr=False)
    judge: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """Write the bundle: a ZIP archive."""
        buffer = io.BytesIO()
        parts = (json.dumps(_to_json(self.version)).encode(), self.content, self.judge)
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, part in zip(_FILES, parts, strict=True):
                archive.writestr(zipfile.ZipInfo(name), part)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Bundle":
        """Read a bundle; the models in it are not looked at.

        Raises
        ------
        InputError
            It is none, or its model is not the one that it says.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if sum(item.file_size for item in archive.infolist()) > _LARGEST_BUNDLE_BYTES:
                    raise InputError("the file is larger than an exported model can be")
                written, content, judge = (archive.read(name) for name in _FILES)
            version = _from_json(json.loads(written))
        except (zipfile.BadZipFile, KeyError, TypeError, ValueError, EOFError, OSError) as error:
            raise InputError(
                f"this is no exported model ({error}); write one with `tunesmith model export`"
            ) from None
        if version.version != version_of(content):
            raise InputError(f"the file is damaged: its model is not version {version.version}")
        return cls(version=version, content=content, judge=judge)


def digest_of(record_ids: list[str], feature_version: int) -> str:
    """Return the digest of a cut: equal for equal records, in whatever order."""
    return sha256_id({"records": sorted(record_ids), "features": feature_version})


def _to_json(version: ModelVersion) -> dict[str, Any]:
    return {
        "version": version.version,
        "created_at": version.created_at.isoformat(),
        "parent": version.parent,
        "feature_version": version.feature_version,
        "code_version": version.code_version,
        "trained_on": version.trained_on.as_dict(),
        "metrics": dict(version.metrics),
    }


def _from_json(value: Any) -> ModelVersion:
    return ModelVersion(
        version=str(value["version"]),
        created_at=datetime.fromisoformat(value["created_at"]),
        parent=value["parent"] if value["parent"] is None else str(value["parent"]),
        feature_version=int(value["feature_version"]),
        code_version=str(value["code_version"]),
        trained_on=TrainedOn(**value["trained_on"]),
        metrics={str(name): float(number) for name, number in value["metrics"].items()},
    )
