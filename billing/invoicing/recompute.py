"""An invoice computed again from what never changes, and what differs when it does not come out the same (I21)."""

from collections.abc import Iterable, Mapping

import msgspec

from billing.invoicing.content import Content, content_of, decode, digest, encode
from billing.invoicing.draft import Draft, draft
from billing.invoicing.inputs import Inputs, unpin
from billing.ledger.account import Account
from billing.metering.stored import RollupRow
from billing.pricing.plan import Plan


class Issued(msgspec.Struct, frozen=True):
    """What was stored of an invoice when it was issued, and what stands in the ledger for it, by account."""

    content: bytes
    content_hash: bytes
    total_minor: int
    ledger: dict[str, int]


def counted(rows: Iterable[RollupRow], inputs: Inputs, collection: int) -> list[RollupRow]:
    """The rows that belong to an invoice: buckets of its period, collections up to its own, whatever came since."""
    period = inputs.period
    return [row for row in rows if period.holds(row.bucket_us) and row.collection <= collection]


def redraft(inputs: Inputs, plans: Mapping[str, Plan], rows: Iterable[RollupRow], collection: int) -> Draft:
    """The draft of an invoice, as it was and will be; ``plans`` are those that its inputs name, by name."""
    own = counted(rows, inputs, collection)
    terms = unpin(inputs.terms, plans)
    return draft(own, terms, inputs.period, inputs.rounding, month=inputs.charged_month)


def compute(inputs: Inputs, plans: Mapping[str, Plan], rows: Iterable[RollupRow], collection: int) -> bytes:
    """The canonical bytes of an invoice's content."""
    return encode(content_of(redraft(inputs, plans, rows, collection), inputs))


def differences(issued: Issued, computed: bytes) -> tuple[str, ...]:
    """What is wrong with an issued invoice, one sentence each; none when it is what it was."""
    found = []
    if digest(issued.content) != issued.content_hash:
        found.append("the stored content is not the one that its hash names")
    if issued.content != computed:
        found.append(
            f"computed again, it says something else: {', '.join(_fields(issued.content, computed))}"
        )
    wanted = _postings(issued.total_minor)
    if issued.ledger != wanted:
        found.append(f"the ledger says {issued.ledger or 'nothing'} for it, not {wanted or 'nothing'}")
    return tuple(found)


def _postings(total_minor: int) -> dict[str, int]:
    if total_minor == 0:
        return {}
    return {Account.RECEIVABLE.value: total_minor, Account.REVENUE.value: -total_minor}


def _fields(one: bytes, other: bytes) -> list[str]:
    """The names of what differs at the top of two contents."""
    try:
        before, after = decode(one), decode(other)
    except msgspec.DecodeError:
        return ["it cannot be read"]
    names = [name for name in Content.__struct_fields__ if getattr(before, name) != getattr(after, name)]
    return names or ["the bytes alone"]
