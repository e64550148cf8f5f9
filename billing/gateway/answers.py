"""From an engine's reply, whatever it is, to what its client gets and what is on record of it; against ports, like the proxy.

The order within each: relay → close record (with ``before_reply`` SYNCED before the terminal bytes leave) → end.
"""

from collections import Counter
from collections.abc import Callable
from uuid import UUID

import msgspec

from billing.clock import Clock
from billing.errors import BillingError, Unavailable, UpstreamBroken, UpstreamUnreachable
from billing.gateway.books import NOTHING_WRITTEN, Books
from billing.gateway.ending import Ending, refusal, stream_ending, stream_outcome, with_units
from billing.gateway.forward import frames, is_encoded, is_json, reply_headers
from billing.gateway.ports import Client, Headers, Reply, Tokenizer
from billing.gateway.problems import answer, in_stream
from billing.gateway.problems import reply_headers as dialect_headers
from billing.gateway.relay import Gathering, Relay, relay_of
from billing.gateway.telling import TellingRelay, telling_relay
from billing.gateway.thinking import Thinking
from billing.gateway.work import Work
from billing.settings import GatewaySettings
from billing.tokens import estimate
from billing.tokens.assembler import Assembler
from billing.tokens.meter import ReplyMeter, StreamMeter
from billing.tokens.operation import Dialect, Framing
from billing.tokens.usage import NOTHING_USED, Outcome, TokenUsage

JSON_HEADERS: Headers = [(b"content-type", b"application/json")]
STATUS_CLIENT_CLOSED = 499
OUTPUT_CAP = b"x-billing-output-cap"
"""The header that tells a client that its answer was asked for with fewer tokens than it wanted."""
STATUS_REFUSED_MIN = 300
_COMPLETE = Outcome.COMPLETE  # a member is looked up slowly, on the hot path
"""An engine that redirects has not answered either."""


class HeldReply:
    """A reply that was read whole before it was decided what becomes of it."""

    def __init__(self, reply: Reply, body: bytes, fault: Unavailable | None = None) -> None:
        self._reply = reply
        self._rest = body
        self._fault = fault
        self.body = body
        self.status = reply.status
        self.headers = reply.headers
        self.complete = reply.complete

    def __repr__(self) -> str:
        return f"<HeldReply {self.status} {len(self.body)} B>"

    async def read(self) -> bytes:
        """The whole body, then nothing; raises what broke it off."""
        if self._fault is not None:
            raise self._fault
        rest, self._rest = self._rest, b""
        return rest

    async def pump(self, sink: Callable[[bytes], bool]) -> bool:
        """The whole body, then its end."""
        body = await self.read()
        return bool(body) and not sink(body)

    def hang_up(self, grace_s: float) -> None:
        """The caller is gone; everything had been read."""
        self._reply.hang_up(grace_s)

    def expire(self, limit_s: float) -> None:
        """Nothing more is waited for."""
        self._reply.expire(limit_s)

    def close(self) -> None:
        """End the exchange."""
        self._reply.close()


