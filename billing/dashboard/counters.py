"""What an engine's own counters say since we first saw them. Pure: pages of numbers in, differences out.

The table of engines (``billing.tokens.engines``) says what the counters are called: llama.cpp's prompt counter leaves
cached tokens out and counts them beside it, vLLM's has them in it. All move when work is done, also for a caller who has
left.
"""

from collections.abc import Mapping

import msgspec

from billing.clock import MICROSECONDS_PER_SECOND
from billing.tokens.engines import ENGINES, Counters
from billing.tokens.prometheus import parse_counters

SETTLE_US = 300 * MICROSECONDS_PER_SECOND
"""How long a comparison that began while requests were running waits for a quiet moment to begin again at."""
WINDOW_US = 86_400 * MICROSECONDS_PER_SECOND
"""A comparison this old begins again at the next quiet moment, so that it never sums over all of history."""


NAMES: Mapping[str, Counters] = {
    engine.name: engine.counters for engine in ENGINES.values() if engine.counters is not None
}
"""Where the engines expose counters, by the engine kind of a backend; kinds that are not in it have none."""


class Reading(msgspec.Struct, frozen=True):
    """An engine's counters at an instant; ``running`` is None where the engine does not say."""

    at_us: int
    input: int
    output: int
    running: int | None


class Track(msgspec.Struct, frozen=True):
    """What an engine counted since ``began``: tokens over all its restarts, of which there were so many."""

    began: Reading
    last: Reading
    input: int = 0
    output: int = 0
    restarts: int = 0


def read(page: str, names: Counters, at_us: int) -> Reading | None:
    """The counters of a page; None when it has not got them."""
    found = parse_counters(page)
    if names.input[0] not in found or names.output not in found:
        return None
    return Reading(
        at_us=at_us,
        input=sum(int(found.get(name, 0)) for name in names.input),
        output=int(found[names.output]),
        running=_running(page, names.running),
    )


def _running(page: str, gauges: tuple[str, ...]) -> int | None:
    """The sum of gauges. Their lines are read alone: without the line that says their type they pass as numbers."""
    lines = [line for line in page.splitlines() if line.startswith(gauges)]
    found = parse_counters("\n".join(lines))
    return sum(int(found[name]) for name in gauges if name in found) if found.keys() & gauges[:1] else None


def follow(track: Track | None, reading: Reading) -> Track:
    """The track after one more reading. A counter that went down is an engine that began again at 0."""
    if track is None or _begins_again(track, reading):
        return Track(reading, reading)
    is_restart = reading.input < track.last.input or reading.output < track.last.output
    return Track(
        began=track.began,
        last=reading,
        input=track.input + reading.input - (0 if is_restart else track.last.input),
        output=track.output + reading.output - (0 if is_restart else track.last.output),
        restarts=track.restarts + is_restart,
    )


def _begins_again(track: Track, reading: Reading) -> bool:
    """Whether to compare from here: it is quiet now, and the beginning was not, or lies far back.

    An engine that does not say what is running is never known to be quiet: far back is enough then.
    """
    age_us = reading.at_us - track.began.at_us
    if reading.running is None:
        return age_us >= WINDOW_US
    if reading.running != 0:
        return False
    return (track.began.running != 0 and age_us <= SETTLE_US) or age_us >= WINDOW_US
