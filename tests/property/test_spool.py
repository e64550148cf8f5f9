"""Whatever is written, however it is read and wherever a recorder dies: each request ends as exactly one record."""

import random
import tempfile
from pathlib import Path
from uuid import UUID

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.metering.event import Opened, Progress, UsageRecord, encode_entry, interrupt, settle
from billing.metering.journal import Batch, Cursor, Journal
from billing.metering.segment import Damage, Framed, frame, scan
from billing.metering.spool import Spool, SpoolReader
from billing.settings import SpoolSettings
from tests import metering_kit as kit

KINDS = st.sampled_from(["open", "open", "progress", "close", "close"])
SMALL = SpoolSettings(bytes_max=1 << 20, reserve_bytes=1 << 18, segment_bytes_max=1_000)


class Writer:
    """A gateway worker that does random things, and what must come of them."""

    def __init__(self, root: Path, seed: int) -> None:
        self.random = random.Random(seed)
        new_id = kit.id_maker(seed)
        self.new_id = new_id
        self.spool = Spool.create(root, new_id(), SMALL)
        self.opens: dict[UUID, Opened] = {}
        self.progress: dict[UUID, Progress] = {}
        self.expected: dict[UUID, UsageRecord] = {}

    def act(self, kind: str) -> None:
        if kind == "open" or not self.opens:
            entry = kit.opened(self.new_id(), end_user="u" * self.random.randrange(200))
            self.spool.open(entry)
            self.opens[entry.id] = entry
            return
        usage_id = self.random.choice(list(self.opens))
        if kind == "progress":
            self.progress[usage_id] = kit.progress(usage_id, self.random.randrange(1_000))
            self.spool.progress(self.progress[usage_id])
        else:
            entry = kit.closed(usage_id, kit.usage(output_tokens=self.random.randrange(1_000)))
            self.spool.close(entry)
            self.expected[usage_id] = settle(self.opens.pop(usage_id), entry)

    def die(self) -> None:
        self.spool.shutdown()
        for usage_id, entry in self.opens.items():
            self.expected[usage_id] = interrupt(entry, self.progress.get(usage_id))


class Ledger:
    """The database: a cursor and records that change together or not at all."""

    def __init__(self) -> None:
        self.cursor = Cursor()
        self.records: list[UsageRecord] = []
        self.is_closed = False

    def commit(self, batch: Batch) -> bool:
        if batch.before != self.cursor:
            return False
        self.cursor, self.is_closed = batch.after, batch.is_last
        self.records += batch.records
        return True


class Reader:
    """A recorder without its database: reads, joins, commits; dies now and then before or after the commit."""

    def __init__(self, spool_id: UUID, folder: Path, ledger: Ledger) -> None:
        self.spool_id, self.folder, self.ledger = spool_id, folder, ledger
        self.start()

    def start(self) -> None:
        self.reader = SpoolReader(self.folder)
        self.journal = Journal(self.spool_id, self.ledger.cursor)
        self.waiting: list[Framed | Damage] = []

    def turn(self, count_max: int, fate: str) -> None:
        is_dead = self.reader.is_dead()
        at_end = False
        while len(self.journal) < count_max and not at_end:
            self.waiting = self.waiting or self.reader.read(self.journal.position).found
            at_end = not self.waiting
            if self.waiting:
                self.journal.feed(self.waiting.pop(0))
        if at_end and is_dead:
            self.journal.interrupt(count_max - len(self.journal))
        if len(self.journal) or (at_end and is_dead):
            batch = self.journal.take(is_dead=at_end and is_dead)
            committed = fate != "dies before its commit" and self.ledger.commit(batch)
            if not committed or fate == "dies after its commit":
                self.reader.close()
                self.start()


FATES = st.sampled_from(["lives", "lives", "lives", "dies before its commit", "dies after its commit"])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    steps=st.lists(st.one_of(KINDS, st.tuples(st.integers(0, 1), st.integers(1, 4), FATES)), max_size=120),
)
def test_each_request_is_recorded_exactly_once(seed: int, steps: list[str | tuple[int, int, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        writer, ledger = Writer(Path(folder), seed), Ledger()
        spool_id = UUID(next(Path(folder).iterdir()).stem)
        recorders = [Reader(spool_id, Path(folder) / f"{spool_id}.spool", ledger) for _ in range(2)]
        for step in steps:
            if isinstance(step, str):
                writer.act(step)
            else:
                recorders[step[0]].turn(step[1], step[2])
        writer.die()
        for turn in range(1_000):
            if ledger.is_closed:
                break
            recorders[turn % 2].turn(3, "lives")
        for recorder in recorders:
            recorder.reader.close()
    assert ledger.is_closed
    assert len(ledger.records) == len({record.id for record in ledger.records})
    assert {record.id: record for record in ledger.records} == writer.expected


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=30),
    seed=st.integers(0, 1 << 32),
    flips=st.integers(0, 6),
    base=st.integers(0, 1 << 40),
    data=st.data(),
)
def test_damage_costs_what_it_hits_and_nothing_else(
    sizes: list[int], seed: int, flips: int, base: int, data: st.DataObject
) -> None:
    source = random.Random(seed)
    whole, entries = bytearray(), []
    for size in sizes:
        start = len(whole)
        whole += frame(source.randbytes(size), base + start)
        entries.append(Framed(base + start, base + len(whole), bytes(whole[start + 8 :])))
    broken = {data.draw(st.integers(0, len(whole) - 1)) for _ in range(flips)}
    for offset in broken:
        whole[offset] ^= 1 + source.randrange(255)
    result = scan(bytes(whole), base, at_end=True)
    untouched = [e for e in entries if not any(e.start <= base + offset < e.end for offset in broken)]
    assert [item for item in result.found if isinstance(item, Framed)] == untouched
    # Everything is accounted for: what was found, in order, without a gap up to where reading goes on.
    position = base
    for item in result.found:
        assert item.start == position
        position = item.end
    assert position == result.position


@settings(max_examples=60, deadline=None)
@given(
    cut=st.integers(0, 1 << 16),
    seed=st.integers(0, 1 << 32),
    kinds=st.lists(KINDS, min_size=1, max_size=30),
)
def test_a_file_cut_anywhere_reads_as_its_whole_entries(cut: int, seed: int, kinds: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        writer = Writer(Path(folder), seed)
        writer.spool.open(kit.opened(writer.new_id()))
        for kind in kinds:
            writer.act(kind)
        writer.die()
        [spool] = Path(folder).iterdir()
        last = max(spool.glob("*.segment"))
        reader = SpoolReader(spool)
        before = read_all(reader)
        with last.open("r+b") as file:
            file.truncate(cut % (last.stat().st_size + 1))
        size = last.stat().st_size
        reader.close()
        after = read_all(reader)
        reader.close()
    end = int(last.stem) + size
    assert after == [item for item in before if item.end <= end]


def read_all(reader: SpoolReader) -> list[Framed | Damage]:
    found: list[Framed | Damage] = []
    while more := reader.read(found[-1].end if found else 0).found:
        found += more
    return found


def test_the_largest_entries_a_caller_can_cause_still_fit() -> None:
    tags = {f"{number:0128d}": "v" * 128 for number in range(16)}
    largest = msgspec.structs.replace(
        kit.opened(kit.id_maker()(), end_user="u" * 8_000), tags=tags, idempotency_key="k" * 8_000
    )
    assert len(encode_entry(largest)) < 32_768
