"""Chunks written together at the end of a tick: in their order, none lost, none to a client that has left."""

import asyncio

from billing.gateway.write_batch import PENDING_BYTES_MAX, WriteBatch


class Socket:
    """A transport that keeps what is written, beside what others wrote."""

    def __init__(self, name: str, journal: list[tuple[str, bytes]]) -> None:
        self.name = name
        self.journal = journal
        self.closing = False

    def write(self, data: bytes, /) -> None:
        self.journal.append((self.name, data))

    def is_closing(self) -> bool:
        return self.closing


async def test_all_of_a_tick_is_written_when_it_has_ended_in_its_order() -> None:
    journal: list[tuple[str, bytes]] = []
    one, two = Socket("one", journal), Socket("two", journal)
    batch, soon = WriteBatch(), asyncio.get_running_loop().call_soon
    for socket, data in ((one, b"1"), (two, b"2"), (one, b"3")):
        batch.add(socket, data, soon)
    assert (journal, repr(batch)) == ([], "<WriteBatch 3 pending>")
    await asyncio.sleep(0)
    assert journal == [("one", b"1"), ("two", b"2"), ("one", b"3")]
    batch.add(one, b"4", soon)
    await asyncio.sleep(0)
    assert journal[3:] == [("one", b"4")]


async def test_a_client_that_has_left_costs_nobody_else_a_chunk() -> None:
    journal: list[tuple[str, bytes]] = []
    left, stays = Socket("left", journal), Socket("stays", journal)
    batch, soon = WriteBatch(), asyncio.get_running_loop().call_soon
    batch.add(left, b"1", soon)
    batch.add(stays, b"2", soon)
    left.closing = True
    await asyncio.sleep(0)
    assert journal == [("stays", b"2")]


async def test_what_is_much_is_written_at_once() -> None:
    journal: list[tuple[str, bytes]] = []
    batch = WriteBatch()
    socket, soon = Socket("one", journal), asyncio.get_running_loop().call_soon
    batch.add(socket, b"x", soon)
    batch.add(socket, b"x" * PENDING_BYTES_MAX, soon)
    assert [len(data) for _, data in journal] == [1, PENDING_BYTES_MAX]
    await asyncio.sleep(0)
    assert len(journal) == 2
