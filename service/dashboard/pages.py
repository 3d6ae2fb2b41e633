"""The dashboard as a part of the application."""

from collections.abc import MutableMapping
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from service.dashboard import (
    best,
    budgets,
    catalogue,
    compare,
    jobs,
    models,
    overview,
    session,
    workers,
)
from service.dashboard.html import FOLDER, show_unknown_paths

_ROUTERS = (
    overview.router,
    jobs.router,
    budgets.router,
    catalogue.router,
    best.router,
    workers.router,
    models.router,
    compare.router,
    session.router,
)


class _KeptFiles(StaticFiles):
    """Files whose addresses change when they do: browsers need not ask for them again."""

    async def get_response(self, path: str, scope: MutableMapping[str, Any]) -> Response:
        answer = await super().get_response(path, scope)
        answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer


def install(app: FastAPI) -> None:
    """Add the pages to an application, and their files, which need no token."""
    for router in _ROUTERS:
        app.include_router(router)
    app.mount("/static", _KeptFiles(directory=FOLDER / "static"))
    show_unknown_paths(app)
