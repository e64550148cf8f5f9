"""Events of usage that did not pass the gateway: each becomes one usage record, however often it is sent.

One call is one transaction: what events name is looked up under the role ``control``, the rest is done as ``recorder``,
by the recorder's own statement and under its lock, so that a close counts an event or comes before it.
"""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from billing.clock import Clock
from billing.errors import InvalidInput, TooLarge
from billing.infra.postgres import Connection, Database
from billing.metering import store as records
from billing.metering.event import UsageRecord
from billing.metering.external import store
from billing.metering.external.body import EVENTS_MAX
from billing.metering.external.event import ExternalEvent, payload_hash, read_event
from billing.metering.external.record import Owner, record_of
from billing.metering.external.store import Claim, Known, Name
from billing.metering.external.verdict import Verdict, Word, rejected
from billing.metering.journal import Reason, Rejected, reject
from billing.metering.rows import sort_out
from billing.metering.store import RowsRefusedError
from billing.tenants.tenant import shown


class _Sent(msgspec.Struct, frozen=True):
    """An event in its place among those that were sent together."""

    place: int
    where: str
    event: ExternalEvent


class _Entry(msgspec.Struct, frozen=True):
    """The same with the record that it becomes."""

    place: int
    event: ExternalEvent
    record: UsageRecord
    claim: Claim

    @property
    def name(self) -> Name:
        """What names the event for ever."""
        return self.claim.name


