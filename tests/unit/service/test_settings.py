from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Role, Settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TUNESMITH_{name.upper()}", raising=False)


def test_every_setting_is_documented() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_defaults_follow_the_xdg_specification(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    settings = Settings()
    assert settings.data_dir == tmp_path / "tunesmith"
    assert settings.resolved_database_url == f"sqlite:///{tmp_path}/tunesmith/tunesmith.db"
    assert (settings.host, settings.port, settings.role) == ("127.0.0.1", 8700, Role.ALL)
    monkeypatch.delenv("XDG_DATA_HOME")
    assert Settings().data_dir == Path("~/.local/share/tunesmith").expanduser()


def test_the_environment_and_then_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_PORT", "9000")
    monkeypatch.setenv("TUNESMITH_DATABASE_URL", "postgresql://h/d")
    assert Settings().port == 9000
    assert Settings().resolved_database_url == "postgresql://h/d"
    assert Settings(port=9001).port == 9001


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 70000},
        {"role": "boss"},
        {"max_body_bytes": 0},
        {"lease_ttl_secs": -1},
        {"lease_ttl_secs": 10, "heartbeat_secs": 6},
        {"log_level": "LOUD"},
    ],
)
def test_what_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(wrong)