class Answers:
    """Gives clients their replies and errors, and closes the records of both."""

    def __init__(
        self,
        *,
        books: Books,
        tokenizer: Tokenizer,
        clock: Clock,
        settings: GatewaySettings,
        counts: Counter[str],
        report: Callable[[BillingError], None],
    ) -> None:
        self._books = books
        self._thinking = Thinking(tokenizer)
        self._clock = clock
        self._settings = settings
        self._counts = counts
        self._report = report

    def __repr__(self) -> str:
        return f"<Answers {dict(self._counts)}>"

    async def refuse(
        self,
        client: Client,
        fault: BillingError,
        request_id: UUID,
        dialect: Dialect = Dialect.OPENAI,
        headers: Headers | None = None,
    ) -> None:
        """Send an error in the caller's dialect, beside ``headers`` of what admitted the request, if anything did."""
        self._counts[f"refused_{fault.kind}"] += 1
        self._report(fault)
        told = answer(dialect, fault, request_id, self._clock())
        await send_whole(client, told.status, told.body, request_id, [*told.headers, *(headers or [])])

    async def fail(self, work: Work, client: Client, fault: BillingError) -> None:
        """Tell the caller of an admitted request why there is no reply."""
        await self.refuse(client, fault, work.request.id, work.call.dialect, self._limit_headers(work))

    async def relay(self, work: Work, client: Client, reply: Reply) -> None:
        """Pass an engine's reply on, in the way that it comes."""
        call = work.call
        streams = reply.status < STATUS_REFUSED_MIN and frames(reply.headers, call.framing)
        if is_encoded(reply.headers):
            encoded = UpstreamBroken("the engine's reply is compressed, though identity was asked for")
            await self.give_up(work, client, encoded, Outcome.UPSTREAM_ERROR)
        elif streams and work.assembler is not None:
            await self._assemble(work, client, reply, work.assembler)
        elif streams and (call.stream or call.framing is Framing.BINARY):
            await self._stream(work, client, reply, _relay_of(work))
        else:
            await self._whole(work, client, reply)

    async def _stream(self, work: Work, client: Client, reply: Reply, relay: Relay) -> None:
        """Relay a stream piece by piece. At its end: close record, then the terminal bytes, then the rest of the reply."""
        await client.head(reply.status, self._stream_head_of(work, reply))
        fault = None
        try:
            await self._pump(work, client, reply, relay)
        except Unavailable as broken:
            fault = broken
        rest = relay.finish(self._clock())
        outcome = stream_outcome(relay.meter, gone=client.gone, complete=reply.complete)
        if outcome is Outcome.TRUNCATED:
            fault = fault or UpstreamBroken("the engine ended its stream before it was finished")
        elif outcome is Outcome.COMPLETE:
            fault = None
        if fault is None or relay.at_boundary:
            await client.chunk(rest)
        ending = await self._stream_ending(work, relay.meter, reply.status, outcome, fault)
        fault = await self._books.close(work, ending) or fault
        if fault is not None and work.call.framing is Framing.BINARY:
            # No sentence of ours can be told from what the bytes mean.
            client.abort()
        elif fault is None and relay.terminal and not (reply.complete or client.gone):
            # What an engine sends behind its terminal event is the client's, too: a [DONE] behind the last response, say.
            await client.chunk(_last(work, relay, ending, fault))
            await self._drain(reply, client)
            await client.end()
        else:
            await client.end(_last(work, relay, ending, fault))
        await self._drain(reply)

    async def _pump(self, work: Work, client: Client, reply: Reply, relay: Relay) -> None:
        """Pieces from the engine to the client until the terminal bytes or the end of the body.

        A piece is framed, counted, edited and written as the socket brings it: a task wakes only where the client must be
        waited for, because a waking costs as much as all the rest (performance.md, lesson 9).
        """
        waiting = b""
        written_us = NOTHING_WRITTEN
        clock, feed = self._clock, relay.feed

        def take(piece: bytes) -> bool:
            nonlocal waiting, written_us
            now_us = clock()
            out = feed(piece, now_us)
            if now_us not in written_us:
                written_us = self._books.progress(work, relay.meter, now_us)
            if out and not client.pass_on(out):
                waiting = out
                return False
            return not relay.terminal

        while await reply.pump(take):
            if waiting:
                out, waiting = waiting, b""
                await client.chunk(out)
            if relay.terminal:
                return

    async def _assemble(self, work: Work, client: Client, reply: Reply, assembler: Assembler) -> None:
        """Make a whole reply of a stream, which the engine counts while it runs, for a client that wants no stream."""
        gathering = Gathering(work.meter, assembler)
        fault: BillingError | None = None
        written_us = NOTHING_WRITTEN
        try:
            while not work.meter.done and (piece := await reply.read()):
                now_us = self._clock()
                if gathering.feed(piece, now_us) > self._settings.reply_body_bytes_max:
                    raise _too_large(self._settings.reply_body_bytes_max)
                if now_us not in written_us:
                    written_us = self._books.progress(work, work.meter, now_us)
        except Unavailable as broken:
            fault = broken
        gathering.finish(self._clock())
        outcome = stream_outcome(work.meter, gone=client.gone, complete=reply.complete)
        status = assembler.status()
        if outcome is Outcome.COMPLETE and assembler.whole:
            fault = None
        elif status == reply.status and fault is None:
            fault = UpstreamBroken("the engine ended its reply before it was finished")
        if fault is not None:
            status = answer(work.call.dialect, fault, work.request.id, self._clock()).status
        ending = await self._stream_ending(work, work.meter, status, outcome, fault)
        body = assembler.body() if fault is None else b""
        await self._send(work, client, reply, ending, fault, body)
        await self._drain(reply)

    async def _whole(self, work: Work, client: Client, reply: Reply) -> None:
        """Collect a whole reply, count it, record it, and only then send it: its last byte is its terminal byte (P2)."""
        try:
            body = await self._collect(reply)
        except Unavailable as fault:
            await self.give_up(work, client, fault, Outcome.TRUNCATED)
            return
        refused: BillingError | None = None
        if reply.status >= STATUS_REFUSED_MIN:
            ending, refused = refusal(reply.status)
        else:
            if work.call.replies_json and not is_json(reply.headers) and not client.gone:
                broken = UpstreamBroken(f"the engine's reply of {len(body)} bytes is not JSON")
                await self.give_up(work, client, broken, Outcome.TRUNCATED)
                return
            meter = work.call.reply_meter(work.engine, body)
            meter.heard(reply.headers)
            ending = await self._whole_ending(work, reply, meter)
            body = meter.stripped(body)
        await self._send(work, client, reply, ending, refused, body)

    async def _send(
        self,
        work: Work,
        client: Client,
        reply: Reply,
        ending: Ending,
        refused: BillingError | None,
        body: bytes,
    ) -> None:
        """Close the record, then send the reply, or what the caller is told in its place."""
        if client.gone:
            ending = msgspec.structs.replace(
                ending, outcome=Outcome.CLIENT_CLOSED, status=STATUS_CLIENT_CLOSED
            )
        unrecorded = await self._books.close(work, ending)
        told = unrecorded or refused
        if told is not None:
            await self.fail(work, client, told)
            return
        headers = self._head_of(work, reply)
        if work.assembler is not None and reply.status < STATUS_REFUSED_MIN:
            headers = [pair for pair in headers if pair[0] != b"content-type"] + JSON_HEADERS
        if ending.outcome is _COMPLETE and (cost := work.cost(ending.usage)) is not None:
            headers += cost.headers()
        await client.head(ending.status, [*headers, (b"content-length", str(len(body)).encode())])
        await client.end(body)

    async def hold(self, reply: Reply) -> HeldReply:
        """The reply, read whole; what broke off is read by whoever relays it, once more, and told there."""
        try:
            body = await self._collect(reply)
        except Unavailable as fault:
            return HeldReply(reply, b"", fault)
        return HeldReply(reply, body)

    async def _collect(self, reply: Reply) -> bytes:
        pieces, size = [], 0
        while piece := await reply.read():
            size += len(piece)
            if size > self._settings.reply_body_bytes_max:
                raise _too_large(self._settings.reply_body_bytes_max)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def give_up(self, work: Work, client: Client, fault: Unavailable, outcome: Outcome) -> None:
        """No whole reply came. The caller learns why, and the record says it: nothing used only if no engine was reached."""
        usage = NOTHING_USED if isinstance(fault, UpstreamUnreachable) else TokenUsage()
        if client.gone:
            ending = Ending(Outcome.CLIENT_CLOSED, STATUS_CLIENT_CLOSED, usage, error=fault.kind)
        else:
            status = answer(work.call.dialect, fault, work.request.id, self._clock()).status
            ending = Ending(outcome, status, usage, error=fault.kind)
        unrecorded = await self._books.close(work, ending)
        await self.fail(work, client, unrecorded or fault)

    async def _whole_ending(self, work: Work, reply: Reply, meter: ReplyMeter) -> Ending:
        if work.tags is not None:
            meter.split_reasoning(work.tags)
        usage = await self._thinking.counted(work, meter, meter.usage())
        outcome = _COMPLETE if reply.complete else Outcome.TRUNCATED
        return Ending(
            Outcome.UPSTREAM_ERROR if meter.failed else outcome,
            reply.status,
            with_units(usage, work.call.units()),
            response_id=meter.response_id,
            response_model=meter.response_model,
            error="upstream_error" if meter.failed else None,
        )

    async def _stream_ending(
        self, work: Work, meter: StreamMeter, status: int, outcome: Outcome, fault: BillingError | None
    ) -> Ending:
        ending = stream_ending(work, meter, status, outcome, fault)
        usage = ending.usage
        if work.counts_reasoning:
            usage = await self._thinking.counted(work, meter, usage)
        if (usage.output.value is None or usage.input.value is None) and not work.call.units():
            usage = estimate.of_what_was_seen(usage, work.call.prompt_bytes(), meter.events_spoken)
        return ending if usage is ending.usage else msgspec.structs.replace(ending, usage=usage)

    async def _drain(self, reply: Reply, client: Client | None = None) -> None:
        """Read what follows the terminal bytes, so that the connection can serve others, and pass it on to ``client``."""
        reply.expire(self._settings.drain_after_finish_s)
        try:
            while piece := await reply.read():
                if client is not None:
                    await client.chunk(piece)
        except Unavailable:
            self._counts["upstream_broken_after_end"] += 1

    def _head_of(self, work: Work, reply: Reply) -> Headers:
        head = [*reply_headers(reply.headers, work.id_text), *self._limit_headers(work)]
        return head if work.cap is None else [*head, (OUTPUT_CAP, b"%d" % work.cap)]

    def _stream_head_of(self, work: Work, reply: Reply) -> Headers:
        """Bytes without events hold no cost, but what they cost is known beforehand, if at all."""
        head = self._head_of(work, reply)
        if work.terms is None or work.call.framing is not Framing.BINARY:
            return head
        cost = work.cost(with_units(TokenUsage(), work.call.units()))
        return head if cost is None else head + cost.headers()

    def _limit_headers(self, work: Work) -> Headers:
        """What is left of the limits, as the caller's dialect says it."""
        limits = [] if work.permit is None else work.permit.headers
        return dialect_headers(work.call.dialect, limits, work.request.id, self._clock())


def _relay_of(work: Work) -> Relay:
    framing = work.call.framing
    if work.terms is None or framing is Framing.BINARY:
        return relay_of(framing, work.meter)
    return telling_relay(framing, work.meter, work.call.dialect)


def _last(work: Work, relay: Relay, ending: Ending, fault: BillingError | None) -> bytes:
    """What ends a stream for its client: an error, or the terminal bytes, with the cost where that is wanted."""
    told = relay if isinstance(relay, TellingRelay) else None
    if fault is not None:
        return (told.held if told else b"") + in_stream(work.call.dialect, fault, work.request.id)
    cost = work.cost(ending.usage) if told else None
    return told.told(cost.document()) if told and cost else relay.terminal


def _too_large(bytes_max: int) -> UpstreamBroken:
    return UpstreamBroken(f"the engine's reply is larger than {bytes_max} bytes")


async def send_whole(client: Client, status: int, body: bytes, request_id: UUID, headers: Headers) -> None:
    """Send a reply of our own, JSON text."""
    length = (b"content-length", str(len(body)).encode())
    await client.head(status, [*JSON_HEADERS, length, (b"x-request-id", str(request_id).encode()), *headers])
    await client.end(body)