class EventService:
    """Records what others counted. Raises ``TooLarge``, and ``Unavailable`` when nothing was recorded."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def __repr__(self) -> str:
        return f"<EventService {self._database!r}>"

    async def record(self, values: Sequence[object], *, first: int | None = 0) -> list[Verdict]:
        """A verdict on each decoded JSON value, in order. Sending the same again changes nothing.

        ``first`` is the index of the first value in what the sender sees, for paths; None when it sent no array. Usage
        of a suspended tenant and of an archived project is taken: the work was done.
        """
        if len(values) > EVENTS_MAX:
            raise TooLarge(f"at most {EVENTS_MAX:,} events at once, got {len(values):,}")
        now_us = self._clock()
        verdicts: dict[int, Verdict] = {}
        sent: list[_Sent] = []
        for place, value in enumerate(values):
            where = "" if first is None else f"[{first + place}]"
            try:
                sent.append(_Sent(place, where, read_event(value, where, now_us)))
            except InvalidInput as fault:
                verdicts[place] = rejected(fault, value)
        if sent:
            async with self._database.transaction() as connection:
                verdicts |= await _record(connection, sent, now_us)
        return [verdicts[place] for place in range(len(values))]


async def _record(connection: Connection, sent: Sequence[_Sent], now_us: int) -> dict[int, Verdict]:
    entries, verdicts = await _resolve(connection, sent)
    if not entries:
        return verdicts
    await store.become_recorder(connection)
    await store.months_ensure(connection, {each.record.at_us for each in entries})
    accepted, refused = await _insert(connection, entries, now_us)
    known = await store.known(connection, {each.name for each in entries})
    conflicts: list[Rejected] = []
    for entry in entries:
        if entry.name in refused:
            verdict = _verdict(entry, Word.REJECTED, None, refused[entry.name])
        elif entry.place in accepted:
            verdict = _verdict(entry, Word.ACCEPTED, entry.record.id)
        else:
            verdict = _compared(entry, known[entry.name], conflicts)
        verdicts[entry.place] = verdict
    if conflicts:
        await records.quarantine(connection, conflicts, None, now_us)
    return verdicts


async def _resolve(connection: Connection, sent: Sequence[_Sent]) -> tuple[list[_Entry], dict[int, Verdict]]:
    """Entries of the events whose tenants and projects exist, and verdicts on the others."""
    tenants = await store.tenants_named(connection, {each.event.tenant for each in sent})
    wanted = {
        (tenants[each.event.tenant], each.event.data.project)
        for each in sent
        if each.event.data.project is not None and each.event.tenant in tenants
    }
    projects = await store.projects_named(connection, wanted) if wanted else {}
    models = await store.models_of_aliases(connection, {each.event.data.model for each in sent})
    entries: list[_Entry] = []
    verdicts: dict[int, Verdict] = {}
    for each in sent:
        try:
            model = models.get(each.event.data.model, each.event.data.model)
            entries.append(_entry(each, _owner(each, tenants, projects, model)))
        except InvalidInput as fault:
            verdicts[each.place] = rejected(fault, {"source": each.event.source, "id": each.event.id})
    return entries, verdicts


def _owner(
    sent: _Sent, tenants: dict[str, UUID], projects: dict[tuple[UUID, str], UUID], model: str
) -> Owner:
    event, prefix = sent.event, f"{sent.where}." if sent.where else ""
    tenant_id = tenants.get(event.tenant)
    if tenant_id is None:
        raise InvalidInput(f"{prefix}subject: there is no tenant {shown(event.tenant)}", f"{prefix}subject")
    if event.data.project is None:
        return Owner(tenant_id, None, model)
    project_id = projects.get((tenant_id, event.data.project))
    if project_id is None:
        where = f"{prefix}data.project"
        raise InvalidInput(
            f"{where}: tenant {event.tenant} has no project {shown(event.data.project)}", where
        )
    return Owner(tenant_id, project_id, model)


def _entry(sent: _Sent, owner: Owner) -> _Entry:
    record = record_of(sent.event, owner)
    name = (owner.tenant_id, sent.event.source, sent.event.id)
    claim = Claim(name, Known(record.id, payload_hash(sent.event)))
    return _Entry(sent.place, sent.event, record, claim)


async def _insert(
    connection: Connection, entries: Sequence[_Entry], now_us: int
) -> tuple[set[int], dict[Name, str]]:
    """Places of the entries whose records were inserted, and why names were refused.

    The first entry of a name stands for all. A part is halved around each that Postgres refuses, as the recorder does.
    """
    firsts: dict[Name, _Entry] = {}
    for entry in entries:
        firsts.setdefault(entry.name, entry)
    tenant_ids = {entry.claim.name[0] for entry in entries}
    collections = await records.collections_read(connection, list(tenant_ids))
    partitions = await records.partitions_covered(connection)
    accepted: set[int] = set()
    refused: dict[Name, str] = {}
    parts = [sorted(firsts.values(), key=lambda entry: entry.name)]
    while parts:
        part = parts.pop()
        try:
            async with store.savepoint(connection):
                new = await store.claim(connection, [entry.claim for entry in part], now_us)
                inserted = [entry for entry in part if entry.name in new]
                divided = sort_out([entry.record for entry in inserted], collections, partitions)
                _check_whole(len(divided.rows), len(inserted))
                present = await records.records_insert(connection, divided.rows, None, now_us)
                _check_whole(len(divided.rows) - len(present), len(inserted))
        except RowsRefusedError as fault:
            if len(part) > 1:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            else:
                refused[part[0].name] = f"the record cannot be kept: {fault}"
            continue
        accepted |= {entry.place for entry in inserted}
    return accepted, refused


def _check_whole(taken: int, wanted: int) -> None:
    """An event that is kept and has no record would be lost, so such a part is undone."""
    if taken != wanted:
        raise RowsRefusedError("its usage id is taken, or outside the months that records are kept in")


def _compared(entry: _Entry, known: Known, conflicts: list[Rejected]) -> Verdict:
    """The verdict on an event whose name was taken. The audit log has what is in quarantine."""
    if known.payload_hash == entry.claim.known.payload_hash:
        return _verdict(entry, Word.DUPLICATE, known.usage_id)
    detail = f"event {entry.event.id} of {entry.event.source} was recorded before and said something else"
    conflicts.append(
        msgspec.structs.replace(reject(entry.record, Reason.CONFLICT, detail), id=known.usage_id)
    )
    reason = "an event of this source and id was recorded before and said something else; nothing changed"
    return _verdict(entry, Word.CONFLICT, known.usage_id, reason)


def _verdict(entry: _Entry, word: Word, usage_id: UUID | None, reason: str | None = None) -> Verdict:
    return Verdict(word, entry.event.source, entry.event.id, usage_id, reason)
