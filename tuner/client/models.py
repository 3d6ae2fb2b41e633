"""The client's calls about the cost model."""

import base64
import time
from collections.abc import Iterator
from datetime import datetime

from pydantic import BaseModel

from schedules.errors import UnavailableError
from tuner.client import wire
from tuner.client.errors import OrderFailedError
from tuner.client.http import Connection, parse
from tuner.client.pages import pages
from tuner.client.requests import checked

_POLL_SECS = 0.5


class Models:
    """The versions of a server's cost model; see `tuner.client.sdk.Client` for what is raised.

    What takes long is an order: it is answered at once, and done by the server's learner; `wait`
    returns what came of it.

    Parameters
    ----------
    connection : Connection
        To the server.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self, *, limit: int | None = None) -> Iterator[wire.ModelView]:
        """Yield versions, newest first."""
        return pages(self._connection, "/v1/models", wire.ModelView, {}, limit)

    def get(self, version: str) -> wire.ModelView:
        """Return a version."""
        return self._connection.get(f"/v1/models/{version}", wire.ModelView)

    def train(
        self,
        *,
        target_id: str | None = None,
        operator: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        seed: int = 0,
        promote: bool = False,
    ) -> wire.OrderView:
        """Order a version that learns from the trials that the server has.

        Parameters
        ----------
        target_id, operator, since, until
            Which trials; all of them by default. Times need a zone.
        seed : int
            Of the trees' sampling.
        promote : bool
            Whether to bring the version into use if it is better on all gates.
        """
        return self._order(
            "train",
            checked(
                wire.TrainRequest,
                target_id=target_id,
                operator=operator,
                since=since,
                until=until,
                seed=seed,
                promote=promote,
            ),
        )

    def evaluate(self, version: str | None = None) -> wire.OrderView:
        """Order a judgement of a version, of the one in use by default."""
        return self._order("evaluate", checked(wire.EvaluateRequest, version=version))

    def promote(self, version: str, *, force: bool = False) -> wire.OrderView:
        """Order that a version comes into use, if it is better on all gates or by force."""
        return self._order("promote", checked(wire.PromoteRequest, version=version, force=force))

    def roll_back(self) -> wire.RollbackAnswer:
        """Take the version in use out of it; the one before is in use again, at once."""
        # Sent twice, it would go back twice.
        answer = self._connection.send("POST", "/v1/models/rollback", retry=False)
        return parse(answer, wire.RollbackAnswer)

    def export(self, version: str) -> bytes:
        """Return a version with its files, for `import_file` of another server."""
        return self._connection.send("GET", f"/v1/models/{version}/file").content

    def import_file(self, exported: bytes) -> wire.OrderView:
        """Order that an exported version is checked and taken over; it is not promoted."""
        bundle = base64.b64encode(exported)
        return self._order("import", checked(wire.ImportModelRequest, bundle=bundle))

    def wait(self, order: wire.OrderView, timeout_secs: float | None = None) -> wire.OrderView:
        """Wait until an order is done, and return it.

        Raises
        ------
        OrderFailedError
            It failed.
        UnavailableError
            It was not done in time; it stays ordered.
        """
        deadline = None if timeout_secs is None else time.monotonic() + timeout_secs
        while order.state == "open":
            if deadline is not None and time.monotonic() > deadline:
                raise UnavailableError(
                    f"order {order.id} still waits for {order.waiting_for}; it stays ordered"
                )
            time.sleep(_POLL_SECS)
            order = self._connection.get(f"/v1/models/orders/{order.id}", wire.OrderView)
        if order.state == "failed":
            raise OrderFailedError(order)
        return order

    def _order(self, what: str, body: BaseModel) -> wire.OrderView:
        answer = self._connection.send("POST", f"/v1/models/{what}", body=body)
        return parse(answer, wire.OrderView)
