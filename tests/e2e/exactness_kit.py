"""Random requests at real llama.cpp through the gateway, and what is on record of them against the engine's own counters.

Phases, each at a server of its own: requests that finish, several at once, compared in sum; texts to embed; streams left
in the middle and whole replies left in the middle, one after another, each compared by itself; what is left where the
engine tells no count before the end.
"""

import asyncio
import contextlib
import itertools
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx2

from billing.app.demo_check import EngineCount, count_of
from billing.fleet.deployment import DeploymentRequest
from billing.fleet.service import FleetService
from billing.infra.golden.model import GOLDEN, SLOW
from billing.infra.golden.runner import LlamaServer
from billing.infra.system import new_id, now_us
from billing.metering.service import UsageService
from billing.metering.stored import StoredRecord
from billing.tokens.prometheus import parse_counters
from tests.e2e import exactness_requests as requests
from tests.e2e.exactness_requests import Request
from tests.e2e.llama_kit import equipped_model_path
from tests.e2e.rig import DIRECTORY_LAG_S, POLL_S, WAIT_TIMEOUT_S, Rig

SLOTS = 4
AT_ONCE = 4
EVENTS_MAX = 40
LEFT_AFTER_S = (0.3, 0.8)
"""When the client of a whole reply leaves: the slow model has begun by then, and has not finished."""
FINISHED = frozenset({"complete", "upstream_error"})
UNTOLD = frozenset({"none", "estimated"})
"""What the record's provenance says where not everything is known."""
STEPS_MISSED_MAX = 3
"""Tokens of one answer that an engine may compute between a client's leaving and its noticing, on a busy machine."""
REST_POLL_S = 0.02
REST_TIMEOUT_S = 20.0
RECORDS_MAX = 1_000
UNKNOWN_SHARE_MAX = 0.25
"""Of the clients of whole replies, how many may leave before the engine has begun, on a machine that others keep busy."""
ABORT, ASSEMBLE = "abort", "stream_and_assemble"

_running = re.compile(r"^llamacpp:requests_(?:processing|deferred) ([0-9.]+)$", re.MULTILINE)


class Reply(NamedTuple):
    """What became of a request at its client: the status, and whether it left before the end."""

    status: int
    left: bool


class Case(NamedTuple):
    """A request, what its client saw, what is on record, and for a phase without overlap what the engine counted."""

    request: Request
    reply: Reply
    record: StoredRecord
    engine: EngineCount | None = None

    @property
    def recorded(self) -> EngineCount:
        """The tokens on record; unknown ones as 0."""
        return EngineCount(self.record.input.value or 0, self.record.output.value or 0)

    @property
    def is_known(self) -> bool:
        """Whether its output, and where its client left its input too, is on record and not by a guess."""
        told = {self.record.output.provenance, *([self.record.input.provenance] if self.reply.left else [])}
        return not told & {None, "estimated"}

    @property
    def missing(self) -> int:
        """Output tokens that the engine counted and that are not on record."""
        return 0 if self.engine is None else self.engine.output - self.recorded.output

    @property
    def running(self) -> int:
        """Answers that the engine works on at a time."""
        return min(self.request.answers, SLOTS)

    def is_right(self) -> bool:
        """Whether its record says what its client did, and as many tokens as the engine; what is unknown says so."""
        if self.record.outcome not in ({"client_closed", "complete"} if self.reply.left else FINISHED):
            return False
        if not self.is_known:
            return self.reply.left and self.record.provenance in UNTOLD
        if self.engine is None:
            return True
        missing_max = self.running * STEPS_MISSED_MAX if self.reply.left else 0
        return self.engine.input == self.recorded.input and 0 <= self.missing <= missing_max

    def __str__(self) -> str:
        """What was asked, what is on record, and what the engine counted."""
        record, engine = self.record, self.engine
        counted = "" if engine is None else f"; engine {engine.input} in, {engine.output} out"
        return (
            f"{self.request}: {record.outcome}, {record.input.value} in, {record.output.value} out, "
            f"{record.provenance}{counted}"
        )


