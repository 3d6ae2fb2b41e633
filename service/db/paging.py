"""Keyset paging: a page begins after the last row of the one before, whatever was added since."""

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import Select, literal, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from schedules.errors import InputError
from service.db.columns import Base, UtcDateTime
from service.db.values import Page

MAX_LIMIT = 10_000

RowT = TypeVar("RowT", bound=Base)
T = TypeVar("T")

Position = tuple[datetime, *tuple[str, ...]]


def encode_cursor(position: Position) -> str:
    """Write the position of a row, opaque to callers."""
    moment, *ids = position
    text = json.dumps([moment.astimezone(UTC).isoformat(), *ids], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode("ascii").rstrip("=")


def decode_cursor(cursor: str, ids: int) -> Position:
    """Read what `encode_cursor` wrote.

    Raises
    ------
    InputError
        It was not written by `encode_cursor` for a listing with so many ids.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        parts = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if (
            isinstance(parts, list)
            and len(parts) == ids + 1
            and all(isinstance(part, str) for part in parts)
        ):
            moment = datetime.fromisoformat(parts[0])
            if moment.tzinfo is not None:
                return (moment.astimezone(UTC), *parts[1:])
    except (ValueError, OverflowError, RecursionError, binascii.Error):
        pass
    raise InputError("the cursor is not one that this listing gave; leave it out to start again")


def check_limit(limit: int) -> None:
    """Raise InputError for a page of no or of too many items."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InputError(f"limit must be between 1 and {MAX_LIMIT}, not {limit}")


def after(
    statement: Select[RowT],
    keys: Sequence[InstrumentedAttribute[datetime] | InstrumentedAttribute[str]],
    position: Position | None,
) -> Select[RowT]:
    """Order by `keys`, newest first, and begin after `position`."""
    if position is not None:
        moment, *ids = position
        values = [literal(moment, UtcDateTime()), *(literal(value) for value in ids)]
        statement = statement.where(tuple_(*keys) < tuple_(*values))
    return statement.order_by(*(key.desc() for key in keys))


def page(
    session: Session,
    statement: Select[RowT],
    keys: Sequence[InstrumentedAttribute[datetime] | InstrumentedAttribute[str]],
    convert: Callable[[Sequence[RowT]], Sequence[T]],
    *,
    limit: int,
    cursor: str | None,
) -> Page[T]:
    """Read one page, newest first.

    Parameters
    ----------
    statement : Select
        Selects whole rows.
    keys : sequence of columns
        A time, then the ids that make it unique.
    convert : callable
        Makes domain values of the rows of the page.

    Raises
    ------
    InputError
        The cursor or the limit is no good.
    """
    check_limit(limit)
    position = None if cursor is None else decode_cursor(cursor, len(keys) - 1)
    # One more than asked for tells whether there is a next page.
    rows = session.scalars(after(statement, keys, position).limit(limit + 1)).all()
    shown = rows[:limit]
    following = None
    if len(rows) > limit:
        moment, *ids = (getattr(shown[-1], key.key) for key in keys)
        following = encode_cursor((moment, *ids))
    return Page(items=tuple(convert(shown)), next_cursor=following)


def all_items(read: Callable[[str | None], Page[T]]) -> Iterator[T]:
    """Go through a whole listing, with a transaction for each page.

    Parameters
    ----------
    read : callable (str or None) -> Page
        Reads the page at a cursor, the first one for None.
    """
    cursor: str | None = None
    while True:
        part = read(cursor)
        yield from part.items
        cursor = part.next_cursor
        if cursor is None:
            return
