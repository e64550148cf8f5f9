"""``/v1/limits``: what counts the caller's requests, and what is left of it."""

from collections.abc import Sequence

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler

from billing.clock import rfc3339
from billing.errors import Unavailable
from billing.limits.bucket import Verdict
from billing.limits.limit import Limit, Meter, in_force
from billing.portal.caller import Calling
from billing.portal.services import Portal


class LimitDocument(msgspec.Struct, frozen=True):
    """At most ``amount`` in ``window_s`` seconds, or at once without a window, for whom ``scope`` says.

    ``remaining`` and ``reset_s`` (until all of it is there again) are null of a limit for each end user, which has as many
    states, and while the state cannot be asked. A limit that is not ``enforced`` only counts.
    """

    scope: str
    model: str | None
    meter: Meter
    amount: int
    window_s: int | None
    burst: int | None
    strict: bool
    enforced: bool
    boosted_until: str | None
    remaining: int | None
    reset_s: float | None


class LimitsDocument(msgspec.Struct, frozen=True):
    """Every limit that counts the caller, widest first."""

    limits: list[LimitDocument]


def limit_handlers(portal: Portal) -> list[HTTPRouteHandler]:
    """The route, over what it works with."""

    @get("/limits", include_in_schema=False)
    async def read_limits(request: Calling) -> LimitsDocument:
        """The limits of the key, its project and its tenant, and what is left of each now."""
        now_us = portal.clock()
        told = portal.directory.limits_of(request.user)
        limits = in_force(told, now_us)
        found = await _looked_at(portal, request, [each for each in limits if not each.per_end_user])
        return LimitsDocument(
            [_document(was, now, found.get(now.id.int)) for was, now in zip(told, limits, strict=True)]
        )

    return [read_limits]


async def _looked_at(portal: Portal, request: Calling, limits: Sequence[Limit]) -> dict[int, Verdict]:
    if portal.looks is None or not limits:
        return {}
    try:
        verdicts = await portal.looks.look(request.user.tenant_id, limits)
    except Unavailable:
        return {}
    return {limit.id.int: verdict for limit, verdict in zip(limits, verdicts, strict=True)}


def _document(was: Limit, now: Limit, verdict: Verdict | None) -> LimitDocument:
    is_boosted = now.amount != was.amount
    return LimitDocument(
        scope=now.scope,
        model=now.model,
        meter=now.meter,
        amount=now.amount,
        window_s=now.window_s,
        burst=now.burst,
        strict=now.is_strict,
        enforced=now.is_enforced,
        boosted_until=rfc3339(was.boost_until_us) if is_boosted and was.boost_until_us is not None else None,
        remaining=None if verdict is None else verdict.remaining,
        reset_s=None if verdict is None else verdict.reset_us / 1_000_000,
    )
