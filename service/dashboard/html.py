"""Writing pages: templates, headers, errors as pages."""

import hashlib
import json
import logging
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse

from schedules.errors import TunesmithError
from service.dashboard import charts, figures
from service.errors import Refusal, refusal_of, validation_detail

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
SIGN_IN = "/sign-in"
FRAGMENT = "x-fragment"
"""A request header of our script: a part of a page is wanted, and no way around by other pages."""

_HEADERS: Mapping[str, str] = {
    # No page needs anything from elsewhere, nor a script or a style that is written into it.
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
_API = ("/v1/", "/openapi.json", "/metrics", "/healthz", "/readyz")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """Write a page.

    Parameters
    ----------
    template : str
        File in `templates`.
    status : int
        HTTP status.
    values
        What the template shows.
    """
    text = (
        _environment()
        .get_template(template)
        .render(request=request, link=partial(link, request), **values)
    )
    return HTMLResponse(text, status, headers={"Cache-Control": "private, no-store"})


def link(request: Request, **changes: object) -> str:
    """Return this page's address with some parameters of its query changed, or gone (None)."""
    query = dict(request.query_params) | {
        name: None if value is None else str(value) for name, value in changes.items()
    }
    text = urlencode({name: value for name, value in query.items() if value})
    return f"{request.url.path}?{text}" if text else request.url.path


def error_page(request: Request, error: Exception) -> Response:
    """Write a refusal or a fault as a page; whoever has to sign in is sent to where to do it."""
    if isinstance(error, RequestValidationError):
        error = Refusal(422, "invalid_request", validation_detail(error.errors()))
    elif isinstance(error, HTTPException):
        error = Refusal(error.status_code, "", f"There is no page {request.url.path}.")
    elif not isinstance(error, Refusal | TunesmithError):
        logger.exception("the page %s failed", request.url.path, exc_info=error)
    refusal = refusal_of(error)
    if refusal.status == 401 and request.method == "GET" and FRAGMENT not in request.headers:
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"{SIGN_IN}?{urlencode({'next': path})}", 303)
    answer = render(request, "error.html", status=refusal.status, refusal=refusal)
    answer.headers.update(refusal.headers or {})
    return answer


class PageRoute(APIRoute):
    """A route whose errors are pages, and whose answers have the dashboard's headers."""

    def get_route_handler(self) -> Handler:
        """Wrap the handler that FastAPI makes."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                answer = await handler(request)
            except Exception as error:
                answer = await run_in_threadpool(error_page, request, error)
            answer.headers.update(_HEADERS)
            return answer

        return handle


def show_unknown_paths(app: FastAPI) -> None:
    """Answer browsers that ask for a path which nobody has with a page; others as before."""
    plain: Any = app.exception_handlers[HTTPException]

    async def handle(request: Request, error: Exception) -> Response:
        path = request.url.path
        asked_for_page = "text/html" in request.headers.get("accept", "")
        if not asked_for_page or path.startswith(_API) or request.method != "GET":
            answer: Response = await plain(request, error)
            return answer
        page = await run_in_threadpool(error_page, request, error)
        page.headers.update(_HEADERS)
        return page

    app.add_exception_handler(HTTPException, handle)


@cache
def static_address(name: str) -> str:
    """Return the address of a file in `static`; it changes with the file, so browsers keep it."""
    digest = hashlib.sha256((FOLDER / "static" / name).read_bytes()).hexdigest()
    return f"/static/{name}?{digest[:12]}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        static=static_address, version=version("tunesmith"), span=charts.SPAN
    )
    environment.filters.update(
        age=figures.age,
        clock=figures.clock,
        count=figures.count,
        digits=figures.digits,
        duration=figures.duration,
        gflops=figures.gflops,
        interval=figures.interval,
        iso=datetime.isoformat,
        latency=figures.latency,
        name_parts=figures.name_parts,
        operations=figures.operations,
        percent=figures.percent,
        plain_json=_plain_json,
        ratio=figures.ratio,
        short=figures.short,
        size=figures.size,
        target_name=figures.target_name,
        words=figures.words,
    )
    return environment


def _plain_json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)
