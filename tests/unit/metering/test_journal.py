from uuid import UUID

import pytest

from billing.metering.event import Entry, decode_entry, encode_entry
from billing.metering.journal import NO_TENANT, Batch, Cursor, Journal, Reason
from billing.metering.segment import HEADER_BYTES, Damage, Framed
from tests import metering_kit as kit

SPOOL = UUID("01900000-0000-7000-8000-0000000000aa")
A, B, C = (UUID(f"01900000-1111-7000-8000-{number:012d}") for number in (1, 2, 3))


def placed(*entries: Entry | bytes) -> list[Framed]:
    """Entries one after the other from position 0."""
    found, position = [], 0
    for entry in entries:
        payload = entry if isinstance(entry, bytes) else encode_entry(entry)
        found.append(Framed(position, position + HEADER_BYTES + len(payload), payload))
        position = found[-1].end
    return found


def journal_of(found: list[Framed | Damage], cursor: Cursor | None = None) -> Journal:
    cursor = cursor or Cursor()
    journal = Journal(SPOOL, cursor)
    for item in found:
        if item.start >= cursor.oldest_open:
            journal.feed(item)
    return journal


def ids(batch: Batch) -> list[UUID]:
    return [record.id for record in batch.records]


def test_an_open_and_a_close_are_one_record() -> None:
    found = placed(kit.opened(A), kit.progress(A, 3), kit.closed(A))
    batch = journal_of(found).take()
    assert ids(batch) == [A]
    assert batch.records[0].usage == kit.usage()
    assert batch.after == Cursor(found[-1].end, found[-1].end)
    assert not batch.is_last


def test_a_request_that_is_still_open_waits_and_holds_the_place_to_read_from() -> None:
    found = placed(kit.opened(A), kit.opened(B), kit.closed(B), kit.opened(C))
    batch = journal_of(found).take()
    assert ids(batch) == [B]
    assert batch.after == Cursor(shipped_through=found[-1].end, oldest_open=found[0].start)


def test_open_entries_alone_are_not_worth_a_commit() -> None:
    assert len(journal_of(placed(kit.opened(A), kit.progress(A, 1)))) == 0


def test_reading_again_from_the_cursor_brings_each_record_once() -> None:
    found = placed(kit.opened(A), kit.opened(B), kit.closed(B), kit.closed(A))
    first = journal_of(found[:3]).take()
    second = journal_of(found, first.after).take()
    assert ids(first) + ids(second) == [B, A]


def test_what_is_shipped_brings_nothing_when_it_is_read_again() -> None:
    found = placed(kit.opened(A), kit.closed(B), b"\xc1", kit.closed(A))
    end = found[-1].end
    assert len(journal_of([*found, Damage(5, 9, b"")], Cursor(shipped_through=end, oldest_open=0))) == 0


def test_a_dead_writers_open_requests_become_interrupted_records_oldest_first() -> None:
    journal = journal_of(
        placed(kit.opened(A), kit.opened(B), kit.progress(B, 17), kit.opened(C), kit.closed(A))
    )
    assert journal.interrupt(10) == 2
    batch = journal.take(is_dead=True, interrupted=2)
    assert [(record.id, record.outcome) for record in batch.records] == [
        (A, "complete"),
        (B, "interrupted"),
        (C, "interrupted"),
    ]
    assert batch.records[1].usage.output.value == 17
    assert batch.records[2].usage.output.value is None
    assert (batch.is_last, batch.interrupted) == (True, 2)


def test_more_open_requests_than_a_batch_holds_end_in_several_and_survive_a_restart_between() -> None:
    found = placed(kit.opened(A), kit.opened(B), kit.opened(C))
    journal = journal_of(found)
    journal.interrupt(2)
    first = journal.take(is_dead=True)
    assert (ids(first), first.is_last) == ([A, B], False)
    again = journal_of(found, first.after)
    again.interrupt(2)
    second = again.take(is_dead=True)
    assert (ids(second), second.is_last) == ([C], True)


def test_the_last_batch_of_a_dead_spool_may_be_empty() -> None:
    assert journal_of([]).take(is_dead=True).is_last


