"""May they, now? One decision for all limits of a request, what follows when it ends, and what holds without the store.

An orchestration of pure parts against a :class:`~billing.limits.ports.Store`. Nothing here is the truth: a lost store is seen by its epoch, and
the live requests of every gateway are announced to the new one.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from uuid import UUID

from billing.clock import MICROSECONDS_PER_SECOND, Clock
from billing.errors import LimitReached, LimitsUnavailable, Unavailable
from billing.limits.bucket import Ask, Verdict, announced, ask_of, asked_again, asks_of, counting
from billing.limits.delivery import Delivery
from billing.limits.fallback import Fallback
from billing.limits.headers import Headers, Telling, duration, headers, telling_of
from billing.limits.leases import Leases
from billing.limits.limit import Limit, OnFailure
from billing.limits.need import Need
from billing.limits.outbox import Kind, Post
from billing.limits.permit import Permit, Place
from billing.limits.ports import NotExecuted, Store
from billing.limits.twin import Decision, State
from billing.limits.used import NOTHING, Used
from billing.limits.worst_case import never_fitting, refusal
from billing.settings import LimitsSettings

__all__ = ["CHECK_INTERVAL_S", "Admission", "Permit"]

CHECK_INTERVAL_S = 1.0
"""How often a worker calls :meth:`Admission.renew`: a lost store is noticed, and told of live requests, as soon."""
RETURN_GRACE_US = 2_000_000
"""How long every gateway has to announce its live requests to a store that lost its memory, and to renew a lease that was
found over because the store was away, hung, refused, or had its clock set on."""
FINISH_MAX_US = 2_000_000
"""How long a worker that ends waits until the store has taken what is left."""
ENDS_MAX = 20
"""Leases that are over of which one admission takes care."""
LIMITS_MAX = 50_000
"""Limits of which what they are asked is remembered; beyond them it is worked out anew."""
MEMORY_US = 600 * MICROSECONDS_PER_SECOND
"""How long the store remembers an ended id that might be sent again."""
CLOCK_SAMPLE_MAX_US = MICROSECONDS_PER_SECOND
"""A reply that took longer says too little about the store's clock."""
CLOCK_JUMP_US = MICROSECONDS_PER_SECOND
"""A clock that went so far on by itself was set, and leases may be over: all are renewed."""
# Members are looked up slowly, on the hot path.
_REFUSED, _ENDED = State.REFUSED, State.ENDED
_STORE, _WORKER, _UNCLEAR = Place.STORE, Place.WORKER, Place.UNCLEAR
_SETTLE = Kind.SETTLE


