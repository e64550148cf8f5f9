"""Who may see the pages: a browser that has given the admin token once, and shows the cookie that it was given for it."""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.datastructures import Cookie
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER

from billing.access import token
from billing.clock import Clock
from billing.dashboard import session
from billing.dashboard.caller import THIS_MACHINE, Caller, Network, caller_of
from billing.dashboard.gate import Gate

AnyRequest = Request[Any, Any, Any]

SENT_AGAIN = (
    "An admin token is what `billing admin-token` prints; `billing admin-token --new` makes another one."
)


class Refusal(msgspec.Struct, frozen=True):
    """Why a token does not let in; ``wait_s`` is above 0 when too many were wrong to answer this one in full."""

    text: str
    wait_s: int = 0


class Access:
    """Decides who is signed in. Without a token's hash nobody ever is.

    ``trusted`` are the networks of proxies whose word on the caller's address and on TLS is believed.
    """

    def __init__(
        self,
        token_hash: str | None,
        session_s: int,
        clock: Clock,
        gate: Gate,
        trusted: Sequence[Network] = THIS_MACHINE,
    ) -> None:
        self.token_hash = token_hash
        self._gate = gate
        self._session_s = session_s
        self._clock = clock
        self._trusted = trusted

    def __repr__(self) -> str:
        return f"<Access {'open' if self.token_hash else 'closed'} {self._gate!r}>"

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

    def caller(self, request: AnyRequest) -> Caller:
        """Who sent a request, as far as the connection and trusted proxies say."""
        headers = request.headers
        return caller_of(
            request.client.host if request.client else "an unknown address",
            request.url.scheme,
            ",".join(headers.getall("x-forwarded-for", [])),
            headers.get("x-forwarded-proto", ""),
            self._trusted,
        )

    async def refusal_of(self, text: str, request: AnyRequest) -> Refusal | None:
        """What is wrong with a token; None lets it in. The right one is compared before anything that may refuse."""
        caller = self.caller(request)
        if self.token_hash is not None and token.matches(text.strip(), self.token_hash):
            self._gate.right(caller.client)
            return None
        wait_s = await self._gate.wrong(caller.client)
        if wait_s:
            return Refusal(
                f"Too many wrong tokens from {caller.address}. The right one is let in at any time.", wait_s
            )
        return Refusal("This is not the admin token of this server.")

    def cookie(self, request: AnyRequest) -> Cookie:
        """The cookie of a browser that has just given the right token."""
        assert self.token_hash is not None  # noqa: S101 - fault_of lets nobody in without one
        value = session.issue(self.token_hash, self._clock(), self._session_s)
        return self._cookie(request, value, self._session_s)

    def no_cookie(self, request: AnyRequest) -> Cookie:
        """What makes a browser forget the cookie."""
        return self._cookie(request, "", 0)

    def _cookie(self, request: AnyRequest, value: str, max_age_s: int) -> Cookie:
        """A cookie that a browser sends over TLS alone, if it came by TLS: to us, or to a trusted proxy that says so.

        Without TLS it must do without: on ``http://127.0.0.1:8091`` some browsers would never send it again.
        """
        return Cookie(
            key=session.COOKIE,
            value=value,
            max_age=max_age_s,
            path="/",
            httponly=True,
            samesite="strict",
            secure=self.caller(request).is_secure,
        )
