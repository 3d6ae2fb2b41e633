from pathlib import Path

import pytest
from pydantic import ValidationError

from schedules.errors import InputError, UnavailableError
from service.server import listen, make_auth
from service.settings import Role, Settings

TOKEN = "a-token-of-some-length"


def test_a_port_that_is_taken_is_named() -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(UnavailableError, match=rf"127\.0\.0\.1:{port}.*--port"):
            listen("127.0.0.1", port)


def test_a_port_is_shared_by_those_who_all_say_so() -> None:
    with listen("127.0.0.1", 0, shared=True) as listener:
        port = listener.getsockname()[1]
        with listen("127.0.0.1", port, shared=True) as other:
            assert other.getsockname()[1] == port
        with pytest.raises(UnavailableError, match=str(port)):
            listen("127.0.0.1", port)


def test_an_embedded_database_is_for_one_server(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="needs PostgreSQL"):
        Settings(data_dir=tmp_path, share_port=True)
    assert Settings(database_url="postgresql://db/tunesmith", share_port=True).share_port


def test_an_address_that_is_none_is_named() -> None:
    with pytest.raises(InputError, match="nowhere"):
        listen("nowhere.invalid", 0)


def test_only_loopback_needs_no_tokens(tmp_path: Path) -> None:
    assert make_auth(Settings(data_dir=tmp_path, host="::1")).open
    with pytest.raises(InputError, match="TUNESMITH_TOKEN_FILE"):
        make_auth(Settings(data_dir=tmp_path, host="0.0.0.0"))
    # It listens nowhere.
    make_auth(Settings(data_dir=tmp_path, host="0.0.0.0", role=Role.TUNER))
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{TOKEN}\n")
    assert not make_auth(Settings(data_dir=tmp_path, host="0.0.0.0", token_file=tokens)).open
    with pytest.raises(InputError, match="missing"):
        make_auth(Settings(data_dir=tmp_path, token_file=tmp_path / "missing"))