class Admission:
    """One worker's admission. Call :meth:`renew` every ``CHECK_INTERVAL_S`` and :meth:`reconnected` when the store is back.

    ``clock``: the host's, compared with the store's; ``monotonic``: for times on this worker. Requests without limits
    never come here.
    """

    def __init__(self, store: Store, clock: Clock, monotonic: Clock, settings: LimitsSettings) -> None:
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        self._lease_us = int(settings.lease_s * MICROSECONDS_PER_SECOND)
        self._difference_max_us = int(settings.clock_difference_max_s * MICROSECONDS_PER_SECOND)
        self._leases = Leases(
            store, int(settings.renewal_interval_s * MICROSECONDS_PER_SECOND), self._lease_us
        )
        self._live = self._leases.live
        self._delivery = Delivery(store, settings.queue_max)
        self._fallback = Fallback(settings.replicas_max)
        self._asked: dict[int, tuple[Limit, Ask, Telling | None]] = {}
        self._is_store_known = False
        self._epoch_us: int | None = None
        self._is_loss_counted = False
        self._checked_difference_us = 0
        self.clock_difference_us = 0
        """By how much the store's clock is ahead of this host's."""
        self.counts: Counter[tuple[str, ...]] = Counter()
        """``admitted``; ``refused`` and ``shadow`` with scope and meter; ``fallback`` open or closed;
        ``store`` failures (``unanswered``; ``refused`` where it surely did nothing) and losses (``lost``)."""

    def __repr__(self) -> str:
        state = "connected" if self._store.connected else "away"
        return f"<Admission store {state}, {len(self._live)} live, {self._delivery!r}>"

    @property
    def ready(self) -> bool:
        """False while this host's clock is off by more than ``clock_difference_max_s``."""
        return abs(self.clock_difference_us) <= self._difference_max_us

    @property
    def connected(self) -> bool:
        """Whether the store can be asked now."""
        return self._store.connected

    @property
    def live(self) -> int:
        """Requests that were admitted and have not ended."""
        return len(self._live)

    @property
    def unsent(self) -> int:
        """Settlements and the like that the store has not taken yet."""
        return len(self._delivery)

    @property
    def given_up(self) -> int:
        """Of those, how many were dropped because there were too many: each is charged in full instead."""
        return sum(self._delivery.given_up.values())

    @property
    def given_up_by_kind(self) -> dict[str, int]:
        """The same by what they would have done: ``settle``, ``release`` and ``grant``."""
        return {kind.value: count for kind, count in self._delivery.given_up.items()}

    async def admit(self, request_id: UUID, limits: Sequence[Limit], need: Need) -> Permit:
        """Admit a request that needs so much under all its limits or under none.

        Raises ``InvalidInput`` for one that a strict limit can never admit, ``LimitReached`` naming the limit that takes longest, or ``LimitsUnavailable`` naming one that must hold
        and cannot be checked.
        """
        never = never_fitting(limits, need)
        if never is not None:
            self.counts["refused", never.scope, never.meter.value] += 1
            raise refusal(never, need)
        if not self._store.connected:
            return self._decide_alone(request_id, limits, need, Place.WORKER)
        try:
            asks, tellings = self._asks(limits, need)
            decision = await self._ask(request_id, limits[0].tenant_id, asks)
        except NotExecuted:
            # It holds nothing of the request: there is nothing to release.
            self.counts["store", "refused"] += 1
            return self._decide_alone(request_id, limits, need, Place.WORKER)
        except Unavailable:
            self.counts["store", "unanswered"] += 1
            return self._decide_alone(request_id, limits, need, Place.UNCLEAR)
        except BaseException:
            # Nobody waits for the answer any more, whatever it is.
            self._release(limits[0].tenant_id, request_id)
            raise
        self._count_shadows(limits, decision.verdicts)
        told = headers(tellings, decision.verdicts)
        if decision.state is _REFUSED:
            raise self._refusal(limits, decision.verdicts, told)
        kept = tuple(counting(limits, decision.verdicts))
        permit = Permit(request_id, limits[0].tenant_id, need, kept, told, is_local=False)
        return self._admitted(permit, _STORE)

    def progress(self, permit: Permit, used: Used) -> None:
        """A stream has used so many tokens so far: they are charged with the next renewal of its lease.

        Its reservation shrinks by as much. What was charged so is never refunded; ``settle`` charges what is more.
        """
        self._live.progress(permit.id, used)

    def settle(self, permit: Permit, used: Used) -> None:
        """End a request: charge the tokens it used, what was reserved for those that nobody knows.

        Never waits, never raises; once is enough.
        """
        place = self._live.end(permit.id)
        if place is None:
            return
        if permit.is_local:
            is_told = place is not _WORKER
            self._fallback.settle(permit.id, used, self._monotonic(), is_told=is_told)
        if place is _WORKER:
            return
        if place is _UNCLEAR:
            # By its id, so that it counts once, whether the store had admitted it or not.
            self._delivery.post(self._grant_of(permit, place))
        memory_us = 0 if place is _STORE else MEMORY_US
        self._delivery.post(Post(_SETTLE, permit.tenant_id, permit.id.bytes, used, memory_us))

    def reconnected(self) -> None:
        """The store was reached, for the first time or again: its leases may have run on without us."""
        self._leases.renew_all()
        self._delivery.hold()
        self._store.returned()

    async def renew(self) -> None:
        """Look at the store's epoch and clock, renew what is due, and send what it has not taken. Never raises.

        Whatever fails of it keeps back nothing else: of a cluster one server may be away, and each is told its own.
        """
        if not self._store.connected:
            return
        for check in (self._check_epoch, self._renew_leases):
            try:
                await check()
            except Unavailable as fault:
                self.counts["store", "refused" if isinstance(fault, NotExecuted) else "unanswered"] += 1
        self._hand_over()
        self._delivery.flush()

    async def finish(self) -> None:
        """Before the worker ends: send what is left until the store has taken all, ``FINISH_MAX_US`` long. Never raises."""
        until_us = self._monotonic() + FINISH_MAX_US
        await self.renew()
        while self.unsent and self._monotonic() < until_us:
            await self._store.pause()
            await self.renew()

    # Asking the store.

    async def _ask(self, request_id: UUID, tenant_id: UUID, asks: Sequence[Ask]) -> Decision:
        before_us = self._clock()
        decision = await self._store.admit(
            tenant_id,
            request_id,
            asks,
            lease_us=self._lease_us,
            ends_max=ENDS_MAX,
            grace_us=RETURN_GRACE_US,
        )
        self._is_store_known = True
        self._compare_clocks(before_us, decision.now_us)
        if decision.begins:
            self._look_at(tenant_id)
        if decision.state is _ENDED:
            raise NotExecuted("the store does not decide: the request has ended")
        return decision

    def _look_at(self, tenant_id: UUID) -> None:
        """The store knew nothing of a tenant: it is new to the store, or the store is new, or that part of it is.

        Answers come in order: what was admitted since is not live here yet, and what is live was known before.
        """
        held = self._live.at_store(tenant_id)
        if lost := [permit for permit in held if not self._delivery.has_grant(permit.id.bytes)]:
            self.counts["store", "lost"] += 1
            self._is_loss_counted = True
            self._announce(lost)

    def _asks(self, limits: Sequence[Limit], need: Need) -> tuple[list[Ask], list[Telling | None]]:
        """What is asked and told of each limit; but for what is held it is the same each time, and remembered."""
        asks, tellings = [], []
        for limit in limits:
            known = self._asked.get(limit.id.int)
            if known is not None and known[0] is limit:
                # An end user has a bucket of his own.
                asks.append(ask_of(limit, need) if limit.per_end_user else asked_again(known[1], need))
                tellings.append(known[2])
                continue
            ask, telling = ask_of(limit, need), telling_of(limit)
            if len(self._asked) >= LIMITS_MAX:
                self._asked.clear()
            self._asked[limit.id.int] = (limit, ask, telling)
            asks.append(ask)
            tellings.append(telling)
        return asks, tellings

    def _compare_clocks(self, before_us: int, store_us: int) -> None:
        after_us = self._clock()
        if after_us - before_us <= CLOCK_SAMPLE_MAX_US:
            self.clock_difference_us = store_us - (before_us + after_us) // 2

    async def _check_epoch(self) -> None:
        before_us = self._clock()
        epoch = await self._store.epoch()
        self._is_store_known = True
        self._compare_clocks(before_us, epoch.now_us)
        if abs(self.clock_difference_us - self._checked_difference_us) > CLOCK_JUMP_US:
            self._leases.renew_all()
        self._checked_difference_us = self.clock_difference_us
        if self._epoch_us is not None and epoch.epoch_us != self._epoch_us:
            if not self._is_loss_counted:
                self.counts["store", "lost"] += 1
            self._announce(self._live.at_store())
        self._epoch_us, self._is_loss_counted = epoch.epoch_us, False

    # What the answer means.

    def _admitted(self, permit: Permit, place: Place) -> Permit:
        self._live.put(permit, place)
        self.counts["admitted",] += 1
        return permit

    def _count_shadows(self, limits: Sequence[Limit], verdicts: Sequence[Verdict]) -> None:
        for limit, verdict in zip(limits, verdicts, strict=True):
            if not verdict.fits and not limit.is_enforced:
                self.counts["shadow", limit.scope, limit.meter.value] += 1

    def _refusal(self, limits: Sequence[Limit], verdicts: Sequence[Verdict], told: Headers) -> LimitReached:
        refusing = [
            (verdict.wait_us, limit)
            for limit, verdict in zip(limits, verdicts, strict=True)
            if not verdict.fits and limit.is_enforced
        ]
        wait_us, limit = max(refusing, key=lambda each: each[0])
        self.counts["refused", limit.scope, limit.meter.value] += 1
        return LimitReached(
            f"Rate limit reached: {limit.sentence()}. Please try again in {duration(wait_us).decode()}.",
            meter=limit.meter.value,
            retry_after_us=wait_us,
            headers=told,
        )

    # Without the store.

    def _decide_alone(self, request_id: UUID, limits: Sequence[Limit], need: Need, place: Place) -> Permit:
        """Each limit's own policy; a limit that only counts does not matter now."""
        enforced = tuple(limit for limit in limits if limit.is_enforced)
        closed = next((limit for limit in enforced if limit.on_failure is OnFailure.CLOSED), None)
        if closed is None and enforced and not self._is_store_known:
            closed = enforced[0]  # a worker that never reached the store does not know what others admitted
        decision = None
        if closed is None:
            is_told = place is Place.UNCLEAR
            decision = self._fallback.admit(request_id, enforced, need, self._monotonic(), is_told=is_told)
        if decision is not None and decision.state is State.ADMITTED:
            self.counts["fallback", "open"] += 1
            permit = Permit(request_id, limits[0].tenant_id, need, enforced, [], is_local=True)
            return self._admitted(permit, place)
        if place is Place.UNCLEAR:
            self._release(limits[0].tenant_id, request_id)
        if decision is not None:
            raise self._refusal(enforced, decision.verdicts, [])
        self.counts["fallback", "closed"] += 1
        raise LimitsUnavailable(
            f"the limit of {(closed or enforced[0]).sentence()} cannot be checked at the moment; try again shortly"
        )

    def _hand_over(self) -> None:
        """Tell the store what this worker admitted by itself: what still runs, and what was used."""
        now_us = self._monotonic()
        for permit in self._live.at_worker():
            # Its share stays taken until it ends: the next outage hands out no more than what is left.
            self._grant(permit)
        for debt in self._fallback.owed(now_us):
            self._delivery.keep(
                Post(Kind.GRANT, debt.limit.tenant_id, debt.id, lease_us=MEMORY_US, asks=(debt.ask(),))
            )

    # What must reach the store.

    async def _renew_leases(self) -> None:
        lost, fault = await self._leases.renew(self._monotonic())
        self._announce(lost)
        if fault is not None:
            raise fault

    def _announce(self, permits: Iterable[Permit]) -> None:
        """Tell a store that lost live requests of them; one that has them takes nothing twice."""
        for permit in permits:
            place = self._live.place(permit.id)
            if place is not None and place.is_store and not self._delivery.has_grant(permit.id.bytes):
                self._grant(permit)

    def _grant(self, permit: Permit) -> None:
        """Have the store hold what a live request holds."""
        post = self._grant_of(permit, self._live.place(permit.id))
        self._live.put(permit, Place.ANNOUNCED)
        self._delivery.keep(post)

    def _grant_of(self, permit: Permit, place: Place | None) -> Post:
        """What makes a request known to the store. Where its answer did not come, it is asked for all of it again."""
        asks, charged = asks_of(permit.limits, permit.need), NOTHING
        if place is not Place.UNCLEAR:
            asks = [ask for ask in asks if ask.hold > 0]
        if place is not None and place.is_store:
            charged = self._live.charged(permit.id)
            asks = [announced(ask, charged) for ask in asks]
        return Post(
            Kind.GRANT,
            permit.tenant_id,
            permit.id.bytes,
            lease_us=self._lease_us,
            asks=tuple(asks),
            charged=charged,
        )

    def _release(self, tenant_id: UUID, request_id: UUID) -> None:
        self._delivery.post(Post(Kind.RELEASE, tenant_id, request_id.bytes, memory_us=MEMORY_US))
