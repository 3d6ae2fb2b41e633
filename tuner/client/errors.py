"""What a server's answer becomes when it is not what was asked for.

::

    TunesmithError
    +-- ServerError                          any refusal; carries status, error and detail
    |   +-- ServerInputError (InputError)            400, 413, 422
    |   +-- ServerAccessError                        401, 403
    |   +-- ServerNotFoundError (NotFoundError)      404
    |   +-- ServerConflictError (ConflictError)      409
    |   +-- ServerUnavailableError (UnavailableError)  429 and 5xx after the last retry
    +-- ForeignAnswerError (ContractError)   an answer that no Tunesmith server gives
    +-- UnreachableError (UnavailableError)  no answer at all; the message names the URL
    +-- JobFailedError                       a job that was waited for failed or was cancelled
    +-- OrderFailedError                     what was ordered of the cost model could not be done
    +-- JobTimeoutError (TimeoutError)       a job was not done in the time given to `Job.wait`
"""

from http import HTTPStatus

from schedules.errors import (
    ConflictError,
    ContractError,
    InputError,
    NotFoundError,
    TunesmithError,
    UnavailableError,
)
from tuner.client.wire import JobView, OrderView


class ServerError(TunesmithError):
    """A server refused a request.

    Parameters
    ----------
    status : int
        HTTP status.
    error : str
        Name of the error.
    detail : str
        What is wrong and how to mend it.
    retry_after_secs : float
        How long the server asks to be left alone.
    """

    def __init__(self, status: int, error: str, detail: str, retry_after_secs: float = 0.0) -> None:
        super().__init__(detail or error)
        self.status = status
        self.error = error
        self.detail = detail
        self.retry_after_secs = retry_after_secs


class ServerInputError(ServerError, InputError):
    """The server cannot use what was sent."""


class ServerAccessError(ServerError):
    """The token is missing, unknown, or does not allow this."""


class ServerNotFoundError(ServerError, NotFoundError):
    """The server does not know the thing that was named."""


class ServerConflictError(ServerError, ConflictError):
    """The request contradicts the server's present state."""


class ServerUnavailableError(ServerError, UnavailableError):
    """The server answers, but cannot serve now."""


class ForeignAnswerError(ContractError):
    """What answers is not a Tunesmith server: a proxy before it, or another program."""


class UnreachableError(UnavailableError):
    """No server answers under the URL."""


class JobFailedError(TunesmithError):
    """A job ended without a best.

    Parameters
    ----------
    job : JobView
        The job as it ended.
    """

    def __init__(self, job: JobView) -> None:
        if job.state == "failed":
            ending = f"failed: {job.error or 'the server gives no reason'}"
        else:
            ending = "was cancelled" if job.state == "cancelled" else "ended without a best"
        super().__init__(f"job {job.id} {ending}")
        self.job = job


class OrderFailedError(TunesmithError):
    """An order for the cost model failed.

    Parameters
    ----------
    order : OrderView
        The order as it ended.
    """

    def __init__(self, order: OrderView) -> None:
        super().__init__(order.error or f"order {order.id} failed; the server gives no reason")
        self.order = order


class JobTimeoutError(TunesmithError, TimeoutError):
    """A job was not done in time; it goes on on the server."""


_BY_STATUS: dict[int, type[ServerError]] = {
    HTTPStatus.BAD_REQUEST: ServerInputError,
    HTTPStatus.UNAUTHORIZED: ServerAccessError,
    HTTPStatus.FORBIDDEN: ServerAccessError,
    HTTPStatus.NOT_FOUND: ServerNotFoundError,
    HTTPStatus.CONFLICT: ServerConflictError,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ServerInputError,
    HTTPStatus.UNPROCESSABLE_ENTITY: ServerInputError,
    HTTPStatus.TOO_MANY_REQUESTS: ServerUnavailableError,
}


def server_error(
    status: int, error: str, detail: str, retry_after_secs: float = 0.0
) -> ServerError:
    """Make the error that stands for a status."""
    unlisted = ServerUnavailableError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ServerError
    kind = _BY_STATUS.get(status, unlisted)
    return kind(status, error, detail, retry_after_secs)
