"""What is written of a request: its open entry before anything is done, its progress, its close entry (P1, P2, P11)."""

from collections import Counter

from billing.clock import MICROSECONDS_PER_SECOND, Clock
from billing.errors import Unavailable
from billing.gateway.ending import Ending
from billing.gateway.label import label
from billing.gateway.ports import Admission, Spool
from billing.gateway.work import Work
from billing.limits.admission import Permit
from billing.limits.expectation import Expectation
from billing.limits.used import NOTHING, Used
from billing.metering.event import Closed, Progress
from billing.settings import Durability, GatewaySettings
from billing.tokens.meter import StreamMeter
from billing.tokens.usage import Count, Outcome, Provenance, TokenUsage

_ESTIMATED, _COMPLETE = (
    Provenance.ESTIMATED,
    Outcome.COMPLETE,
)  # members are looked up slowly, on the hot path
NOTHING_WRITTEN = range(0)
"""What :meth:`Books.progress` gives back before it has written anything."""


class Books:
    """Keeps the spool and the limits of one worker in step with its requests."""

    def __init__(
        self,
        *,
        spool: Spool,
        admission: Admission,
        expectation: Expectation,
        clock: Clock,
        settings: GatewaySettings,
        counts: Counter[str],
    ) -> None:
        self._spool = spool
        self._admission = admission
        self._expectation = expectation
        self._clock = clock
        self._durability = settings.durability
        self._progress_interval_us = int(settings.progress_interval_s * MICROSECONDS_PER_SECOND)
        self._counts = counts
        self._open: dict[int, int | None] = {}
        """By usage id the gateway's own time until a request left for its engine; None for one that has not left.

        Ids as integers: a UUID's hash is computed in Python.
        """

    def __repr__(self) -> str:
        return f"<Books {len(self._open)} open>"

    def open(self, work: Work) -> None:
        """Write the open entry: from here on the request ends as exactly one record. Raises ``SpoolFull``."""
        self._spool.open(work.opened())
        self._open[work.request.id.int] = None

    def sent(self, work: Work) -> None:
        """The request leaves for the engine: what came before was the gateway's own time."""
        self._open[work.request.id.int] = max(0, self._clock() - work.request.at_us)

    def is_open(self, work: Work) -> bool:
        """Whether the request was opened and not closed."""
        return work.request.id.int in self._open

    def progress(self, work: Work, meter: StreamMeter, now_us: int) -> range:
        """Write what is known of a stream; the instants at which no other entry is due, none before the first token.

        A clock that is set back leaves them, so the next entry is due then, too.
        """
        if meter.first_token_us is None:
            return NOTHING_WRITTEN
        at_us = work.request.at_us
        ttft_us = max(0, meter.first_token_us - at_us)
        usage = meter.usage()
        self._spool.progress(Progress(work.request.id, usage, max(0, now_us - at_us), ttft_us))
        if work.permit is not None and meter.events_spoken > 1:
            # The first event is well within what was reserved: to charge it would cost a command a stream.
            self._charge(work.permit, usage)
        return range(now_us, now_us + self._progress_interval_us)

    def _charge(self, permit: Permit, usage: TokenUsage) -> None:
        """What is charged is never refunded: only what the engine itself counted."""
        used = Used(_counted(usage.input), _counted(usage.output))
        if used.input is not None or used.output is not None:
            self._admission.progress(permit, used)

    async def close(self, work: Work, ending: Ending) -> Unavailable | None:
        """Write the close entry, synced if the caller's reply waits for that (P2), and charge the limits.

        Gives back why it could not be written: then nothing more is served (P11), and since the open entry stands, the
        recorder still makes a record of the request.
        """
        overhead_us = self._open.pop(work.request.id.int, None)
        self._counts[ending.outcome] += 1
        self.settle(work, Used(ending.usage.input.value, ending.usage.output.value))
        if work.permit is not None and ending.outcome is _COMPLETE:
            self._learn(work, ending.usage)
        closed = Closed(
            id=work.request.id,
            outcome=ending.outcome,
            status=ending.status,
            usage=ending.usage,
            duration_us=max(0, self._clock() - work.request.at_us),
            ttft_us=ending.ttft_us,
            itl_us=ending.itl_us,
            ttfa_us=ending.ttfa_us,
            gap_max_us=ending.gap_max_us,
            overhead_us=overhead_us,
            response_id=label(ending.response_id),
            response_model=label(ending.response_model),
            error=ending.error,
        )
        try:
            position = self._spool.close(closed)
            if self._durability is Durability.BEFORE_REPLY:
                await self._spool.synced(position)
        except Unavailable as fault:
            self._counts[f"unrecorded_{fault.kind}"] += 1
            return fault
        return None

    def settle(self, work: Work, used: Used = NOTHING) -> None:
        """Charge the limits with what was used."""
        if work.permit is not None:
            self._admission.settle(work.permit, used)

    def _learn(self, work: Work, usage: TokenUsage) -> None:
        """What comes to its end tells how much the next requests may need."""
        self._expectation.learn(
            work.caller.tenant_id,
            work.model,
            prompt_bytes=work.call.prompt_bytes(),
            answers=work.call.answers(),
            input_tokens=_counted(usage.input),
            output_tokens=_counted(usage.output),
        )


def _counted(count: Count) -> int | None:
    return None if count.provenance is _ESTIMATED else count.value
