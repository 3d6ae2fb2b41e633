from pathlib import Path

import pytest

from schedules.errors import InputError
from service.auth import Auth, Scope, is_loopback, read_tokens
from service.errors import Refusal

TOKEN = "a-token-of-some-length"


def test_tokens_are_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"{TOKEN} read\n")
    (grant,) = read_tokens(path)
    assert TOKEN not in repr(grant)
    assert grant.scopes == {Scope.READ}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no token"),
        ("# nothing\n", "no token"),
        ("short\n", "line 1"),
        (f"{TOKEN}\n{TOKEN} fly\n", "line 2"),
    ],
)
def test_a_bad_token_file_is_refused_without_telling_tokens(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        read_tokens(path)
    assert TOKEN not in str(caught.value)
    assert "short" not in str(caught.value).replace("too short", "")


def test_a_token_is_known_by_the_name_beside_it_or_by_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"{TOKEN} submit name=ci\n{TOKEN}-2 name=people\n{TOKEN}-3 submit\n")
    auth = Auth(read_tokens(path))
    assert auth.check(f"Bearer {TOKEN}", "any", Scope.SUBMIT) == "ci"
    # A name alone leaves the scopes at their default.
    assert auth.check(f"Bearer {TOKEN}-2", "any", Scope.ADMIN) == "people"
    unnamed = auth.check(f"Bearer {TOKEN}-3", "any", Scope.SUBMIT)
    assert unnamed.startswith("token ")
    assert TOKEN not in unnamed


def test_an_issued_token_allows_what_it_was_issued_for(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"{TOKEN}\n")
    auth, issued = Auth(read_tokens(path)).issue(Scope.MEASURE)
    auth.check(f"Bearer {issued}", "any", Scope.MEASURE)
    auth.check(f"Bearer {TOKEN}", "any", Scope.MEASURE)
    with pytest.raises(Refusal) as caught:
        auth.check(f"Bearer {issued}", "any", Scope.SUBMIT)
    assert caught.value.status == 403


def test_an_open_server_stays_open() -> None:
    auth, _ = Auth().issue(Scope.MEASURE)
    assert auth.open
    auth.check(None, "any", Scope.ADMIN)


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine_only(host: str, own: bool) -> None:
    assert is_loopback(host) is own
