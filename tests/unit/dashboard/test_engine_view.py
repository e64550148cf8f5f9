from uuid import UUID

import msgspec

from billing.dashboard.counters import Reading, Track
from billing.dashboard.engine_view import engine_row
from billing.dashboard.view import BAD, FAIR, Tag
from billing.dashboard.watch import EngineState
from billing.fleet.backend import Backend, EngineKind
from billing.metering.totals.total import BackendTotal

BACKEND = Backend(
    UUID(int=1), "gpu-1", "http://gpu-1", EngineKind.VLLM, has_credential=False, created_at_us=0
)
QUIET = Reading(0, 0, 0, 0)
EQUAL = EngineState(BACKEND, 0, Track(QUIET, QUIET, 1_018, 53), BackendTotal(BACKEND.id, 2, 0, 0, 1_018, 53))


def test_equal_sums_are_said_in_one_word_without_notes() -> None:
    row = engine_row(EQUAL)
    assert (row.verdict.text, row.verdict.tone, row.notes, row.requests) == (
        "equal",
        "good",
        (),
        "2 requests",
    )
    assert [(each.what, each.engine, each.recorded, each.difference) for each in row.comparisons] == [
        ("input", "1,018", "1,018", "0"),
        ("output", "53", "53", "0"),
    ]


def test_a_difference_that_nothing_explains_is_bad_and_says_what_it_may_be() -> None:
    less = BackendTotal(BACKEND.id, 2, 0, 0, 1_018, 50)
    row = engine_row(msgspec.structs.replace(EQUAL, recorded=less))
    assert (row.verdict.text, row.verdict.tone) == ("differs", "bad")
    assert row.notes == ("records on their way, or traffic that bypasses the gateway",)


def test_everything_that_may_explain_a_difference_is_counted() -> None:
    busy = Reading(0, 0, 0, 2)
    state = EngineState(
        BACKEND, 0, Track(busy, busy, 20, 5, restarts=1), BackendTotal(BACKEND.id, 1, 1, 0, 0, 5)
    )
    assert engine_row(state).notes == (
        "2 requests in flight: counted there, not recorded yet",
        "2 requests in flight when counting began, known in part only",
        "1 record without a count",
        "1 restart of the engine: its work in between is not seen",
    )


def test_requests_that_were_cut_short_explain_what_the_engine_counted_more_and_nothing_else() -> None:
    cut = BackendTotal(BACKEND.id, 4, 0, 2, 1_018, 23)
    row = engine_row(msgspec.structs.replace(EQUAL, recorded=cut))
    assert (row.verdict.text, row.verdict.tone) == ("2 requests cut short", "fair")
    assert row.notes == ("2 requests cut short: what was made after that is counted there",)
    too_much = msgspec.structs.replace(cut, output=60)
    assert engine_row(msgspec.structs.replace(EQUAL, recorded=too_much)).verdict.text == "differs"
    equal = msgspec.structs.replace(cut, output=53)
    assert engine_row(msgspec.structs.replace(EQUAL, recorded=equal)).notes == ()


def test_a_backend_that_was_never_compared_has_a_reason() -> None:
    assert engine_row(EngineState(BACKEND, 0)).verdict.text == "not compared yet"
    assert (
        engine_row(EngineState(BACKEND, 0, fault="no answer within 2 s")).verdict.text
        == "no answer within 2 s"
    )


def test_an_engine_without_counters_is_no_failure() -> None:
    quiet = msgspec.structs.replace(BACKEND, engine=EngineKind.OLLAMA)
    assert engine_row(EngineState(quiet, 0, fault="nothing to compare")).verdict == Tag(
        "nothing to compare", FAIR
    )
    assert engine_row(EngineState(BACKEND, 0, fault="no answer")).verdict == Tag("no answer", BAD)