class Phase(NamedTuple):
    """What one server was asked, and what it counted in all."""

    name: str
    cases: list[Case]
    engine: EngineCount

    @property
    def recorded(self) -> EngineCount:
        """All tokens on record."""
        return _sum(case.recorded for case in self.cases)

    @property
    def left(self) -> list[Case]:
        """The requests whose clients left."""
        return [case for case in self.cases if case.reply.left]

    @property
    def unknown(self) -> list[Case]:
        """The requests whose tokens nobody told."""
        return [case for case in self.cases if not case.is_known]

    def counted(self, *, several: bool) -> list[Case]:
        """Of those whose clients left, the ones that the engine counted by themselves, with one answer or with several."""
        known = [case for case in self.left if case.is_known and case.engine]
        return [case for case in known if (case.request.answers > 1) == several]

    def misses_too_many(self) -> bool:
        """Whether more output is missing than one token for each answer that a client left.

        The engine computes a token for each running answer at a time, then sends them one by one, and sends nothing more to
        one who has left: of several answers those of the step before may still wait to be sent.
        """
        lone, several = self.counted(several=False), self.counted(several=True)
        return sum(case.missing for case in lone) > len(lone) or sum(case.missing for case in several) > sum(
            2 * case.running - 1 for case in several
        )

    def __str__(self) -> str:
        """Lines of the report."""
        head = f"{self.name}: {len(self.cases)} requests, {len(self.left)} left, {len(self.unknown)} unknown"
        if not self.left:
            return f"{head}; {_compared(self.engine, self.recorded)}"
        groups = {
            "one answer, left": self.counted(several=False),
            "several answers, left": self.counted(several=True),
            "finished": [case for case in self.cases if not case.reply.left],
        }
        return "\n".join([head, *(f"  {name}: {_told(cases)}" for name, cases in groups.items() if cases)])


def _told(cases: list[Case]) -> str:
    engine = _sum(case.engine for case in cases if case.engine is not None)
    missing = [case.missing for case in cases]
    compared = _compared(engine, _sum(case.recorded for case in cases))
    return f"{len(cases)} requests; {compared}, {sum(missing)} missing, {max(missing)} of one request"


def _compared(engine: EngineCount, recorded: EngineCount) -> str:
    return (
        f"input {engine.input} at the engine, {recorded.input} on record; "
        f"output {engine.output} at the engine, {recorded.output} on record"
    )


def _sum(counts: Iterable[EngineCount]) -> EngineCount:
    listed = list(counts)
    return EngineCount(sum(count.input for count in listed), sum(count.output for count in listed))


class Asker:
    """Sends the requests of one phase through the gateway; each carries its number for idempotency key."""

    def __init__(self, rig: Rig, server: LlamaServer, name: str) -> None:
        self._rig = rig
        self._server = server
        self._name = name

    def __repr__(self) -> str:
        return f"<Asker {self._name} at {self._server!r}>"

    async def at_once(self, asked: Sequence[Request]) -> Phase:
        """All requests, several at the same time."""
        before, turns = await self._rest(), asyncio.Semaphore(AT_ONCE)
        async with self._rig.client() as client:

            async def take_turn(number: int, request: Request) -> Reply:
                async with turns:
                    return await self._send(client, number, request)

            replies = await asyncio.gather(
                *(take_turn(number, request) for number, request in enumerate(asked))
            )
        after = await self._rest()
        records = await self._records(len(asked))
        cases = [Case(*each) for each in zip(asked, replies, records, strict=True)]
        return Phase(self._name, cases, _difference(before, after))

    async def in_turn(self, asked: Sequence[Request]) -> Phase:
        """All requests, each when the engine has left the one before."""
        replies, counts = [], [await self._rest()]
        async with self._rig.client() as client:
            for number, request in enumerate(asked):
                replies.append(await self._send(client, number, request))
                counts.append(await self._rest())
        engine = [_difference(before, after) for before, after in itertools.pairwise(counts)]
        records = await self._records(len(asked))
        cases = [Case(*each) for each in zip(asked, replies, records, engine, strict=True)]
        return Phase(self._name, cases, _difference(counts[0], counts[-1]))

    async def _send(self, client: httpx2.AsyncClient, number: int, request: Request) -> Reply:
        headers = {"idempotency-key": f"{self._name} {number}"}
        if request.seconds is not None:
            try:
                async with asyncio.timeout(request.seconds):
                    reply = await client.post(request.path, json=request.body, headers=headers)
            except TimeoutError:
                return Reply(0, left=True)
            return Reply(reply.status_code, left=False)
        async with client.stream("POST", request.path, json=request.body, headers=headers) as reply:
            seen = 0
            async for line in reply.aiter_lines():
                seen += line.startswith("data: {")
                if seen == request.events:
                    return Reply(reply.status_code, left=True)
            return Reply(reply.status_code, left=False)

    async def _rest(self) -> EngineCount:
        """The engine's counters once it works on nothing and two looks in a row are equal."""
        deadline = time.monotonic() + REST_TIMEOUT_S
        last: EngineCount | None = None
        while time.monotonic() < deadline:
            page = await asyncio.to_thread(self._server.metrics)
            present = count_of(parse_counters(page)) if not any(map(float, _running.findall(page))) else None
            if present is not None and present == last:
                return present
            last = present
            await asyncio.sleep(REST_POLL_S)
        raise TimeoutError(f"{self._server!r} works on {REST_TIMEOUT_S:.0f} s after its last request")

    async def _records(self, count: int) -> list[StoredRecord]:
        """The records of this phase by number, once there are so many; fails when one is missing or there twice."""
        deadline = time.monotonic() + WAIT_TIMEOUT_S
        found: list[StoredRecord] = []
        async with self._rig.database() as database:
            while len(found) < count and time.monotonic() < deadline:
                await asyncio.sleep(POLL_S)
                recent = await UsageService(database).recent(None, RECORDS_MAX)
                found = [one for one in recent if (one.idempotency_key or "").startswith(f"{self._name} ")]
        by_number = {int((record.idempotency_key or "").rpartition(" ")[2]): record for record in found}
        assert len(found) == len(by_number)
        missing = [number for number in range(count) if number not in by_number]
        assert not missing, f"no record of {self._name} {missing}"
        return [by_number[number] for number in range(count)]


