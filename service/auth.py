"""Who may do what: bearer tokens with scopes."""

import hashlib
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from fastapi import Request

from schedules.errors import InputError
from service.errors import Refusal

MIN_TOKEN_CHARACTERS = 16


class Scope(StrEnum):
    """What a token allows."""

    SUBMIT = "submit"
    READ = "read"
    MEASURE = "measure"
    ADMIN = "admin"
    """Everything."""


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A token, known by its hash only.

    `name` is whose jobs are those that are submitted with it: each name has a fair share.
    """

    digest: bytes
    scopes: frozenset[Scope]
    name: str


class Auth:
    """Checks requests. Thread-safe.

    Parameters
    ----------
    grants : iterable of Grant
        The known tokens; with none, every request is allowed.
    loopback_only : bool
        Refuse requests that name another host than this machine, so that a web page cannot reach an
        open server through a name that it controls.
    """

    def __init__(self, grants: Iterable[Grant] = (), *, loopback_only: bool = False) -> None:
        self._grants = tuple(grants)
        self._loopback_only = loopback_only and not self._grants

    @property
    def open(self) -> bool:
        """Whether no token is needed."""
        return not self._grants

    def issue(self, *scopes: Scope) -> tuple["Auth", str]:
        """Make a token for this process's own use, and the checker that knows it too.

        On an open server nothing changes but for the token, which is ignored.
        """
        token = secrets.token_urlsafe(32)
        if self.open:
            return self, token
        return Auth((*self._grants, _grant(token, scopes))), token

    def check(self, authorization: str | None, host: str, scope: Scope) -> str:
        """Check the headers of one request, and return the name of whoever sent it.

        Raises
        ------
        Refusal
            401 without a known token, 403 where its scopes do not reach.
        """
        if self.open:
            if self._loopback_only and not is_loopback(_host_name(host)):
                raise Refusal(
                    403,
                    "forbidden_host",
                    "this server needs no tokens and so answers to this machine's own name only; "
                    "use http://127.0.0.1, or start it with TUNESMITH_TOKEN_FILE",
                )
            return ""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _unauthorized("send a token: Authorization: Bearer <token>")
        grant = self._grant(token.strip())
        if grant is None:
            raise _unauthorized("the token is not known")
        if scope not in grant.scopes and Scope.ADMIN not in grant.scopes:
            raise Refusal(403, "forbidden", f"the token lacks the scope {scope.value!r}")
        return grant.name

    def _grant(self, token: str) -> Grant | None:
        digest = _digest(token)
        found = None
        # Every hash is compared, so that the time does not tell which one was close.
        for grant in self._grants:
            if secrets.compare_digest(grant.digest, digest):
                found = grant
        return found


def needs(scope: Scope) -> Callable[[Request], Awaitable[str]]:
    """Make the dependency that lets a request pass only with a scope, and names its sender."""

    async def check(request: Request) -> str:
        auth: Auth = request.app.state.services.auth
        headers = request.headers
        return auth.check(headers.get("authorization"), headers.get("host", ""), scope)

    return check


def read_tokens(path: Path) -> tuple[Grant, ...]:
    """Read a token file: a token a line, then its scopes; lines with ``#`` are comments.

    ``name=NAME`` among the scopes says whose token it is; tokens of one name share one fair share.

    Raises
    ------
    InputError
        The file cannot be read, has no token, a token that is too short, or an unknown scope. The
        message names lines, never tokens.
    """
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the token file {path} cannot be read: {error}") from None
    grants = []
    for number, line in enumerate(lines, start=1):
        token, *names = line.replace(",", " ").split() or [""]
        if not token or token.startswith("#"):
            continue
        if len(token) < MIN_TOKEN_CHARACTERS:
            raise InputError(
                f"{path}, line {number}: a token needs at least {MIN_TOKEN_CHARACTERS} characters"
            )
        owners = [word.removeprefix("name=") for word in names if word.startswith("name=")]
        try:
            scopes = tuple(Scope(word) for word in names if not word.startswith("name="))
        except ValueError:
            raise InputError(f"{path}, line {number}: the scopes are {', '.join(Scope)}") from None
        grants.append(_grant(token, scopes or (Scope.ADMIN,), *owners[:1]))
    if not grants:
        raise InputError(f"the token file {path} has no token")
    return tuple(grants)


# Asked for every request of an open server, and reading an address is slow.
@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine's own."""
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _host_name(header: str) -> str:
    if header.startswith("["):
        return header.partition("]")[0] + "]"
    return header.rpartition(":")[0] or header


def _grant(token: str, scopes: Iterable[Scope], name: str | None = None) -> Grant:
    digest = _digest(token)
    return Grant(digest=digest, scopes=frozenset(scopes), name=name or f"token {digest.hex()[:8]}")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _unauthorized(why: str) -> Refusal:
    return Refusal(401, "unauthorized", why, {"WWW-Authenticate": "Bearer"})
