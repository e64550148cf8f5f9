"""What prices each tenant's usage, as a gateway worker knows it: plans with their versions, and who has which.

A worker prices nothing that is billed. It asks whether a tenant's plan prices reasoning apart, because only then is it
worth counting, and what an answer costs for a caller that wants to be told.
"""

from collections.abc import Iterable
from uuid import UUID

import msgspec

from billing.clock import BUCKET_US
from billing.pricing.plan import Content, Plan, Resolved, Version, resolve
from billing.pricing.term import Held, Term, in_force
from billing.tokens.components import Component

ASKED_MAX = 50_000
"""Pairs of a tenant and a model of which is remembered whether reasoning is priced apart; beyond them all are asked anew."""


class PlanHead(msgspec.Struct, frozen=True):
    """A plan without its versions."""

    id: UUID
    name: str
    currency: str
    created_us: int
    version: int


class PlanVersion(msgspec.Struct, frozen=True):
    """One version of a plan. ``content`` is JSON as it is stored: of one that this program cannot read no other row suffers."""

    plan_id: UUID
    number: int
    effective_us: int
    content: msgspec.Raw
    version: int


class Subscribed(msgspec.Struct, frozen=True):
    """A tenant's plan over ``[starts_us, ends_us)``; one that ends where it starts never applied."""

    id: UUID
    tenant_id: UUID
    plan_id: UUID
    starts_us: int
    ends_us: int | None
    version: int


_content = msgspec.json.Decoder(Content).decode


class Prices:
    """Plans and subscriptions of one snapshot: apply rows as they change, ask for a tenant's terms."""

    __slots__ = ("_apart", "_heads", "_plans", "_subscribed", "_terms", "_versions", "unreadable")

    def __init__(self) -> None:
        self._heads: dict[UUID, PlanHead] = {}
        self._versions: dict[UUID, dict[int, PlanVersion]] = {}
        self._subscribed: dict[UUID, tuple[Subscribed, ...]] = {}
        self._plans: dict[UUID, Plan] = {}
        self._terms: dict[UUID, tuple[Term, ...]] = {}
        self._apart: dict[tuple[int, str], tuple[int, bool]] = {}
        """By tenant, as an integer because a UUID's hash is computed in Python, and by model."""
        self.unreadable: frozenset[str] = frozenset()
        """Names of plans of which a version is of a newer program: here they price nothing."""

    def __repr__(self) -> str:
        return f"<Prices {len(self._plans)} plans, {len(self._subscribed)} tenants>"

    def apply(
        self, heads: Iterable[PlanHead], versions: Iterable[PlanVersion], subscribed: Iterable[Subscribed]
    ) -> None:
        """Take changed rows in; rows are whole, so applying twice changes nothing."""
        touched = set()
        for head in heads:
            self._heads[head.id] = head
            touched.add(head.id)
        for version in versions:
            # What is decoded points into the bytes of the whole directory, which would stay with it.
            kept = msgspec.structs.replace(version, content=version.content.copy())
            self._versions.setdefault(version.plan_id, {})[version.number] = kept
            touched.add(version.plan_id)
        if touched:
            self._assemble(touched)
            self._terms.clear()
        for row in subscribed:
            self._subscribe(row)
        self._apart.clear()

    def rows(self) -> tuple[tuple[PlanHead, ...], tuple[PlanVersion, ...], tuple[Subscribed, ...]]:
        """Everything as rows, for the copy on disk."""
        versions = tuple(row for rows in self._versions.values() for row in rows.values())
        subscribed = tuple(row for rows in self._subscribed.values() for row in rows)
        return tuple(self._heads.values()), versions, subscribed

    def terms(self, tenant_id: UUID) -> tuple[Term, ...]:
        """What prices a tenant's usage, by start; empty for a tenant without a plan."""
        found = self._terms.get(tenant_id)
        if found is None:
            rows = self._subscribed.get(tenant_id)
            if rows is None:
                return ()
            found = self._terms[tenant_id] = self._terms_of(rows)
        return found

    def prices_reasoning_apart(self, tenant_id: UUID, model: str, at_us: int) -> bool:
        """Whether a tenant's reasoning of a model costs something else than the rest of its answers, at an instant."""
        # Whatever changes a price does so on the grid of buckets: within one the answer stays.
        bucket = at_us // BUCKET_US
        asked = (tenant_id.int, model)
        found = self._apart.get(asked)
        if found is None or found[0] != bucket:
            if len(self._apart) >= ASKED_MAX:
                self._apart.clear()
            found = self._apart[asked] = (bucket, reasoning_apart(self.terms(tenant_id), model, at_us))
        return found[1]

    def _assemble(self, plan_ids: Iterable[UUID]) -> None:
        for plan_id in plan_ids:
            head = self._heads.get(plan_id)
            if head is None:
                continue
            plan = _plan(head, self._versions.get(plan_id, {}).values())
            if plan is None:
                self._plans.pop(plan_id, None)
            else:
                self._plans[plan_id] = plan
        self.unreadable = frozenset(head.name for head in self._heads.values() if head.id not in self._plans)

    def _subscribe(self, row: Subscribed) -> None:
        self._terms.pop(row.tenant_id, None)
        others = [other for other in self._subscribed.pop(row.tenant_id, ()) if other.id != row.id]
        if row.ends_us != row.starts_us:
            # One object for the id of a plan, however many tenants have it.
            head = self._heads.get(row.plan_id)
            others.append(row if head is None else msgspec.structs.replace(row, plan_id=head.id))
        if others:
            self._subscribed[row.tenant_id] = tuple(sorted(others, key=lambda each: each.starts_us))

    def _terms_of(self, rows: Iterable[Subscribed]) -> tuple[Term, ...]:
        known = [row for row in rows if row.plan_id in self._plans]
        return tuple(Term(row.starts_us, row.ends_us, self._plans[row.plan_id]) for row in known)


def _plan(head: PlanHead, rows: Iterable[PlanVersion]) -> Plan | None:
    """The plan with its versions by their instant; None when one of them cannot be read, for another would price its time."""
    try:
        versions = [Version(row.effective_us, _content(row.content), row.number) for row in rows]
    except (msgspec.DecodeError, ValueError):
        return None
    ordered = tuple(sorted(versions, key=lambda version: version.effective_us))
    return Plan(head.id, head.name, head.currency, head.created_us, ordered)


def reasoning_apart(terms: tuple[Term, ...], model: str, at_us: int) -> bool:
    """Whether reasoning has a rate that is not the one of the rest of an answer.

    ``output`` in a plan prices both alike, and so does what falls back: then an invoice is the same however the output is
    told apart.
    """
    held = in_force(terms, at_us)
    if not isinstance(held, Held):
        return False
    rates = held.version.content.rates
    reasoning = resolve(rates, model, Component.REASONING)
    answer = resolve(rates, model, Component.ANSWER_OUTPUT)
    return reasoning is not None and (answer is None or not _same(reasoning, answer))


def _same(one: Resolved, other: Resolved) -> bool:
    """Whether two rates come to the same for any two quantities: one price, and one pool where it counts over a period."""
    if one.price != other.price:
        return False
    return not one.price.is_cumulative or (one.pattern, one.pool) == (other.pattern, other.pool)
