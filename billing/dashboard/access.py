"""Who may see the pages: a browser that has given the admin token once, and shows the cookie that it was given for it."""

from typing import Any

from litestar import Request, Response
from litestar.datastructures import Cookie
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER

from billing.access import token
from billing.clock import Clock
from billing.dashboard import session
from billing.dashboard.gate import Gate

AnyRequest = Request[Any, Any, Any]

SENT_AGAIN = (
    "An admin token is what `billing admin-token` prints; `billing admin-token --new` makes another one."
)


class Access:
    """Decides who is signed in. Without a token's hash nobody ever is."""

    def __init__(self, token_hash: str | None, session_s: int, clock: Clock, gate: Gate) -> None:
        self.token_hash = token_hash
        self.gate = gate
        self._session_s = session_s
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Access {'open' if self.token_hash else 'closed'} {self.gate!r}>"

    def is_signed_in(self, request: AnyRequest) -> bool:
        """Whether a request carries a cookie of ours."""
        cookie = request.cookies.get(session.COOKIE)
        return self.token_hash is not None and session.is_valid(cookie, self.token_hash, self._clock())

    async def require(self, request: AnyRequest) -> Response[Any] | None:
        """Send whoever is not signed in to where that can be done; to be called before a handler."""
        if self.is_signed_in(request):
            return None
        place = session.place_of(request.url.path)
        return Redirect("/login" if place == "/" else f"/login?place={place}", status_code=HTTP_303_SEE_OTHER)

    async def fault_of(self, text: str, address: str) -> str | None:
        """What is wrong with a token that an address sent; None lets it in. A wrong one is answered late."""
        wait_s = self.gate.wait_s(address)
        if wait_s:
            return f"Too many wrong tokens from {address}. Try again in {wait_s} s."
        if self.token_hash is not None and token.matches(text.strip(), self.token_hash):
            self.gate.right(address)
            return None
        await self.gate.wrong(address)
        return "This is not the admin token of this server."

    def cookie(self, request: AnyRequest) -> Cookie:
        """The cookie of a browser that has just given the right token."""
        assert self.token_hash is not None  # noqa: S101 - fault_of lets nobody in without one
        value = session.issue(self.token_hash, self._clock(), self._session_s)
        return _cookie(request, value, self._session_s)


def no_cookie(request: AnyRequest) -> Cookie:
    """What makes a browser forget the cookie."""
    return _cookie(request, "", 0)


def _cookie(request: AnyRequest, value: str, max_age_s: int) -> Cookie:
    return Cookie(
        key=session.COOKIE,
        value=value,
        max_age=max_age_s,
        path="/",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
