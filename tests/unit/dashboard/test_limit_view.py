"""What limits decided, in words, with what happened without Valkey behind it."""

from billing.dashboard.limit_view import limit_rows


def test_nothing_decided_is_nothing_shown() -> None:
    assert limit_rows({}) == ()
    assert limit_rows({("refused", "key", "tokens"): 0}) == ()


def test_decisions_are_said_in_order_of_what_matters() -> None:
    rows = limit_rows(
        {
            ("store_lost", "", ""): 1,
            ("refused", "key", "tokens"): 3,
            ("refused", "end_user", "output_tokens"): 1_200,
            ("admitted", "", ""): 45_000,
            ("shadow", "tenant", "requests"): 2,
            ("fallback_closed", "", ""): 7,
            ("something_new", "", ""): 9,
        }
    )
    assert [(row.tag.text, row.tag.tone, row.count) for row in rows] == [
        ("admitted", "good", "45,000"),
        ("refused: output tokens of an end user", "fair", "1,200"),
        ("refused: tokens of a key", "fair", "3"),
        ("would be refused: requests of a tenant", "good", "2"),
        ("refused without Valkey", "bad", "7"),
        ("memory of Valkey lost", "bad", "1"),
    ]
