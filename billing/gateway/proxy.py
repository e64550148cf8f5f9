"""One request, a straight line (design.md §4), against ports: it knows no transport, no database and no clock of its own.

Order of steps: caller → call → model → backend → limits → open record WRITTEN → engine → relay → close record (with
``before_reply`` SYNCED before the terminal bytes leave) → end.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

import msgspec

from billing.clock import MICROSECONDS_PER_SECOND, Clock
from billing.directory.caller import Caller
from billing.errors import BillingError, Unavailable, UpstreamBroken, UpstreamUnreachable
from billing.gateway.catalog import catalog
from billing.gateway.ending import Ending, label, refusal, stream_outcome
from billing.gateway.forward import is_encoded, is_event_stream, is_json, reply_headers, request_head
from billing.gateway.ports import (
    Admission,
    Client,
    Directory,
    Exchange,
    Headers,
    Reply,
    Request,
    Spool,
    Tokenizer,
    Upstream,
)
from billing.gateway.problem import event, problem
from billing.gateway.relay import StreamRelay
from billing.gateway.routes import ModelsRoute, route
from billing.gateway.work import Work, decide
from billing.metering.event import Closed, Progress
from billing.settings import Durability, GatewaySettings, LimitsSettings
from billing.tokens import estimate
from billing.tokens.dialects.routes import Route
from billing.tokens.meter import ReplyMeter, StreamMeter
from billing.tokens.usage import (
    NOTHING_USED,
    Count,
    Outcome,
    Provenance,
    TokenUsage,
    clamp,
    total_tokens,
)

JSON_HEADERS: Headers = [(b"content-type", b"application/json")]
STATUS_CLIENT_CLOSED = 499
STATUS_REFUSED_MIN = 300
"""An engine that redirects has not answered either."""


class Proxy:
    """Serves requests to engines and leaves one record of each. Every collaborator is an argument."""

    def __init__(
        self,
        *,
        directory: Directory,
        upstream: Upstream,
        spool: Spool,
        admission: Admission,
        tokenizer: Tokenizer,
        clock: Clock,
        settings: GatewaySettings,
        output_bound_tokens: int = LimitsSettings().output_bound_tokens,
        report: Callable[[BillingError], None] = lambda _fault: None,
    ) -> None:
        self._directory = directory
        self._upstream = upstream
        self._spool = spool
        self._admission = admission
        self._tokenizer = tokenizer
        self._clock = clock
        self._settings = settings
        self._output_bound_tokens = output_bound_tokens
        self._report = report
        self._progress_interval_us = int(settings.progress_interval_s * MICROSECONDS_PER_SECOND)
        self._unrecorded: set[UUID] = set()
        self.counts: Counter[str] = Counter()
        """Requests by outcome, refusals by the kind of their error."""

    def __repr__(self) -> str:
        return f"<Proxy {dict(self.counts)}>"

    async def serve(self, request: Request, client: Client) -> None:
        """Answer one request, whatever it is; only a broken transport raises."""
        try:
            caller, asked = self.welcome(request.method, request.path, request.headers, request.at_us)
            if isinstance(asked, ModelsRoute):
                await _answer(client, 200, catalog(self._directory, asked), request.id)
                return
            work = decide(self._directory, request, caller, asked)
            work = await self._admit(work)
        except BillingError as fault:
            await self.refuse(client, fault, request.id)
            return
        try:
            await self._exchange(work, client)
        # Whatever went wrong inside this process, also its cancellation at a stop: the request is on record, and the
        # server above answers or closes the connection.
        except BaseException:
            if request.id in self._unrecorded:
                await self._record(
                    work, Ending(Outcome.INTERRUPTED, 0, work.meter.usage(), error="gateway_failed")
                )
            raise

    def welcome(
        self, method: str, path: str, headers: Mapping[bytes, bytes], at_us: int
    ) -> tuple[Caller, Route | ModelsRoute]:
        """Who calls and what for, known from the head alone: a transport asks before it takes a long body in.

        Raises ``Unauthenticated``, ``Forbidden``, ``NotFound``, ``WrongMethod`` or ``Unavailable``.
        """
        return self._directory.caller(headers.get(b"authorization"), at_us), route(method, path)

    async def refuse(self, client: Client, fault: BillingError, request_id: UUID) -> None:
        """Send an error in the caller's dialect; nothing is recorded of a request that was never admitted."""
        self.counts[f"refused_{fault.kind}"] += 1
        self._report(fault)
        answer = problem(fault)
        await _answer(client, answer.status, answer.body, request_id, answer.headers)

    async def _admit(self, work: Work) -> Work:
        """Ask the limits, then write the open entry: from here on the request ends as exactly one record (P1)."""
        request = work.request
        if work.limits:
            bound = work.tokens_bound(self._output_bound_tokens)
            permit = await self._admission.admit(request.id, work.limits, bound)
            work = msgspec.structs.replace(work, permit=permit)
        try:
            self._spool.open(work.opened())
        except BillingError:
            self._settle(work, 0)
            raise
        self._unrecorded.add(request.id)
        return work

    def _settle(self, work: Work, tokens: int | None) -> None:
        if work.permit is not None:
            self._admission.settle(work.permit, tokens)

    async def _exchange(self, work: Work, client: Client) -> None:
        """Ask the engine and relay its answer."""
        meter = work.meter

        def watch(exchange: Exchange) -> None:
            client.on_gone(lambda: self._leave(exchange, meter))

        head = request_head(
            work.place,
            work.request.path,
            len(work.body),
            dict(work.request.headers),
            request_id=str(work.request.id),
            credential=work.target.backend.credential,
        )
        try:
            reply = await self._upstream.send(work.place, head, work.body, watch)
        except Unavailable as fault:
            await self._give_up(work, client, fault, Outcome.UPSTREAM_ERROR)
            return
        try:
            if is_encoded(reply.headers):
                encoded = UpstreamBroken("the engine's reply is compressed, though identity was asked for")
                await self._give_up(work, client, encoded, Outcome.UPSTREAM_ERROR)
            elif work.call.stream and reply.status < STATUS_REFUSED_MIN and is_event_stream(reply.headers):
                await self._stream(work, client, reply, StreamRelay(meter))
            else:
                await self._whole(work, client, reply)
        finally:
            client.on_gone(None)
            reply.close()

    def _leave(self, exchange: Exchange, meter: StreamMeter) -> None:
        """The client hung up. After a finish reason the usage is on its way and is waited for; else the engine is told."""
        if meter.finished:
            exchange.expire(self._settings.drain_after_finish_s)
        else:
            exchange.hang_up(self._settings.hang_up_grace_s)

    async def _stream(self, work: Work, client: Client, reply: Reply, relay: StreamRelay) -> None:
        """Relay a stream piece by piece. At its end: close record, then the terminal bytes, then the rest of the reply."""
        await client.head(reply.status, _head_of(work, reply))
        fault = None
        progressed_us = 0
        try:
            while not relay.terminal and (piece := await reply.read()):
                now_us = self._clock()
                out = relay.feed(piece, now_us)
                if out:
                    await client.chunk(out)
                # A clock that was set back makes the next entry due, too.
                if (
                    not 0 <= now_us - progressed_us < self._progress_interval_us
                    and relay.meter.first_token_us is not None
                ):
                    progressed_us = now_us
                    self._spool.progress(self._progress(work, relay.meter, now_us))
        except Unavailable as broken:
            fault = broken
        rest = relay.finish(self._clock())
        outcome = stream_outcome(relay.meter, gone=client.gone, complete=reply.complete)
        if outcome is Outcome.TRUNCATED:
            fault = fault or UpstreamBroken("the engine ended its stream before it was finished")
        elif outcome is Outcome.COMPLETE:
            fault = None
        if fault is None or rest.endswith(b"\n\n"):
            await client.chunk(rest)
        ending = self._stream_ending(work, client, reply, relay.meter, fault)
        fault = await self._record(work, ending) or fault
        await client.end(event(fault) if fault else relay.terminal)
        await self._drain(reply)

    async def _whole(self, work: Work, client: Client, reply: Reply) -> None:
        """Collect a whole reply, count it, record it, and only then send it: its last byte is its terminal byte (P2)."""
        try:
            body = await self._collect(reply)
        except Unavailable as fault:
            await self._give_up(work, client, fault, Outcome.TRUNCATED)
            return
        refused: BillingError | None = None
        if reply.status >= STATUS_REFUSED_MIN:
            ending, refused = refusal(reply.status)
        else:
            if not is_json(reply.headers) and not client.gone:
                broken = UpstreamBroken(f"the engine's reply of {len(body)} bytes is not JSON")
                await self._give_up(work, client, broken, Outcome.TRUNCATED)
                return
            ending = await self._whole_ending(work, reply, work.call.reply_meter(work.engine, body))
        if client.gone:
            ending = msgspec.structs.replace(
                ending, outcome=Outcome.CLIENT_CLOSED, status=STATUS_CLIENT_CLOSED
            )
        unrecorded = await self._record(work, ending)
        told = unrecorded or refused
        if told is not None:
            await self.refuse(client, told, work.request.id)
            return
        await client.head(
            reply.status, [*_head_of(work, reply), (b"content-length", str(len(body)).encode())]
        )
        await client.end(body)

    async def _collect(self, reply: Reply) -> bytes:
        pieces, size = [], 0
        while piece := await reply.read():
            size += len(piece)
            if size > self._settings.reply_body_bytes_max:
                raise UpstreamBroken(
                    f"the engine's reply is larger than {self._settings.reply_body_bytes_max} bytes"
                )
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _give_up(self, work: Work, client: Client, fault: Unavailable, outcome: Outcome) -> None:
        """No whole reply came. The caller learns why, and the record says it: nothing used only if no engine was reached."""
        usage = NOTHING_USED if isinstance(fault, UpstreamUnreachable) else TokenUsage()
        if client.gone:
            ending = Ending(Outcome.CLIENT_CLOSED, STATUS_CLIENT_CLOSED, usage, error=fault.kind)
        else:
            ending = Ending(outcome, problem(fault).status, usage, error=fault.kind)
        unrecorded = await self._record(work, ending)
        await self.refuse(client, unrecorded or fault, work.request.id)

    async def _whole_ending(self, work: Work, reply: Reply, meter: ReplyMeter) -> Ending:
        usage = meter.usage()
        text = meter.reasoning_text()
        if text is not None and usage.output.value is not None:
            usage = clamp(msgspec.structs.replace(usage, reasoning=await self._count(work, text)))
        return Ending(
            Outcome.COMPLETE if reply.complete else Outcome.TRUNCATED,
            reply.status,
            usage,
            response_id=meter.response_id,
            response_model=meter.response_model,
        )

    async def _count(self, work: Work, text: str) -> Count:
        """Reasoning tokens of a whole reply, by the backend's own tokenizer within its time limit, else estimated."""
        how = work.engine.tokenize
        tokens = None if how is None else await self._tokenizer.count(work.target, how, text)
        if how is not None and tokens is not None:
            return Count(tokens, Provenance.COUNTED, f"{how.path} of the reasoning text at the backend")
        return Count(
            estimate.input_tokens(len(text.encode())),
            Provenance.ESTIMATED,
            f"{estimate.BYTES_PER_TOKEN} bytes a token",
        )

    def _stream_ending(
        self, work: Work, client: Client, reply: Reply, meter: StreamMeter, fault: Unavailable | None
    ) -> Ending:
        return Ending(
            outcome=stream_outcome(meter, gone=client.gone, complete=reply.complete),
            status=reply.status,
            usage=meter.usage(),
            ttft_us=_since(work.request.at_us, meter.first_token_us),
            itl_us=meter.itl_us(),
            response_id=meter.response_id,
            response_model=meter.response_model,
            error=fault.kind if fault else "upstream_error" if meter.failed else None,
        )

    async def _record(self, work: Work, ending: Ending) -> Unavailable | None:
        """Write the close entry, synced if the caller's reply waits for that (P2).

        Gives back why it could not be written: then nothing more is served (P11), and since the open entry stands, the
        recorder still makes a record of the request.
        """
        self._unrecorded.discard(work.request.id)
        self.counts[ending.outcome] += 1
        self._settle(work, total_tokens(ending.usage))
        closed = Closed(
            id=work.request.id,
            outcome=ending.outcome,
            status=ending.status,
            usage=ending.usage,
            duration_us=max(0, self._clock() - work.request.at_us),
            ttft_us=ending.ttft_us,
            itl_us=ending.itl_us,
            response_id=label(ending.response_id),
            response_model=label(ending.response_model),
            error=ending.error,
        )
        try:
            position = self._spool.close(closed)
            if self._settings.durability is Durability.BEFORE_REPLY:
                await self._spool.synced(position)
        except Unavailable as fault:
            self.counts[f"unrecorded_{fault.kind}"] += 1
            return fault
        return None

    def _progress(self, work: Work, meter: StreamMeter, now_us: int) -> Progress:
        at_us = work.request.at_us
        return Progress(
            work.request.id, meter.usage(), max(0, now_us - at_us), _since(at_us, meter.first_token_us)
        )

    async def _drain(self, reply: Reply) -> None:
        """Read what follows the terminal bytes, so that the connection can serve others."""
        reply.expire(self._settings.drain_after_finish_s)
        try:
            while await reply.read():
                pass
        except Unavailable:
            self.counts["upstream_broken_after_end"] += 1


async def _answer(
    client: Client,
    status: int,
    body: bytes,
    request_id: UUID,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    length = (b"content-length", str(len(body)).encode())
    await client.head(status, [*JSON_HEADERS, length, (b"x-request-id", str(request_id).encode()), *headers])
    await client.end(body)


def _head_of(work: Work, reply: Reply) -> Headers:
    headers = reply_headers(reply.headers, str(work.request.id))
    return [*headers, *work.permit.headers] if work.permit is not None else headers


def _since(start_us: int, instant_us: int | None) -> int | None:
    return None if instant_us is None else max(0, instant_us - start_us)
