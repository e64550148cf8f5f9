"""The panel that holds what we recorded beside what the engines counted. Pure."""

import msgspec

from billing.dashboard import format as written
from billing.dashboard.counters import NAMES, Track
from billing.dashboard.view import BAD, FAIR, GOOD, Tag
from billing.dashboard.watch import EngineState
from billing.metering.totals.total import BackendTotal


class Comparison(msgspec.Struct, frozen=True):
    """Input or output: what the engine counted, what is on record, and the difference."""

    what: str
    engine: str
    recorded: str
    difference: str
    is_equal: bool


class EngineRow(msgspec.Struct, frozen=True):
    """One backend. Without ``comparisons`` the verdict says why there are none."""

    name: str
    kind: str
    url: str
    verdict: Tag
    since: str
    requests: str
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]


def engine_row(state: EngineState) -> EngineRow:
    """A backend as the panel shows it."""
    backend, track, recorded = state.backend, state.track, state.recorded
    compared = (track, recorded) if track is not None and recorded is not None else None
    return EngineRow(
        name=backend.name,
        kind=backend.engine.value,
        url=backend.url,
        verdict=_verdict(state),
        since=f"{written.minute(track.began.at_us)} UTC" if track else "",
        requests=written.counted(recorded.requests, "request") if recorded else "",
        comparisons=_comparisons(*compared) if compared else (),
        notes=_notes(*compared) if compared else (),
    )


def _verdict(state: EngineState) -> Tag:
    if state.fault:
        # An engine that keeps no counters is no failure; it can only not be compared.
        return Tag(state.fault, BAD if state.backend.engine in NAMES else FAIR)
    if state.track is None or state.recorded is None:
        return Tag("not compared yet", FAIR)
    input_more, output_more = _differences(state.track, state.recorded)
    if (input_more, output_more) == (0, 0):
        return Tag("equal", GOOD)
    if state.track.last.running:
        return Tag(f"{written.counted(state.track.last.running, 'request')} in flight", FAIR)
    if state.recorded.requests_cut and input_more >= 0 and output_more >= 0:
        return Tag(f"{written.counted(state.recorded.requests_cut, 'request')} cut short", FAIR)
    return Tag("differs", BAD)


def _differences(track: Track, recorded: BackendTotal) -> tuple[int, int]:
    return track.input - recorded.input, track.output - recorded.output


def _comparisons(track: Track, recorded: BackendTotal) -> tuple[Comparison, ...]:
    sides = (("input", track.input, recorded.input), ("output", track.output, recorded.output))
    return tuple(
        Comparison(
            what=what,
            engine=written.count(engine),
            recorded=written.count(ours),
            difference=written.signed(engine - ours),
            is_equal=engine == ours,
        )
        for what, engine, ours in sides
    )


def _notes(track: Track, recorded: BackendTotal) -> tuple[str, ...]:
    """What may explain a difference, each with how much of it there is."""
    notes = []
    if track.last.running:
        notes.append(
            f"{written.counted(track.last.running, 'request')} in flight: counted there, not recorded yet"
        )
    if track.began.running:
        notes.append(
            f"{written.counted(track.began.running, 'request')} in flight when counting began, known in part only"
        )
    if recorded.requests_cut and _differences(track, recorded) != (0, 0):
        notes.append(
            f"{written.counted(recorded.requests_cut, 'request')} cut short: what was made after that is counted there"
        )
    if recorded.requests_unknown:
        notes.append(f"{written.counted(recorded.requests_unknown, 'record')} without a count")
    if track.restarts:
        notes.append(
            f"{written.counted(track.restarts, 'restart')} of the engine: its work in between is not seen"
        )
    if not notes and _differences(track, recorded) != (0, 0):
        notes.append("records on their way, or traffic that bypasses the gateway")
    return tuple(notes)
