"""The panel that says what limits decided. Pure."""

from collections.abc import Mapping

import msgspec

from billing.dashboard.view import BAD, FAIR, GOOD, Tag

Decisions = Mapping[tuple[str, str, str], int]
"""How often by decision, scope and meter, as the metric ``billing_limit_decisions_total`` counts."""

_WHOSE = {"end_user": "end user"}
_WITHOUT = {
    "fallback_open": ("admitted by a worker's share", FAIR, "Valkey was away, and the limit is open then"),
    "fallback_closed": ("refused without Valkey", BAD, "Valkey was away, and the limit is closed then"),
    "store_unanswered": (
        "not answered by Valkey",
        FAIR,
        "Valkey did not decide in time; each limit's policy did",
    ),
    "store_refused": (
        "not executed by Valkey",
        FAIR,
        "Valkey could not serve the question; each limit's policy did",
    ),
    "store_lost": (
        "memory of Valkey lost",
        BAD,
        "Limits began empty, and running requests were announced again",
    ),
}
"""What happened beside plain decisions, in words, with a tone and an explanation."""


class LimitRow(msgspec.Struct, frozen=True):
    """How often something was decided."""

    tag: Tag
    count: str


def limit_rows(decisions: Decisions) -> tuple[LimitRow, ...]:
    """What was admitted, then what was refused, most often first, then what happened without Valkey."""
    admitted = sum(count for (decision, _, _), count in decisions.items() if decision == "admitted")
    rows = (
        [LimitRow(Tag("admitted", GOOD, "Requests of callers with limits"), f"{admitted:,}")]
        if admitted
        else []
    )
    for kind, tone, words in (("refused", FAIR, "refused"), ("shadow", GOOD, "would be refused")):
        found = {key[1:]: count for key, count in decisions.items() if key[0] == kind and count}
        for (scope, meter), count in sorted(found.items(), key=lambda each: (-each[1], each[0])):
            of = f"{meter.replace('_', ' ')} of a{'n' if scope == 'end_user' else ''} {_WHOSE.get(scope, scope)}"
            rows.append(LimitRow(Tag(f"{words}: {of}", tone), f"{count:,}"))
    for name, (words, tone, hint) in _WITHOUT.items():
        count = sum(each for (decision, _, _), each in decisions.items() if decision == name)
        if count:
            rows.append(LimitRow(Tag(words, tone, hint), f"{count:,}"))
    return tuple(rows)
