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
from billing.errors import BillingError, Unavailable
from billing.gateway.answers import STATUS_REFUSED_MIN, Answers, send_whole
from billing.gateway.books import Books
from billing.gateway.catalog import catalog
from billing.gateway.ending import Ending
from billing.gateway.forward import request_head
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
from billing.gateway.probing import STATUS_REFUSED, Probes, is_about_ours
from billing.gateway.routes import CatalogRoute, dialect_of, route
from billing.gateway.work import Work, decide
from billing.limits.expectation import Expectation
from billing.settings import GatewaySettings, LimitsSettings
from billing.tokens.dialects.routes import Route
from billing.tokens.estimate import BYTES_PER_TOKEN
from billing.tokens.operation import Dialect
from billing.tokens.usage import Outcome


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
        self._settings = settings
        self._expectation = Expectation(output_bound_tokens, BYTES_PER_TOKEN)
        self.counts: Counter[str] = Counter()
        """Requests by outcome, refusals by the kind of their error."""
        self._probes = Probes()
        self._books = Books(
            spool=spool,
            admission=admission,
            expectation=self._expectation,
            clock=clock,
            settings=settings,
            counts=self.counts,
        )
        self._answers = Answers(
            books=self._books,
            tokenizer=tokenizer,
            clock=clock,
            settings=settings,
            counts=self.counts,
            report=report,
        )

    def __repr__(self) -> str:
        return f"<Proxy {dict(self.counts)}>"

    async def serve(self, request: Request, client: Client) -> None:
        """Answer one request, whatever it is; only a broken transport raises."""
        dialect = dialect_of(request.path)
        try:
            caller, asked = self.welcome(request.method, request.path, request.headers, request.at_us)
            if isinstance(asked, CatalogRoute):
                await send_whole(
                    client, 200, catalog(self._directory, asked, caller, request.at_us), request.id, []
                )
                return
            work = decide(self._directory, request, caller, asked, self._probes)
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
        return self._directory.caller(authorization, at_us), route(method, path, self._settings.control_url)

    async def refuse(
        self,
        client: Client,
        fault: BillingError,
        request_id: UUID,
        dialect: Dialect = Dialect.OPENAI,
        headers: Headers | None = None,
    ) -> None:
        """Send an error in the caller's dialect; nothing is recorded of a request that was never admitted."""
        await self._answers.refuse(client, fault, request_id, dialect, headers)

    async def _admit(self, work: Work) -> Work:
        """Ask the limits."""
        if not work.limits:
            return work
        need = work.need(self._expectation)
        permit = await self._admission.admit(work.request.id, work.limits, need)
        return msgspec.structs.replace(work, permit=permit)

    async def _open(self, work: Work, client: Client) -> bool:
        """Write the open entry (P1); False when the request ends here, having cost nothing."""
        if client.gone:
            # It left while its limits were asked: no engine need work for it.
            self.counts["left_before_open"] += 1
            self._books.settle(work)
            return False
        try:
            self._books.open(work)
        except BillingError as fault:
            self._books.settle(work)
            await self._answers.fail(work, client, fault)
            return False
        except BaseException:
            self._books.settle(work)
            raise
        return True

    async def _exchange(self, work: Work, client: Client) -> None:
        """Ask the engine and relay its answer; an engine of unknown kind may have to be asked a second time."""
        self._books.sent(work)
        again = await self._ask(work, client)
        if again is not None:
            await self._ask(again, client, is_again=True)

    async def _ask(self, work: Work, client: Client, *, is_again: bool = False) -> Work | None:
        """Ask once. What to ask in its place, when the engine refused what was added to the request."""
        try:
            reply = await self._send(work, client)
        except Unavailable as fault:
            await self._answers.give_up(work, client, fault, Outcome.UPSTREAM_ERROR)
            return None
        try:
            if is_again and reply.status < STATUS_REFUSED_MIN:
                self._probes.remember(work.target.backend)
            elif work.engine.probed and reply.status == STATUS_REFUSED and not is_again:
                reply = held = await self._answers.hold(reply)
                if is_about_ours(work.engine, work.request.body, work.body, held.body):
                    return work.plainer()
            await self._answers.relay(work, client, reply)
        finally:
            client.on_gone(None)
            reply.close()
        return None

    async def _send(self, work: Work, client: Client) -> Reply:
        call = work.call
        head = request_head(
            work.place,
            call.upstream_path(work.target.deployment.backend_model),
            len(work.body),
            work.request.headers,
            request_id=work.id_text,
            credential=work.target.backend.credential,
            content_type=call.content_type,
        )

        def watch(exchange: Exchange) -> None:
            client.on_gone(lambda: self._leave(work, exchange))

        return await self._upstream.send(work.place, head, work.body, watch)

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