def _difference(before: EngineCount, after: EngineCount) -> EngineCount:
    return EngineCount(after.input - before.input, after.output - before.output)


class Counts(NamedTuple):
    """How many requests of each phase."""

    finished: int
    embedded: int
    streams: int
    wholes: int
    others: int

    @classmethod
    def of(cls, total: int) -> "Counts":
        """Shares of a total: more than half finish; a third is left in the middle."""
        embedded, streams, wholes, others = total // 10, total // 5, total // 10, total // 20
        return cls(total - embedded - streams - wholes - others, embedded, streams, wholes, others)


SERVERS = {"golden": GOLDEN, "embedder": GOLDEN, "streams": SLOW, "wholes": SLOW, "others": SLOW}
"""The server of each phase, and what it serves."""
POLICIES = {
    "golden": ("golden", ABORT), "golden-assembled": ("golden", ASSEMBLE), "embedder": ("embedder", ABORT),
    "streams": ("streams", ABORT), "wholes": ("wholes", ASSEMBLE), "others": ("others", ABORT),
}  # fmt: skip
"""Each model with the server behind it, and what its backend does when the client of a whole reply leaves."""


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[dict[str, LlamaServer]]:
    """A server for each phase; call it from the main thread."""
    with contextlib.ExitStack() as stack:
        started = {}
        for name, spec in SERVERS.items():
            server = LlamaServer.start(
                equipped_model_path(folder, spec), name, log_path=folder / f"{name}.log",
                embeddings=name == "embedder", slots=SLOTS,
            )  # fmt: skip
            stack.callback(server.stop)
            started[name] = server
        yield started


async def add_models(rig: Rig, started: dict[str, LlamaServer]) -> None:
    """The models at the gateway, known to all its workers."""
    async with rig.database() as database:
        fleet = FleetService(database, now_us, new_id)
        for name, (server, policy) in POLICIES.items():
            await fleet.add_backend(name, started[server].url, "llama.cpp", on_hang_up=policy)
            await fleet.add_model(name, [DeploymentRequest(backend=name, backend_model=server)])
    await asyncio.sleep(DIRECTORY_LAG_S)


async def run(rig: Rig, started: dict[str, LlamaServer], seed: str, counts: Counts) -> list[Phase]:
    """All phases, one after another: an engine that has to share its core notices later that a client has left."""

    def asker(name: str) -> Asker:
        return Asker(rig, started[name], name)

    streams = requests.streams_left(seed, "streams", counts.streams, EVENTS_MAX)
    wholes = requests.wholes_left(seed, "wholes", counts.wholes, LEFT_AFTER_S)
    return [
        await asker("golden").at_once(
            requests.finished(seed, ["golden", "golden-assembled"], counts.finished)
        ),
        await asker("embedder").at_once(requests.embedded(seed, "embedder", counts.embedded)),
        await asker("streams").in_turn(streams),
        await asker("wholes").in_turn(wholes),
        await asker("others").at_once(requests.others_left(seed, "others", counts.others)),
    ]


def faults(phases: Sequence[Phase]) -> list[str]:
    """Everything on record that is not as promised."""
    finished, embedded, streams, wholes, others = phases
    found = [f"{phase.name}: {case}" for phase in phases for case in phase.cases if not case.is_right()]
    sums = [phase for phase in (finished, embedded) if phase.engine != phase.recorded or phase.unknown]
    found += [f"{phase}: the sums differ" for phase in sums]
    # One prompt is read before its first token; of several some may not have been heard of when the client left.
    found += [
        f"untold after its first event: {case}" for case in streams.unknown if not case.request.has_prompts
    ]
    found += [f"{phase}: too much is missing" for phase in (streams, wholes) if phase.misses_too_many()]
    if len(wholes.unknown) > len(wholes.cases) * UNKNOWN_SHARE_MAX:
        found.append(f"{wholes}: too many are unknown")
    # Several choices are always asked for as a stream, which tells.
    told = [case for case in others.left if case.is_known and case.request.answers == 1]
    return [*found, *(f"known, though nobody told: {case}" for case in told)]
