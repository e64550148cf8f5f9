"""Slots of a cluster are marked one after the other, whatever its servers do meanwhile."""

import asyncio
from collections.abc import Sequence
from typing import Any

from billing.infra.valkey import SLOTS, Greeter, Part, Script
from billing.limits.cache import MARKERS_MAX, LimitCache


class Recorder:
    """A cluster that notes the first key of every script."""

    connected = True
    is_cluster = True

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.greeters: list[Greeter] = []

    def greet_with(self, greeter: Greeter) -> None:
        self.greeters.append(greeter)

    def script(self, script: Script, keys: Sequence[bytes], args: Sequence[Part]) -> "asyncio.Future[Any]":
        self.keys.append(keys[0])
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.set_result([b"1", b"2"])
        return answer


async def test_servers_that_come_and_go_put_off_the_marking_of_no_slot_for_ever() -> None:
    transport = Recorder()
    store = LimitCache(transport)
    for _ in range(SLOTS // MARKERS_MAX):
        store.returned()
        await store.epoch()
    assert len(set(transport.keys)) == SLOTS + 1  # and the epoch of all
    assert len(transport.greeters) == 1


async def test_once_all_are_marked_only_the_epoch_is_asked() -> None:
    transport = Recorder()
    store = LimitCache(transport)
    store.returned()
    for _ in range(SLOTS // MARKERS_MAX):
        await store.epoch()
    transport.keys.clear()
    await store.epoch()
    assert len(transport.keys) == 1
