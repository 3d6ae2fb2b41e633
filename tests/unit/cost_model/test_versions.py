from datetime import UTC, datetime

import pytest

from cost_model.versions import Bundle, ModelVersion, TrainedOn, digest_of, version_of
from schedules.errors import ContractError, InputError

FITTED_AT = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
TRAINED_ON = TrainedOn(
    query={"until": "2025-06-01T12:00:00+00:00"},
    digest="d" * 64,
    rows=100,
    failed=3,
    censored=10,
    groups=4,
)


def version_with(content: bytes) -> ModelVersion:
    return ModelVersion(
        version=version_of(content),
        created_at=FITTED_AT,
        parent=None,
        feature_version=2,
        code_version="0.1.0",
        trained_on=TRAINED_ON,
        metrics={"shape.pairwise_accuracy": 0.75},
    )


def test_a_version_is_a_digest_of_the_content() -> None:
    assert version_of(b"model") == "9372c470eeadd5ec"
    assert version_of(b"model") != version_of(b"models")


def test_a_cut_has_one_digest_in_any_order() -> None:
    assert digest_of(["b", "a"], 2) == digest_of(["a", "b"], 2)
    assert digest_of(["a", "b"], 2) != digest_of(["a", "b"], 3)
    assert digest_of(["a", "b"], 2) != digest_of(["a", "c"], 2)


def test_times_without_a_timezone_are_refused() -> None:
    with pytest.raises(ContractError, match="timezone"):
        ModelVersion(
            version="0",
            created_at=FITTED_AT.replace(tzinfo=None),
            parent=None,
            feature_version=1,
            code_version="0",
            trained_on=TRAINED_ON,
            metrics={},
        )


def test_what_a_version_says_cannot_be_changed_later() -> None:
    metrics = {"shape.pairwise_accuracy": 0.75}
    version = ModelVersion(
        version="0",
        created_at=FITTED_AT,
        parent=None,
        feature_version=1,
        code_version="0",
        trained_on=TRAINED_ON,
        metrics=metrics,
    )
    metrics["shape.pairwise_accuracy"] = 0.0

    assert version.metrics == {"shape.pairwise_accuracy": 0.75}


def test_a_bundle_is_read_as_it_was_written() -> None:
    bundle = Bundle(version=version_with(b"model"), content=b"model", judge=b"judge")

    assert Bundle.from_bytes(bundle.to_bytes()) == bundle


def test_a_bundle_with_another_model_is_refused() -> None:
    written = Bundle(version=version_with(b"model"), content=b"another", judge=b"").to_bytes()

    with pytest.raises(InputError, match="damaged"):
        Bundle.from_bytes(written)


@pytest.mark.parametrize("cut", [0, 10, 100, -30])
def test_what_is_no_bundle_is_refused(cut: int) -> None:
    whole = Bundle(version=version_with(b"model"), content=b"model", judge=b"judge").to_bytes()

    with pytest.raises(InputError, match="no exported model"):
        Bundle.from_bytes(whole[:cut])
