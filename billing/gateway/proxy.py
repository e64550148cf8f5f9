"""One request, a straight line (design.md §4), against ports: it knows no transport, no database and no clock of its own.

Order of steps: caller → call → model → backend → limits → open record WRITTEN → engine → relay → close record (with
``before_reply`` SYNCED before the terminal bytes leave) → end.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from uuid import UUID

import msgspec

from billing.clock import Clock
from billing.directory.caller import Caller
from billing.errors import BillingError, Unavailable, UpstreamBroken, UpstreamUnreachable
from billing.gateway.books import Books
from billing.gateway.catalog import catalog
from billing.gateway.ending import Ending, refusal, stream_ending, stream_outcome, with_units
from billing.gateway.forward import frames, is_encoded, is_json, reply_headers, request_head
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
from billing.gateway.problems import answer, in_stream
from billing.gateway.problems import reply_headers as dialect_headers
from billing.gateway.relay import Gathering, Relay, relay_of
from billing.gateway.routes import CatalogRoute, dialect_of, route
from billing.gateway.work import Work, decide
from billing.settings import GatewaySettings, LimitsSettings
from billing.tokens import estimate
from billing.tokens.assembler import Assembler
from billing.tokens.dialects.routes import Route
from billing.tokens.meter import ReplyMeter
from billing.tokens.operation import Dialect, Framing
from billing.tokens.usage import NOTHING_USED, Count, Outcome, Provenance, TokenUsage, clamp

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
        self._admission = admission
        self._tokenizer = tokenizer
        self._clock = clock
        self._settings = settings
        self._output_bound_tokens = output_bound_tokens
        self._report = report
        self.counts: Counter[str] = Counter()
        """Requests by outcome, refusals by the kind of their error."""
        self._books = Books(
            spool=spool, admission=admission, clock=clock, settings=settings, counts=self.counts
        )

    def __repr__(self) -> str:
        return f"<Proxy {dict(self.counts)}>"

    async def serve(self, request: Request, client: Client) -> None:
        """Answer one request, whatever it is; only a broken transport raises."""
        dialect = dialect_of(request.path)
        try:
            caller, asked = self.welcome(request.method, request.path, request.headers, request.at_us)
            if isinstance(asked, CatalogRoute):
                await _answer(client, 200, catalog(self._directory, asked), request.id, [])
                return
            work = decide(self._directory, request, caller, asked)
            work = await self._admit(work)
        except BillingError as fault:
            await self.refuse(client, fault, request.id, dialect)
            return
        try:
            if await self._open(work, client):
                await self._exchange(work, client)
        # Whatever went wrong inside this process, also its cancellation at a stop: the request is on record, and the
        # server above answers or closes the connection.
        except BaseException:
            if self._books.is_open(work):
                usage = work.meter.usage()
                await self._books.close(work, Ending(Outcome.INTERRUPTED, 0, usage, error="gateway_failed"))
            raise

    def welcome(
        self, method: str, path: str, headers: Mapping[bytes, bytes], at_us: int
    ) -> tuple[Caller, Route | CatalogRoute]:
        """Who calls and what for, known from the head alone: a transport asks before it takes a long body in.

        Raises ``Unauthenticated``, ``Forbidden``, ``NotFound``, ``WrongMethod`` or ``Unavailable``.
        """
        authorization = headers.get(b"authorization")
        if authorization is None and (key := headers.get(b"x-api-key")) is not None:
            # As Anthropic's clients send it.
            authorization = b"Bearer " + key
        return self._directory.caller(authorization, at_us), route(method, path)

    async def refuse(
        self,
        client: Client,
        fault: BillingError,
        request_id: UUID,
        dialect: Dialect = Dialect.OPENAI,
        headers: Headers | None = None,
    ) -> None:
        """Send an error in the caller's dialect, beside ``headers`` of what admitted the request, if anything did."""
        self.counts[f"refused_{fault.kind}"] += 1
        self._report(fault)
        told = answer(dialect, fault, request_id, self._clock())
        await _answer(client, told.status, told.body, request_id, [*told.headers, *(headers or [])])

    async def _fail(self, work: Work, client: Client, fault: BillingError) -> None:
        """Tell the caller of an admitted request why there is no reply."""
        await self.refuse(client, fault, work.request.id, work.call.dialect, self._limit_headers(work))

    async def _admit(self, work: Work) -> Work:
        """Ask the limits."""
        if not work.limits:
            return work
        bound = work.tokens_bound(self._output_bound_tokens)
        permit = await self._admission.admit(work.request.id, work.limits, bound)
        return msgspec.structs.replace(work, permit=permit)

    async def _open(self, work: Work, client: Client) -> bool:
        """Write the open entry (P1); False when the request ends here, having cost nothing."""
        if client.gone:
            # It left while its limits were asked: no engine need work for it.
            self.counts["left_before_open"] += 1
            self._books.settle(work, 0)
            return False
        try:
            self._books.open(work)
        except BillingError as fault:
            self._books.settle(work, 0)
            await self._fail(work, client, fault)
            return False
        except BaseException:
            self._books.settle(work, 0)
            raise
        return True

    async def _exchange(self, work: Work, client: Client) -> None:
        """Ask the engine and relay its answer."""

        def watch(exchange: Exchange) -> None:
            client.on_gone(lambda: self._leave(work, exchange))

        call = work.call
        head = request_head(
            work.place,
            call.upstream_path(work.target.deployment.backend_model),
            len(work.body),
            dict(work.request.headers),
            request_id=str(work.request.id),
            credential=work.target.backend.credential,
            content_type=call.content_type,
        )
        self._books.sent(work)
        try:
            reply = await self._upstream.send(work.place, head, work.body, watch)
        except Unavailable as fault:
            await self._give_up(work, client, fault, Outcome.UPSTREAM_ERROR)
            return
        try:
            streams = reply.status < STATUS_REFUSED_MIN and frames(reply.headers, call.framing)
            if is_encoded(reply.headers):
                encoded = UpstreamBroken("the engine's reply is compressed, though identity was asked for")
                await self._give_up(work, client, encoded, Outcome.UPSTREAM_ERROR)
            elif streams and work.assembler is not None:
                await self._assemble(work, client, reply, work.assembler)
            elif streams and (call.stream or call.framing is Framing.BINARY):
                await self._stream(work, client, reply, relay_of(call.framing, work.meter))
            else:
                await self._whole(work, client, reply)
        finally:
            client.on_gone(None)
            reply.close()

    def _leave(self, work: Work, exchange: Exchange) -> None:
        """The client hung up. After a finish reason the usage is on its way and is waited for; else the engine is told.

        A whole reply tells its usage at its end only: a backend may be set to finish it for that.
        """
        if work.meter.finished:
            exchange.expire(self._settings.drain_after_finish_s)
        elif work.drains:
            exchange.expire(self._settings.drain_after_hang_up_s)
        else:
            exchange.hang_up(self._settings.hang_up_grace_s)

    async def _stream(self, work: Work, client: Client, reply: Reply, relay: Relay) -> None:
        """Relay a stream piece by piece. At its end: close record, then the terminal bytes, then the rest of the reply."""
        await client.head(reply.status, self._head_of(work, reply))
        fault = None
        progressed_us = 0
        try:
            while not relay.terminal and (piece := await reply.read()):
                now_us = self._clock()
                out = relay.feed(piece, now_us)
                if out:
                    await client.chunk(out)
                progressed_us = self._books.progress(work, relay.meter, progressed_us, now_us)
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
        ending = stream_ending(work, relay.meter, reply.status, outcome, fault)
        fault = await self._books.close(work, ending) or fault
        await client.end(in_stream(work.call.dialect, fault, work.request.id) if fault else relay.terminal)
        await self._drain(reply)

    async def _assemble(self, work: Work, client: Client, reply: Reply, assembler: Assembler) -> None:
        """Make a whole reply of a stream, which the engine counts while it runs, for a client that wants no stream."""
        gathering = Gathering(work.meter, assembler)
        fault: BillingError | None = None
        progressed_us = 0
        try:
            while not work.meter.done and (piece := await reply.read()):
                now_us = self._clock()
                if gathering.feed(piece, now_us) > self._settings.reply_body_bytes_max:
                    raise _too_large(self._settings.reply_body_bytes_max)
                progressed_us = self._books.progress(work, work.meter, progressed_us, now_us)
        except Unavailable as broken:
            fault = broken
        gathering.finish(self._clock())
        outcome = stream_outcome(work.meter, gone=client.gone, complete=reply.complete)
        status = assembler.status()
        if outcome is Outcome.COMPLETE and assembler.whole:
            fault = None
        elif status == reply.status and fault is None:
            fault = UpstreamBroken("the engine ended its reply before it was finished")
        ending = stream_ending(work, work.meter, status, outcome, fault)
        body = assembler.body() if fault is None else b""
        await self._send_whole(work, client, reply, ending, fault, body)
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
            if work.call.replies_json and not is_json(reply.headers) and not client.gone:
                broken = UpstreamBroken(f"the engine's reply of {len(body)} bytes is not JSON")
                await self._give_up(work, client, broken, Outcome.TRUNCATED)
                return
            meter = work.call.reply_meter(work.engine, body)
            meter.heard(reply.headers)
            ending = await self._whole_ending(work, reply, meter)
            body = meter.stripped(body)
        await self._send_whole(work, client, reply, ending, refused, body)

    async def _send_whole(
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
            await self._fail(work, client, told)
            return
        headers = self._head_of(work, reply)
        if work.assembler is not None and reply.status < STATUS_REFUSED_MIN:
            headers = [pair for pair in headers if pair[0] != b"content-type"] + JSON_HEADERS
        await client.head(ending.status, [*headers, (b"content-length", str(len(body)).encode())])
        await client.end(body)

    async def _collect(self, reply: Reply) -> bytes:
        pieces, size = [], 0
        while piece := await reply.read():
            size += len(piece)
            if size > self._settings.reply_body_bytes_max:
                raise _too_large(self._settings.reply_body_bytes_max)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _give_up(self, work: Work, client: Client, fault: Unavailable, outcome: Outcome) -> None:
        """No whole reply came. The caller learns why, and the record says it: nothing used only if no engine was reached."""
        usage = NOTHING_USED if isinstance(fault, UpstreamUnreachable) else TokenUsage()
        if client.gone:
            ending = Ending(Outcome.CLIENT_CLOSED, STATUS_CLIENT_CLOSED, usage, error=fault.kind)
        else:
            status = answer(work.call.dialect, fault, work.request.id, self._clock()).status
            ending = Ending(outcome, status, usage, error=fault.kind)
        unrecorded = await self._books.close(work, ending)
        await self._fail(work, client, unrecorded or fault)

    async def _whole_ending(self, work: Work, reply: Reply, meter: ReplyMeter) -> Ending:
        usage = meter.usage()
        text = meter.reasoning_text()
        if text is not None and usage.output.value is not None:
            usage = clamp(msgspec.structs.replace(usage, reasoning=await self._count(work, text)))
        return Ending(
            Outcome.COMPLETE if reply.complete else Outcome.TRUNCATED,
            reply.status,
            with_units(usage, work.call.units()),
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

    async def _drain(self, reply: Reply) -> None:
        """Read what follows the terminal bytes, so that the connection can serve others."""
        reply.expire(self._settings.drain_after_finish_s)
        try:
            while await reply.read():
                pass
        except Unavailable:
            self.counts["upstream_broken_after_end"] += 1

    def _head_of(self, work: Work, reply: Reply) -> Headers:
        return [*reply_headers(reply.headers, str(work.request.id)), *self._limit_headers(work)]

    def _limit_headers(self, work: Work) -> Headers:
        """What is left of the limits, as the caller's dialect says it."""
        limits = [] if work.permit is None else work.permit.headers
        return dialect_headers(work.call.dialect, limits, work.request.id, self._clock())


def _too_large(bytes_max: int) -> UpstreamBroken:
    return UpstreamBroken(f"the engine's reply is larger than {bytes_max} bytes")


async def _answer(client: Client, status: int, body: bytes, request_id: UUID, headers: Headers) -> None:
    length = (b"content-length", str(len(body)).encode())
    await client.head(status, [*JSON_HEADERS, length, (b"x-request-id", str(request_id).encode()), *headers])
    await client.end(body)
