"""Plans and subscriptions: load, decide, save, in one transaction each."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from billing.clock import Clock, month_start
from billing.errors import Conflict, NotFound
from billing.ids import NewId
from billing.infra.postgres import Connection, Database
from billing.pricing import store
from billing.pricing.lint import LintWarning, lint, lint_change, may_share_a_month
from billing.pricing.parse import parse
from billing.pricing.plan import Plan, PlanFile
from billing.pricing.revision import Change, Step, decide
from billing.pricing.subscription import Subscription, check_fits, check_span


class Applied(msgspec.Struct, frozen=True):
    """What applying a plan file did."""

    plan: str
    currency: str
    is_new: bool
    steps: tuple[Step, ...]
    now_us: int
    warnings: tuple[LintWarning, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return any(step.change is Change.ADDED for step in self.steps)

    def is_retroactive(self, step: Step) -> bool:
        """Whether a step changes what usage already made costs: only versions added to a plan in use can."""
        return step.change is Change.ADDED and not self.is_new and step.version.effective_us < self.now_us


class PricingService:
    """What does that cost. Raises ``InvalidInput``, ``NotFound`` and ``Conflict`` with what to do."""

    def __init__(self, database: Database, clock: Clock, new_id: NewId) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id

    def __repr__(self) -> str:
        return f"<PricingService {self._database!r}>"

    async def apply(self, text: str) -> Applied:
        """Make the plan that a YAML text says, or add the versions that a plan lacks. Applying twice changes nothing.

        Raises ``InvalidInput`` with the path of what is wrong, ``Conflict`` where a stored version would change.
        """
        wanted = parse(text)
        now_us = self._clock()
        new = Plan(self._new_id(), wanted.name, wanted.currency, now_us, ())
        async with self._database.transaction() as connection:
            is_new = await store.insert_plan(connection, new)
            await store.lock_plan(connection, wanted.name)
            steps = await self._revise(connection, wanted, now_us)
        warnings = (*lint(wanted), *_change_warnings(steps))
        return Applied(wanted.name, wanted.currency, is_new, steps, now_us, warnings)

    async def _revise(self, connection: Connection, wanted: PlanFile, now_us: int) -> tuple[Step, ...]:
        stored = await _plan(connection, wanted.name)
        steps = decide(stored, wanted)
        for step in steps:
            if step.change is Change.ADDED:
                await store.insert_version(connection, stored.id, step.version, now_us)
        return steps

    async def list_plans(self, rows_max: int, after: str = "") -> list[Plan]:
        """Plans by name with their versions, those after a name."""
        async with self._database.transaction() as connection:
            return await store.plans(connection, rows_max, after)

    async def plan(self, name: str) -> Plan:
        """The plan of a name with its versions."""
        async with self._database.transaction() as connection:
            return await _plan(connection, name)

    async def subscribe(
        self, tenant_id: UUID, plan_name: str, starts_us: int | None = None, ends_us: int | None = None
    ) -> Subscription:
        """Price a tenant's usage by a plan, from the start of the present month in UTC unless said.

        Raises ``Conflict`` when the tenant has a plan in that span already or is billed in another currency.
        """
        now_us = self._clock()
        starts_us = month_start(now_us) if starts_us is None else starts_us
        check_span(starts_us, ends_us)
        async with self._database.transaction() as connection:
            await store.lock_subscriptions(connection, tenant_id)
            plan = await _plan(connection, plan_name)
            new = Subscription(
                id=self._new_id(),
                tenant_id=tenant_id,
                plan_id=plan.id,
                plan=plan.name,
                currency=plan.currency,
                starts_us=starts_us,
                ends_us=ends_us,
                created_at_us=now_us,
            )
            check_fits(new, await store.subscriptions(connection, tenant_id))
            if not await store.insert_subscription(connection, new):
                raise Conflict("the tenant was given another plan in that span a moment ago")
        return new

    async def list_subscriptions(self, tenant_id: UUID) -> list[Subscription]:
        """A tenant's subscriptions by their start."""
        async with self._database.transaction() as connection:
            return await store.subscriptions(connection, tenant_id)

    async def end_subscription(self, tenant_id: UUID, ends_us: int) -> Subscription:
        """End the tenant's subscription that has no end yet; usage from then on is unrated until another begins.

        At its own start it is taken back, so that it never applied. Raises ``Conflict`` when something is invoiced for it.
        """
        async with self._database.transaction() as connection:
            await store.lock_subscriptions(connection, tenant_id)
            open_ended = [s for s in await store.subscriptions(connection, tenant_id) if s.ends_us is None]
            if not open_ended:
                raise NotFound("the tenant has no subscription without an end")
            current = open_ended[0]
            if ends_us != current.starts_us:
                check_span(current.starts_us, ends_us)
            elif await store.is_invoiced(connection, current):
                raise Conflict(f"something is invoiced for {current}: it can be ended later than it starts")
            await store.end_subscription(connection, tenant_id, current.id, ends_us)
        return msgspec.structs.replace(current, ends_us=ends_us)


def _change_warnings(steps: Sequence[Step]) -> tuple[LintWarning, ...]:
    """What is hardly meant from one version to a later one, unless the file is about neither.

    Also where others stand between the two, as far as a month may hold usage of both: what those do not count goes on.
    """
    found: dict[LintWarning, None] = {}
    for place, after in enumerate(steps):
        for first in range(place - 1, -1, -1):
            before, between = steps[first], [step.version for step in steps[first + 1 : place]]
            if between and not may_share_a_month(between[0].effective_us, after.version.effective_us):
                break
            if {before.change, after.change} != {Change.KEPT}:
                found |= dict.fromkeys(lint_change(before.version, after.version, between))
    return tuple(found)


async def _plan(connection: Connection, name: str) -> Plan:
    found = await store.plan_by_name(connection, name)
    if found is None:
        raise NotFound(f"there is no plan {name[:80]!r}; plans apply makes one from a file")
    return found
