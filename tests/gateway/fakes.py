"""Plain stand-ins for what the proxy is given. All write into one journal, because the order of effects is the promise.

A test ties an action to a line of the journal (the caller hangs up after the fifth effect, say) and reads the rest.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from billing.directory.caller import Backend, Caller, Deployment, Model, Target
from billing.directory.prices import PlanHead, PlanVersion, Subscribed
from billing.directory.snapshot import Changes, Snapshot
from billing.errors import BillingError, SpoolFull, Unauthenticated, Unavailable, UpstreamBroken
from billing.gateway.forward import Destination
from billing.gateway.ports import Exchange, Headers, Request
from billing.gateway.proxy import Proxy
from billing.ids import uuid7
from billing.limits.admission import Permit
from billing.limits.limit import Enforce, Limit, Meter, OnFailure
from billing.limits.need import Need
from billing.limits.used import Side, Used
from billing.metering.event import Closed, Opened, Progress, decode_entry, encode_entry
from billing.pricing.parse import parse
from billing.pricing.term import Term
from billing.settings import Durability, GatewaySettings
from billing.tokens.engines import Tokenize
from tests.gateway.fake_client import NOW_US, FakeClient, FakeClock, Journal

KEY = b"Bearer sk-known"
TENANT_ID, KEY_ID, MODEL_ID, BACKEND_ID, DEPLOYMENT_ID, PLAN_ID = (UUID(int=number) for number in range(1, 7))
CALLER = Caller(tenant_id=TENANT_ID, tenant="acme", project_id=None, key_id=KEY_ID, tags={"team": "a"})
USAGE_ID = uuid7(NOW_US, b"0123456789")


Step = bytes | BillingError | Callable[[], None]


class FakeReply:
    """An engine's reply by script: pieces to read, errors to raise, actions to take in between.

    After ``hang_up`` only ``after_hang_up`` still comes; ``whole=False``: the body ends without its promised end.
    """

    def __init__(
        self,
        *steps: Step,
        status: int = 200,
        headers: Headers | None = None,
        after_hang_up: tuple[Step, ...] = (),
        whole: bool = True,
    ) -> None:
        self._steps = list(steps)
        self._after_hang_up = after_hang_up
        self._whole = whole
        self._journal = Journal()
        self.status = status
        self.headers = [(b"content-type", b"text/event-stream")] if headers is None else headers
        self.complete = False
        self.hung_up = False
        self.closed = False

    def __repr__(self) -> str:
        return f"<FakeReply {self.status} {len(self._steps)} steps left>"

    def bind(self, journal: Journal) -> None:
        """Write into this journal from now on."""
        self._journal = journal

    async def pump(self, sink: Callable[[bytes], bool]) -> bool:
        while piece := await self.read():
            if not sink(piece):
                return True
        return False

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        while self._steps and not self.closed:
            step = self._steps[0]
            if isinstance(step, BillingError):
                self._journal.note("broke", step)
                raise step
            self._steps.pop(0)
            if isinstance(step, bytes):
                self._journal.note("read", step)
                if step:
                    self._end_with_the_last()
                return step
            step()
        self._end_with_the_last()
        return b""

    def _end_with_the_last(self) -> None:
        """The end of a body comes in the read of its last piece, mostly."""
        if not self._steps:
            self.complete = self._whole and not self.hung_up and not self.closed

    def hang_up(self, grace_s: float) -> None:
        self.hung_up = True
        self._steps = list(self._after_hang_up)
        self._journal.note("hang_up", grace_s)

    def expire(self, limit_s: float) -> None:
        self._journal.note("expire", limit_s)

    def close(self) -> None:
        self.closed = True
        self._journal.note("released")


def json_reply(body: bytes, status: int = 200, **arguments: Any) -> FakeReply:
    """A whole JSON reply in one piece."""
    headers = [(b"content-type", b"application/json"), (b"server", b"engine"), (b"x-request-id", b"theirs")]
    return FakeReply(body, status=status, headers=headers, **arguments)


class Sent(NamedTuple):
    """What went to an engine."""

    destination: Destination
    head: bytes
    body: bytes


class FakeUpstream:
    """Answers with what it was given, in turn; an error instead of a reply is raised, and a hang-up before the head."""

    def __init__(self, journal: Journal, *answers: FakeReply | Exception) -> None:
        self._journal = journal
        self._answers = list(answers)

    def __repr__(self) -> str:
        return f"<FakeUpstream {len(self._answers)} answers left>"

    async def send(
        self, destination: Destination, head: bytes, body: bytes, begun: Callable[[Exchange], None]
    ) -> FakeReply:
        self._journal.note("send", Sent(destination, head, body))
        answer = self._answers.pop(0)
        reply = answer if isinstance(answer, FakeReply) else FakeReply()
        reply.bind(self._journal)
        begun(reply)
        await asyncio.sleep(0)
        self._journal.note("waited")
        if isinstance(answer, Exception):
            raise answer
        if reply.hung_up:
            raise UpstreamBroken("the engine closed after the hang-up")
        return reply


class FakeSpool:
    """A log in memory; every entry goes through its bytes. ``full`` names the entries it has no room for."""

    def __init__(
        self, journal: Journal, *, full: tuple[str, ...] = (), unsynced: Unavailable | None = None
    ) -> None:
        self._journal = journal
        self._full = full
        self._unsynced = unsynced
        self.opened: list[Opened] = []
        self.progressed: list[Progress] = []
        self.closed: list[Closed] = []

    def __repr__(self) -> str:
        return f"<FakeSpool {len(self.opened)} opened {len(self.closed)} closed>"

    def open(self, entry: Opened) -> None:
        self._keep("open", entry, self.opened)

    def progress(self, entry: Progress) -> None:
        self._keep("progress", entry, self.progressed)

    def close(self, entry: Closed) -> int:
        self._keep("close", entry, self.closed)
        return len(self.closed)

    async def synced(self, position: int) -> None:
        self._journal.note("syncing", position)
        await asyncio.sleep(0)
        if self._unsynced is not None:
            raise self._unsynced
        self._journal.note("synced", position)

    def _keep(self, name: str, entry: Any, kept: list[Any]) -> None:
        if name in self._full:
            raise SpoolFull("the local log has no room")
        assert decode_entry(encode_entry(entry)) == entry
        kept.append(entry)
        self._journal.note(name, entry)


class FakeDirectory:
    """Callers by their header, models from a snapshot."""

    def __init__(
        self, callers: dict[bytes, Caller | BillingError], snapshot: Snapshot, limits: tuple[Limit, ...] = ()
    ) -> None:
        self._callers = callers
        self._snapshot = snapshot
        self._limits = limits

    def __repr__(self) -> str:
        return f"<FakeDirectory {len(self._callers)} callers {self._snapshot!r}>"

    def caller(self, authorization: bytes | None, now_us: int) -> Caller:
        found = self._callers.get(authorization or b"", Unauthenticated("incorrect API key provided"))
        if isinstance(found, BillingError):
            raise found
        return found

    def model(self, name: str) -> Model:
        return self._snapshot.model(name)

    def targets(self, model: Model) -> tuple[Target, ...]:
        return self._snapshot.targets(model)

    def limits(self, caller: Caller, model: str) -> tuple[Limit, ...]:
        return self._limits

    def models(self) -> list[Model]:
        return self._snapshot.models()

    def terms(self, tenant_id: UUID) -> tuple[Term, ...]:
        return self._snapshot.prices.terms(tenant_id)

    def prices_reasoning_apart(self, tenant_id: UUID, model_name: str, at_us: int) -> bool:
        return self._snapshot.prices.prices_reasoning_apart(tenant_id, model_name, at_us)


class FakeAdmission:
    """Admits everything with these headers, or refuses with an error; notes both."""

    def __init__(self, journal: Journal, answer: Headers | BillingError) -> None:
        self._journal = journal
        self._answer = answer

    def __repr__(self) -> str:
        return f"<FakeAdmission {self._answer!r}>"

    async def admit(self, request_id: UUID, limits: Sequence[Limit], need: Need) -> Permit:
        self._journal.note("admit", need.total)
        await asyncio.sleep(0)
        if isinstance(self._answer, BillingError):
            raise self._answer
        return Permit(request_id, TENANT_ID, need, tuple(limits), self._answer, is_local=False)

    def progress(self, permit: Permit, used: Used) -> None:
        assert permit.id == USAGE_ID
        self._journal.note("progressed", used.of(Side.BOTH))

    def settle(self, permit: Permit, used: Used) -> None:
        assert permit.id == USAGE_ID
        self._journal.note("settle", used.of(Side.BOTH))


class FakeTokenizer:
    """Always counts the same; None: it cannot."""

    def __init__(self, journal: Journal, answer: int | None) -> None:
        self._journal = journal
        self._answer = answer

    def __repr__(self) -> str:
        return f"<FakeTokenizer {self._answer}>"

    async def count(self, target: Target, how: Tokenize, text: str) -> int | None:
        await asyncio.sleep(0)
        self._journal.note("count", (how.path, text))
        return self._answer

    async def count_here(self, vocabulary: str, text: str) -> int | None:
        await asyncio.sleep(0)
        self._journal.note("count", (vocabulary, text))
        return self._answer


def limit(meter: Meter = Meter.REQUESTS, amount: int = 50) -> Limit:
    """A limit of the tenant, for all models."""
    window_s = None if meter is Meter.CONCURRENCY else 60
    return Limit(
        UUID(int=9), TENANT_ID, None, None, None, meter, amount, window_s, None, Enforce.ENFORCED, OnFailure.CLOSED, NOW_US
    )  # fmt: skip


APART = '{model: "*", input: 1, output: 2, reasoning: "0.5"}'
"""Rates that price reasoning apart from the rest of an answer."""


def priced(rates: str) -> Changes:
    """The tenant on a plan of these entries of rates, per 1,000, in US dollars."""
    version = f"  - {{effective: 2026-01-01T00:00:00Z, per: 1000, rates: [{rates}]}}"
    content = parse(f"plan: gold\ncurrency: USD\nversions:\n{version}\n").versions[0].content
    return Changes(
        version=2,
        plans=(PlanHead(PLAN_ID, "gold", "USD", 0, version=2),),
        plan_versions=(PlanVersion(PLAN_ID, 1, 0, msgspec.Raw(msgspec.json.encode(content)), version=2),),
        subscriptions=(Subscribed(PLAN_ID, TENANT_ID, PLAN_ID, 0, None, version=2),),
    )


def snapshot(
    engine: str = "llama.cpp",
    url: str = "http://engine:8000",
    *,
    served: bool = True,
    rates: str = "",
    tags: tuple[str, str] | None = None,
    tokenizer: str | None = None,
    context_tokens: int | None = None,
    output_cap: int | None = None,
    **changes: Any,
) -> Snapshot:
    """One model ``tiny`` (alias ``small``) at one backend, which calls it ``weights``; ``changes`` are the backend's.

    With ``rates`` the tenant has a plan of them; ``tags``, ``tokenizer`` and lengths are the model's.
    """
    backend = Backend(BACKEND_ID, "gpu-1", url, engine, None, None, archived=False, version=1)
    start, end = tags or (None, None)
    model = Model(
        MODEL_ID, "tiny", ("small",), archived=False, created_us=NOW_US, version=1, reasoning_start=start,
        reasoning_end=end, tokenizer=tokenizer, context_tokens=context_tokens, output_cap=output_cap,
    )  # fmt: skip
    place = Deployment(DEPLOYMENT_ID, MODEL_ID, BACKEND_ID, "weights", 1, 0, archived=not served, version=1)
    made = Snapshot()
    backends = (msgspec.structs.replace(backend, **changes),)
    made.apply(Changes(version=1, backends=backends, models=(model,), deployments=(place,)))
    if rates:
        made.apply(priced(rates))
    return made


class World:
    """A proxy among fakes. ``answers`` are the engine's; other arguments change one fake each."""

    def __init__(
        self,
        *answers: FakeReply | Exception,
        engine: str = "llama.cpp",
        directory: Snapshot | None = None,
        callers: dict[bytes, Caller | BillingError] | None = None,
        full: tuple[str, ...] = (),
        unsynced: Unavailable | None = None,
        tokens: int | None = 20,
        breaks_at: str | None = None,
        durability: Durability = Durability.BEFORE_REPLY,
        reply_body_bytes_max: int = 1 << 20,
        limits: tuple[Limit, ...] = (),
        admission: Headers | BillingError | None = None,
    ) -> None:
        self.journal = Journal()
        self.clock = FakeClock()
        self.client = FakeClient(self.journal, breaks_at=breaks_at)
        self.spool = FakeSpool(self.journal, full=full, unsynced=unsynced)
        self.upstream = FakeUpstream(self.journal, *answers)
        self.proxy = Proxy(
            directory=FakeDirectory(callers or {KEY: CALLER}, directory or snapshot(engine), limits),
            upstream=self.upstream,
            spool=self.spool,
            admission=FakeAdmission(self.journal, admission or []),
            tokenizer=FakeTokenizer(self.journal, tokens),
            clock=self.clock,
            settings=GatewaySettings(durability=durability, reply_body_bytes_max=reply_body_bytes_max),
        )

    def __repr__(self) -> str:
        return f"<World {self.journal!r}>"

    @property
    def record(self) -> Closed:
        """The one close entry there must be of the one open entry."""
        assert len(self.spool.opened) == len(self.spool.closed) == 1, self.journal
        assert self.spool.opened[0].id == self.spool.closed[0].id == USAGE_ID
        return self.spool.closed[0]

    async def serve(
        self,
        body: bytes = b"",
        path: str = "/v1/chat/completions",
        method: str = "POST",
        headers: dict[bytes, bytes] | None = None,
        authorization: bytes | None = KEY,
    ) -> None:
        """Let the proxy answer one request that arrived at ``NOW_US``."""
        sent = dict(headers or {}) | ({b"authorization": authorization} if authorization else {})
        await self.proxy.serve(Request(USAGE_ID, NOW_US, method, path, sent, body), self.client)

    @property
    def error(self) -> dict[str, Any]:
        """The error envelope that the client was sent."""
        error: dict[str, Any] = msgspec.json.decode(self.client.body)["error"]
        return error
