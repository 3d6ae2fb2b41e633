"""The HTTP application. Nothing that is imported here imports TVM."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Protocol

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from service import errors
from service.api import (
    best,
    budgets,
    health,
    jobs,
    leases,
    models,
    operators,
    records,
    targets,
    worker_health,
    workers,
    workloads,
)
from service.api.context import Services
from service.bodies import BodyGuard
from service.dashboard import pages as dashboard
from service.look_ups import LookUps
from service.metrics import RequestMetrics
from tuner.client import wire

__all__ = ["Background", "Services", "Together", "create_app"]

THREADS = 4
"""How many handlers run at once beside the event loop.

They take turns at one interpreter, so more would not do more; but each of those that wait for it
costs the event loop, which answers look-ups, a turn.
"""

_ROUTERS = (
    jobs.router,
    budgets.router,
    best.router,
    records.router,
    workers.router,
    worker_health.router,
    leases.router,
    targets.router,
    workloads.router,
    models.router,
    operators.router,
    health.router,
)


class Background(Protocol):
    """What works beside the API in the same process, such as the orchestrator of jobs."""

    def start(self) -> None:
        """Begin; returns at once."""
        ...

    def stop(self) -> None:
        """End, and return when it has ended."""
        ...


class Together:
    """Several of them as one."""

    def __init__(self, *parts: Background) -> None:
        self._parts = parts

    def start(self) -> None:
        """Begin; returns at once."""
        for part in self._parts:
            part.start()

    def stop(self) -> None:
        """End all, and return when they have ended."""
        for part in reversed(self._parts):
            part.stop()


def create_app(services: Services, *, background: Background | None = None) -> ASGIApp:
    """Make the application.

    Parameters
    ----------
    services : Services
        Its parts; they stay the caller's to close.
    background : Background or None
        Started before the first request and stopped after the last one.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = THREADS
        if background is not None:
            background.start()
        tasks = [asyncio.create_task(part.run()) for part in (services.lookout, services.bests)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            services.events.close()
            await run_in_threadpool(services.answers.close)
            if background is not None:
                await run_in_threadpool(background.stop)

    app = FastAPI(
        title="Tunesmith",
        description="A learned auto-tuning service for tensor programs.",
        version=version("tunesmith"),
        lifespan=lifespan,
        redirect_slashes=False,
        responses={
            "4XX": {"model": wire.ErrorView, "description": "Says what to mend."},
            "5XX": {"model": wire.ErrorView, "description": "A fault, or try again."},
        },
    )
    app.state.services = services
    errors.install(app)
    for router in _ROUTERS:
        app.include_router(router)
    dashboard.install(app)
    app.add_middleware(BodyGuard, max_bytes=services.settings.max_body_bytes)
    app.add_middleware(RequestMetrics, metrics=services.metrics)
    return LookUps(app, services=services)
