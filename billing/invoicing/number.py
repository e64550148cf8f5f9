"""Invoice numbers: gapless for each issuer, because the number is taken in the transaction that issues."""

DIGITS = 6
"""Digits at least, so that numbers sort as text for the first million."""


def invoice_number(prefix: str, number: int) -> str:
    """The number as it is printed: ``INV-000017``; raises ``ValueError`` below 1."""
    if number < 1:
        raise ValueError(f"invoices are numbered from 1, not {number}")
    return f"{prefix}{number:0{DIGITS}}"
