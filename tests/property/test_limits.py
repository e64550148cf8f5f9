"""The scripts on a real Valkey and their twin in Python decide the same over random histories, and neither breaks the law."""

from collections import Counter
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.limits.bucket import Ask
from billing.limits.twin import State, Twin
from billing.limits.used import NOTHING, UNKNOWN, Side, Used
from tests.limits_kit import Scripts, fresh_tenant, used

BEGIN_US = 1_795_500_000_000_000
LEASE_US = 30_000_000
IDS = 6

amounts = st.sampled_from([1, 2, 7, 50, 1_000, 100_000, 10**9, 10**12])


@st.composite
def asks(draw: st.DrawFn, number: int) -> Ask:
    """What a request may ask of a limit of a few kinds; another amount each time is a limit that was changed."""
    amount = draw(amounts)
    burst = draw(st.integers(1, amount * 2)) if draw(st.booleans()) else amount
    created_us = BEGIN_US + draw(st.sampled_from([-1, 0, 10**12]))
    kind, is_shadow = number % 3, draw(st.integers(0, 5)) == 0
    window_us = draw(st.sampled_from([1, 60, 60, 3_600, 86_400])) * 1_000_000
    if is_strict := draw(st.booleans()):
        burst = amount
    if kind == 0:
        take = draw(st.sampled_from([1.0, 1.0, 1.0, 1 / 3]))  # what a worker owes is no whole number
        return Ask(
            f"{number:032x}",
            amount,
            window_us,
            burst,
            created_us,
            take,
            0.0,
            is_shadow,
            Side.NEITHER,
            is_strict,
        )
    if kind == 1:
        bound = min(burst, draw(st.integers(1, max(1, burst // 2))))
        take = draw(st.sampled_from([0.0, 0.0, 0.0, -bound]))  # announced again after a loss
        side = (Side.BOTH, Side.INPUT, Side.OUTPUT)[number % 2 + draw(st.integers(0, 1))]
        return Ask(
            f"{number:032x}", amount, window_us, burst, created_us, take, bound, is_shadow, side, is_strict
        )
    return Ask(
        f"{number:032x}", min(amount, 3), 0, min(amount, 3), created_us, 0.0, 1.0, is_shadow, Side.NEITHER
    )


tokens = st.one_of(st.none(), st.integers(0, 2_000))
uses = st.builds(Used, tokens, tokens)
times = st.one_of(
    st.integers(0, 2_000_000),
    st.integers(0, 100_000_000),
    st.just(-1_000_000),
    st.integers(0, 200_000_000_000),
)
usage_ids = st.integers(0, IDS - 1).map(lambda number: b"usage-%d" % number)


@st.composite
def admissions(draw: st.DrawFn) -> tuple[str, Any]:
    numbers = draw(st.lists(st.integers(0, 5), max_size=4, unique=True))
    words = {
        "charged": draw(
            st.sampled_from([None, None, None, None, None, None, NOTHING, Used(30.0, 0.0), Used(5.0, 9.0)])
        ),
        "ends_max": draw(st.sampled_from([0, 1, 20])),
        "grace_us": draw(st.sampled_from([0, 5_000_000])),
        "lease_us": draw(st.sampled_from([LEASE_US, 1_000])),
    }
    return "admit", (draw(times), draw(usage_ids), [draw(asks(number)) for number in numbers], words)


@st.composite
def settlements(draw: st.DrawFn) -> tuple[str, Any]:
    words = {
        "is_released": draw(st.integers(0, 4)) == 0,
        "memory_us": draw(st.sampled_from([0, 0, LEASE_US])),
    }
    return "settle", (draw(times), draw(usage_ids), draw(uses), words)


@st.composite
def renewals(draw: st.DrawFn) -> tuple[str, Any]:
    usages = draw(st.lists(st.tuples(usage_ids, uses), max_size=4))
    return "renew", (draw(times), usages, None, {"lease_us": draw(st.sampled_from([LEASE_US, 1_000]))})


histories = st.lists(
    st.one_of(admissions(), admissions(), settlements(), renewals()), min_size=1, max_size=40
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories)
def test_scripts_and_twin_decide_the_same(valkey_url: str, history: list[tuple[str, Any]]) -> None:
    scripts, twin, now = Scripts(valkey_url, fresh_tenant()), Twin(), BEGIN_US
    for what, (step, subject, detail, words) in history:
        now += step
        if what == "admit":
            words["epoch_us"] = BEGIN_US  # of the first; the tenant is known then
        given = (subject, now) if what == "renew" else (subject, detail, now)
        answers = [getattr(place, what)(*given, **words) for place in (scripts, twin)]
        assert answers[0] == answers[1]
    scripts.close()


class Ledger:
    """What a history of one limit used and reserved, by time: the law is checked on it and not on any bucket."""

    def __init__(self) -> None:
        self.used: list[tuple[int, float]] = []
        self.reserved: dict[bytes, tuple[float, int]] = {}
        self.told: dict[bytes, float] = {}

    def admit(self, usage_id: bytes, hold: float, ends: int) -> None:
        """A request is held, once."""
        self.reserved.setdefault(usage_id, (hold, ends))

    def use(self, usage_id: bytes, used: float, now: int, ends: int | None = None) -> None:
        """A request has used so much in all, of its bound; it goes on until ``ends``, or ends now."""
        held, before = self.reserved.pop(usage_id)
        told = self.told.pop(usage_id, 0.0)
        more = min(held, max(0.0, used - told))
        self.used.append((now, more))
        if ends is not None:
            self.reserved[usage_id] = (held - more, max(before, ends))
            self.told[usage_id] = max(told, used)

    def end_leases(self, now: int) -> None:
        """What was never settled counts as used in full."""
        for usage_id, (bound, ends) in list(self.reserved.items()):
            if ends <= now:
                self.used.append((now, bound))
                del self.reserved[usage_id]
                self.told.pop(usage_id, None)

    def most(self, since: int, now: int) -> float:
        """Used from ``since`` on, each request up to its bound, and reserved now."""
        return sum(used for at, used in self.used if at >= since) + sum(
            bound for bound, _ in self.reserved.values()
        )


steps = st.tuples(
    st.one_of(st.integers(0, 3_000_000), st.integers(0, 90_000_000)),
    st.sampled_from(["admit", "admit", "settle", "renew", "fallen"]),
    st.integers(1, 150),
    st.integers(0, IDS - 1),
    st.integers(0, 200),
)


@settings(max_examples=300, deadline=None)
@given(history=st.lists(steps, min_size=1, max_size=60), burst=st.sampled_from([20, 100, 300]))
def test_no_interval_sees_more_tokens_than_burst_and_refill(
    history: list[tuple[int, str, int, int, int]], burst: int
) -> None:
    ledger, twin, now = Ledger(), Twin(epoch_us=0), BEGIN_US
    moments = [now]
    for step, what, bound, number, tokens_used in history:
        now += step
        moments.append(now)
        usage_id, hold = b"%d" % number, min(bound, burst)
        ask = Ask("tokens", 100, 60_000_000, burst, BEGIN_US, 0.0, hold)
        ledger.end_leases(now)
        twin.admit(b"nobody", [], now, lease_us=1, ends_max=99)
        if what == "admit" and twin.admit(usage_id, [ask], now, lease_us=LEASE_US).state is State.ADMITTED:
            ledger.admit(usage_id, hold, now + LEASE_US)
        elif what == "renew" and twin.renew([(usage_id, used(tokens_used))], now, lease_us=LEASE_US):
            ledger.use(usage_id, tokens_used, now, now + LEASE_US)
        elif what == "settle" and twin.settle(usage_id, used(tokens_used), now):
            ledger.use(usage_id, tokens_used, now)
        for since in moments:
            assert ledger.most(since, now) <= burst + 100 * (now - since) / 60_000_000 + 1e-3


@settings(max_examples=300, deadline=None)
@given(history=st.lists(steps, min_size=1, max_size=60))
def test_no_window_of_a_strict_limit_sees_more_than_its_amount_and_the_told_wait_is_exact(
    history: list[tuple[int, str, int, int, int]],
) -> None:
    twin, now, used_in = Twin(epoch_us=0), BEGIN_US + 7_000_000, Counter[int]()
    bounds: dict[bytes, int] = {}
    for number, (step, what, bound, _, share) in enumerate(history):
        now += step
        usage_id, hold = b"%d" % number, min(bound, 100)
        ask = Ask("tokens", 100, 60_000_000, 100, BEGIN_US, 0.0, hold, is_strict=True)
        answer = twin.admit(usage_id, [ask], now, lease_us=1 << 60)
        if answer.state is State.REFUSED:
            (told,) = answer.verdicts
            early = now + told.wait_us - 1
            reserved = sum(bounds.values())
            assert reserved + hold > 100 or told.wait_us <= 60_000_000
            assert twin.admit(b"early", [ask], early, lease_us=1).state is State.REFUSED
            if reserved + hold <= 100:
                now += told.wait_us
                assert twin.admit(usage_id, [ask], now, lease_us=1 << 60).state is State.ADMITTED
                bounds[usage_id] = hold
        else:
            bounds[usage_id] = hold
        if what in {"settle", "renew"} and bounds:
            ended, most = bounds.popitem()
            tokens_used = min(most, share)  # its bound is its worst case
            twin.settle(ended, used(tokens_used), now)
            used_in[now // 60_000_000] += tokens_used
        assert used_in[now // 60_000_000] + sum(bounds.values()) <= 100


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(st.integers(0, 5_000_000), min_size=1, max_size=150),
    burst=st.sampled_from([1, 5, 50, 200]),
)
def test_no_interval_sees_more_requests_and_the_told_wait_is_exact(steps: list[int], burst: int) -> None:
    twin, now, admitted = Twin(epoch_us=0), BEGIN_US, []
    ask = Ask("requests", 50, 60_000_000, burst, BEGIN_US, 1.0, 0.0)
    for number, step in enumerate(steps):
        now += step
        answer = twin.admit(b"%d" % number, [ask], now, lease_us=1)
        if answer.state is State.REFUSED:
            early = now + answer.verdicts[0].wait_us - 2
            assert twin.admit(b"early%d" % number, [ask], early, lease_us=1).state is State.REFUSED
            now += answer.verdicts[0].wait_us
            assert twin.admit(b"again%d" % number, [ask], now, lease_us=1).state is State.ADMITTED
        admitted.append(now)
    for first, since in enumerate(admitted):
        for last in range(first, len(admitted)):
            most = burst + 50 * (admitted[last] - since) / 60_000_000
            assert last - first + 1 <= most + 1e-3


@given(missing=st.integers(1, 10**12), amount=amounts)
def test_waiting_exactly_the_told_time_is_enough_for_numbers_of_any_size(missing: int, amount: int) -> None:
    burst = amount * 1_000 if amount < 10**10 else 10**12
    hold = min(missing, burst)
    ask = Ask("tokens", amount, 60_000_000, burst, BEGIN_US, 0.0, hold)
    twin = Twin(epoch_us=0)
    twin.admit(b"a", [msgspec.structs.replace(ask, hold=0.0, take=float(burst))], BEGIN_US, lease_us=1)
    wait_us = twin.admit(b"b", [ask], BEGIN_US, lease_us=1).verdicts[0].wait_us
    assert twin.admit(b"b", [ask], BEGIN_US + wait_us, lease_us=1).state is State.ADMITTED


holds = st.lists(st.integers(1, 60), max_size=4)


@settings(max_examples=300, deadline=None)
@given(used=st.integers(0, 100), held=holds, bound=st.integers(1, 100), later=st.integers(0, 10))
def test_the_told_wait_of_a_token_limit_counts_on_nothing_uncertain(
    used: int, held: list[int], bound: int, later: int
) -> None:
    twin = Twin(epoch_us=0)
    ask = Ask("tokens", 100, 60_000_000, 100, BEGIN_US, 0.0, float(bound))
    for number, hold in enumerate([used, *held]):
        taken, kept = (float(hold), 0.0) if number == 0 else (0.0, float(hold))
        twin.admit(
            b"%d" % number, [msgspec.structs.replace(ask, take=taken, hold=kept)], BEGIN_US, lease_us=1
        )
    now = BEGIN_US + later * 1_000_000
    answer = twin.admit(b"new", [ask], now, lease_us=1)
    if answer.state is State.ADMITTED:
        return
    (verdict,) = answer.verdicts
    bucket = twin.buckets["tokens"]
    if bound + bucket.reserved <= 100:  # whatever becomes of what runs: as long as it is held, it is exact
        early = now + verdict.wait_us - 2
        assert twin.admit(b"early", [ask], early, lease_us=1).state is State.REFUSED
    else:  # only the end of what runs makes room: here it ends at once, used in full
        assert verdict.wait_us == verdict.reset_us
        for number in range(1, len(held) + 1):
            twin.settle(b"%d" % number, UNKNOWN, now)
    assert twin.admit(b"again", [ask], now + verdict.wait_us, lease_us=1).state is State.ADMITTED
