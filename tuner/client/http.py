"""One HTTP connection to a server: tokens, retries and errors in one place."""

import logging
import time
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from schedules.errors import ContractError, InputError
from tuner.client.errors import ForeignAnswerError, UnreachableError, server_error
from tuner.client.wire import ErrorView
from tuner.jitter import jitter

logger = logging.getLogger(__name__)

DEFAULT_SERVER = "http://127.0.0.1:8700"
DEFAULT_TIMEOUT_SECS = 30.0
FOREIGN = "http_error"
"""The error of a refusal that did not come from a Tunesmith server."""

_ATTEMPTS = 5
_FIRST_DELAY_SECS = 0.2
_LONGEST_DELAY_SECS = 5.0
_LONGEST_PAUSE_SECS = 30.0
_LONGEST_RETRY_AFTER_SECS = 600.0
_RETRY_STATUSES = frozenset({429, 502, 503, 504})

View = TypeVar("View", bound=BaseModel)


class Connection:
    """Sends requests and turns everything that is not a success into an error of the one tree.

    Thread-safe, as `httpx.Client` is.

    Parameters
    ----------
    server : str
        URL of the server, such as ``http://127.0.0.1:8700``.
    token : str or None
        Sent as a bearer token.
    timeout_secs : float
        For each request, connecting and reading apart.
    http : httpx.Client or None
        A client to use in place of an own one; it stays the caller's to close.
    """

    def __init__(
        self,
        server: str,
        *,
        token: str | None = None,
        timeout_secs: float = DEFAULT_TIMEOUT_SECS,
        http: httpx.Client | None = None,
    ) -> None:
        self.server = _checked_url(server)
        self.timeout_secs = timeout_secs
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._owned = http is None
        # A proxy of the environment never leads to this machine.
        self._http = http or httpx.Client(trust_env=not _is_loopback(self.server))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._owned:
            self._http.close()

    def get(self, path: str, view: type[View], params: dict[str, Any] | None = None) -> View:
        """Fetch one thing."""
        return parse(self.send("GET", path, params=params), view)

    def send(
        self,
        method: str,
        path: str,
        *,
        body: BaseModel | None = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        timeout_secs: float | None = None,
        retry: bool = True,
    ) -> httpx.Response:
        """Send one request and return its successful answer.

        Parameters
        ----------
        method, path, body, params, headers
            The request; None among the parameters is left out.
        timeout_secs : float or None
            In place of the connection's own.
        retry : bool
            Whether the request may be sent again when its fate is unknown or the server is busy;
            False for what must not happen twice.

        Raises
        ------
        ServerError
            The server refused it.
        UnreachableError
            There is no answer.
        """
        for attempt in range(_ATTEMPTS):
            last = not retry or attempt + 1 == _ATTEMPTS
            try:
                answer = self._http.request(
                    method,
                    self.server + path,
                    content=body.model_dump_json() if body is not None else None,
                    params={k: v for k, v in (params or {}).items() if v is not None},
                    headers={
                        **self._headers,
                        **({"Content-Type": "application/json"} if body is not None else {}),
                        **(headers or {}),
                    },
                    timeout=timeout_secs or self.timeout_secs,
                )
            except httpx.HTTPError as error:
                if last:
                    raise self._unreachable(error) from None
                delay_secs = _delay_secs(attempt)
            else:
                if answer.is_success:
                    return answer
                if last or answer.status_code not in _RETRY_STATUSES:
                    raise refusal(answer)
                wanted_secs = min(_retry_after_secs(answer), _LONGEST_PAUSE_SECS)
                delay_secs = max(_delay_secs(attempt), wanted_secs)
            logger.debug("%s %s: trying again in %.1f s", method, path, delay_secs)
            time.sleep(delay_secs)
        raise AssertionError("the last attempt returns or raises")

    def _unreachable(self, error: httpx.HTTPError) -> UnreachableError:
        what = str(error) or type(error).__name__
        return UnreachableError(
            f"no answer from {self.server} ({what}); check that `tunesmith serve` runs there, or "
            "give another URL with --server or TUNESMITH_SERVER"
        )


def parse(answer: httpx.Response, view: type[View]) -> View:
    """Read the body of an answer.

    Fields that this version does not know are left out, so that a newer server can be used.

    Raises
    ------
    ForeignAnswerError
        The body is not JSON.
    ContractError
        The body is not what the path answers.
    """
    try:
        value = answer.json()
    except ValueError:
        raise ForeignAnswerError(
            f"the answer of {answer.request.url} is not JSON, as a {view.__name__} is; "
            "check that the URL is that of a Tunesmith server"
        ) from None
    try:
        return view.model_validate(value, extra="ignore")
    except ValidationError as error:
        raise ContractError(
            f"the answer of {answer.request.url} is not a {view.__name__}: {error}; "
            "check that the URL is that of a Tunesmith server of this version"
        ) from None


def refusal(answer: httpx.Response) -> Exception:
    """Make the error that an unsuccessful answer stands for."""
    try:
        told = ErrorView.model_validate(answer.json(), extra="ignore")
    except (ValueError, ValidationError):
        told = ErrorView(
            error=FOREIGN,
            detail=f"{answer.request.url} answered {answer.status_code} {answer.reason_phrase}; "
            "check that it is the URL of a Tunesmith server",
        )
    return server_error(answer.status_code, told.error, told.detail, _retry_after_secs(answer))


def _checked_url(server: str) -> str:
    try:
        url = httpx.URL(server)
    except httpx.InvalidURL as error:
        raise InputError(f"{server!r} is not a URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise InputError(f"{server!r} is not a URL of a server; use one like {DEFAULT_SERVER}")
    return server.rstrip("/")


def _is_loopback(server: str) -> bool:
    return httpx.URL(server).host in ("127.0.0.1", "::1", "localhost")


def _delay_secs(attempt: int) -> float:
    longest: float = min(_LONGEST_DELAY_SECS, _FIRST_DELAY_SECS * 2**attempt)
    return longest * jitter(0.5, 1.0)


def _retry_after_secs(answer: httpx.Response) -> float:
    try:
        secs = float(answer.headers.get("Retry-After", 0))
    except ValueError:
        # An HTTP date; no server of ours sends one.
        return 0.0
    return min(secs, _LONGEST_RETRY_AFTER_SECS) if secs > 0 else 0.0
