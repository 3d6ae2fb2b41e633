"""Streams that tell a page when to look again."""

import asyncio
from collections.abc import AsyncIterator

from service.api.context import Services

AT_MOST_EVERY_SECS = 2.0
AT_LEAST_EVERY_SECS = 15.0
"""Workers that come and go are no events: pages that show them look now and then."""


async def changes(services: Services) -> AsyncIterator[str]:
    """Tell that jobs have changed, until the server ends."""
    # At once, so that the reader knows that it is connected.
    yield "retry: 3000\n\n"
    with services.events.watch_any_job() as waiter:
        while not services.events.closed:
            await waiter.wait(AT_LEAST_EVERY_SECS)
            yield "event: change\ndata: {}\n\n"
            await asyncio.sleep(AT_MOST_EVERY_SECS)