def test_an_open_entry_that_is_written_again_moves_the_place_to_read_from() -> None:
    """The writer carries long requests forward, so that they pin no old segment."""
    found = placed(
        kit.opened(A), kit.opened(B), kit.progress(A, 5), kit.opened(A), kit.closed(B), kit.closed(A)
    )
    batch = journal_of(found[:-1]).take()
    assert batch.after.oldest_open == found[3].start
    assert ids(batch) == [B]
    assert ids(journal_of(found, batch.after).take()) == [A]


def test_a_request_that_was_not_carried_still_holds_its_place() -> None:
    found = placed(kit.opened(A), kit.opened(B), kit.opened(C), kit.opened(A), kit.closed(C))
    assert journal_of(found).take().after.oldest_open == found[1].start


def test_a_carried_request_keeps_its_progress() -> None:
    journal = journal_of(placed(kit.opened(A), kit.progress(A, 5), kit.opened(A)))
    journal.interrupt(1)
    assert journal.take(is_dead=True).records[0].usage.output.value == 5


def test_a_close_whose_open_is_gone_is_kept() -> None:
    batch = journal_of(placed(kit.closed(A))).take()
    [rejected] = batch.rejected
    assert (rejected.tenant_id, rejected.id, rejected.reason) == (NO_TENANT, A, Reason.CLOSE_WITHOUT_OPEN)
    assert decode_entry(rejected.payload) == kit.closed(A)


def test_a_second_close_is_kept_and_the_first_counts() -> None:
    batch = journal_of(placed(kit.opened(A), kit.closed(A), kit.closed(A))).take()
    assert ids(batch) == [A]
    assert [rejected.reason for rejected in batch.rejected] == [Reason.CLOSE_WITHOUT_OPEN]


@pytest.mark.parametrize("payload", [b"\xc1", encode_entry(["later_version", 1])])
def test_an_entry_of_an_unknown_kind_is_kept_and_nothing_waits_for_it(payload: bytes) -> None:
    batch = journal_of(placed(payload, kit.opened(A), kit.closed(A))).take()
    assert ids(batch) == [A]
    assert [(r.reason, r.payload) for r in batch.rejected] == [(Reason.UNREADABLE, payload)]


def test_damage_is_kept_under_the_same_id_each_time_and_another_at_another_place() -> None:
    def rejected_id(spool_id: UUID, start: int) -> UUID:
        journal = Journal(spool_id, Cursor())
        journal.feed(Damage(start, start + 9, b"broken"))
        [rejected] = journal.take().rejected
        assert rejected.reason == Reason.DAMAGE
        return rejected.id

    assert rejected_id(SPOOL, 8) == rejected_id(SPOOL, 8)
    assert len({rejected_id(SPOOL, 8), rejected_id(SPOOL, 9), rejected_id(A, 8)}) == 3


def test_the_cursor_never_moves_back() -> None:
    """After a power loss a file may end before what was read of it earlier."""
    cursor = Cursor(shipped_through=10_000, oldest_open=0)
    assert journal_of(placed(kit.opened(A)), cursor).take().after == Cursor(10_000, 0)


def test_it_tells_its_state_in_one_line() -> None:
    found = placed(kit.opened(A), kit.opened(B), kit.closed(B))
    assert repr(journal_of(found)) == f"<Journal position={found[-1].end} open=1 waiting=1>"


def test_the_oldest_open_request_is_found_by_its_arrival_and_not_by_its_place() -> None:
    early, late = kit.id_maker(1, lambda: 5_000_000)(), kit.id_maker(2, lambda: 7_000_000)()
    # The earlier one was carried forward, so it stands behind.
    found = placed(
        kit.opened(early), kit.opened(late), kit.opened(early), kit.closed(early), kit.closed(late)
    )
    assert journal_of([]).oldest_open_us is None
    assert journal_of(found[:3]).oldest_open_us == 5_000_000
    assert journal_of(found[:4]).oldest_open_us == 7_000_000
    assert journal_of(found).oldest_open_us is None
