"""Listings of a server, which come in pages."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from schedules.errors import ContractError
from tuner.client.http import Connection

Item = TypeVar("Item", bound=BaseModel)

_PAGE = 500


def pages(
    connection: Connection,
    path: str,
    view: type[Item],
    filters: Mapping[str, object],
    limit: int | None,
) -> Iterator[Item]:
    """Go through a listing, a request for each page.

    Parameters
    ----------
    connection : Connection
        To the server.
    path : str
        Of the listing.
    view : type
        Of its items.
    filters : Mapping[str, object]
        Parameters of every request.
    limit : int or None
        At most so many items; all by default.

    Raises
    ------
    ContractError
        An answer is no page of such items.
    """
    left, cursor = limit, None
    while left is None or left > 0:
        size = _PAGE if left is None else min(left, _PAGE)
        answer = connection.send("GET", path, params={**filters, "limit": size, "cursor": cursor})
        items, cursor = _page(answer, view)
        yield from items
        if cursor is None:
            return
        left = None if left is None else left - len(items)


def _page(answer: httpx.Response, view: type[Item]) -> tuple[list[Item], str | None]:
    try:
        page = answer.json()
        items = [view.model_validate(item, extra="ignore") for item in page["items"]]
        return items, page["next_cursor"]
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise ContractError(
            f"the answer of {answer.request.url} is not a page of {view.__name__}: {error}"
        ) from None
