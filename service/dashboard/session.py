"""Signing in: a page cannot send an ``Authorization`` header, so a cookie holds the token.

The cookie is out of reach of scripts and is sent by pages of this server only. It is taken by the
dashboard's own pages, which change nothing, and never by the API.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import RedirectResponse

from service.api.context import Context
from service.auth import Auth, Scope
from service.dashboard.html import PageRoute, render

COOKIE = "tunesmith_token"
_DAYS_30_SECS = 30 * 86400

router = APIRouter(route_class=PageRoute, include_in_schema=False)


async def _signed_in(request: Request) -> str:
    auth: Auth = request.app.state.services.auth
    headers = request.headers
    token = request.cookies.get(COOKIE)
    sent = headers.get("authorization") or (f"Bearer {token}" if token else None)
    return auth.check(sent, headers.get("host", ""), Scope.READ)


SIGNED_IN = Depends(_signed_in)


class SignIn(BaseModel):
    """Body of ``POST /sign-in``."""

    token: str = Field(min_length=1, max_length=1000)


@router.get("/sign-in")
def show_sign_in(
    request: Request,
    services: Context,
    follow: Annotated[str, Query(alias="next", max_length=2000)] = "/",
) -> Response:
    """Ask for a token."""
    if services.auth.open:
        return RedirectResponse(_own(follow), 303)
    return render(request, "sign_in.html", follow=_own(follow))


@router.post("/sign-in", status_code=204)
async def sign_in(request: Request, body: SignIn, services: Context) -> Response:
    """Keep a token that may read."""
    services.auth.check(f"Bearer {body.token}", request.headers.get("host", ""), Scope.READ)
    answer = Response(status_code=204)
    answer.set_cookie(
        COOKIE,
        body.token,
        max_age=_DAYS_30_SECS,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


@router.post("/sign-out", status_code=204)
async def sign_out() -> Response:
    """Forget the token."""
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


@router.get("/session", status_code=204, dependencies=[SIGNED_IN])
async def session() -> Response:
    """Say whether the cookie is good.

    A link from another site brings no cookie along, though there is one: the page that asks for the
    token finds out here, and goes on.
    """
    return Response(status_code=204)


def _own(address: str) -> str:
    """Return an address of this server; never another one's."""
    own = address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if own else "/"
