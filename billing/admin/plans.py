"""``/api/v1/plans``: price plans from YAML, in dated versions that never change."""

from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, get, post
from litestar.status_codes import HTTP_200_OK

from billing import money
from billing.admin.describe import described
from billing.admin.moment import written
from billing.admin.page import LIMIT_DEFAULT, After, Limit, Page, page, read
from billing.admin.parameters import PlanName
from billing.admin.readable import YAML_TYPES
from billing.admin.services import Services
from billing.errors import InvalidInput, TooLarge
from billing.pricing.billable import Disposition
from billing.pricing.graduated import GraduatedPrice
from billing.pricing.lint import LintWarning
from billing.pricing.measure import TOKENS, unit_of
from billing.pricing.plan import ModelRates, Plan, Version
from billing.pricing.price import Price
from billing.pricing.revision import Change, Step
from billing.pricing.service import Applied
from billing.pricing.yaml_text import BYTES_MAX

JSON_TYPE = "application/json"


class TierDocument(msgspec.Struct, frozen=True):
    """``price`` (decimal text) for each ``per`` of what comes before the one numbered ``up_to``; null has no end."""

    price: str
    per: int
    up_to: int | None


class PriceDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """A price of ``shape`` ``unit`` (``price`` for each ``per``) or ``graduated`` (``tiers``).

    Everything is counted in ``unit``: ``tokens``, ``images``, ``seconds``, ``GPU seconds``, ``characters``, ``searches`` or
    ``requests``; so many of them as ``allowance`` says are included in a period. ``pool`` is the word whose prices count
    together over a period.
    """

    shape: str
    unit: str
    allowance: int
    pool: str | None
    price: str | None = None
    per: int | None = None
    tiers: list[TierDocument] | None = None


class RatesDocument(msgspec.Struct, frozen=True):
    """The prices of the models that a pattern matches, by component, ``total`` or ``request``."""

    model: str
    prices: dict[str, PriceDocument]


class VersionDocument(msgspec.Struct, frozen=True):
    """What holds from an instant until the next version's. Amounts are decimal text."""

    version: int
    effective: str
    label: str
    rates: list[RatesDocument]
    monthly_fee: str | None
    minimum: str | None
    billable: dict[str, dict[str, Disposition]]


class PlanDocument(msgspec.Struct, frozen=True):
    """A plan with every version it has ever had."""

    id: UUID
    plan: str
    currency: str
    created_at: str
    versions: list[VersionDocument]


class StepDocument(msgspec.Struct, frozen=True):
    """What applying a file did to a version; ``retroactive`` when usage already made costs something else now."""

    change: Change
    retroactive: bool
    version: VersionDocument


class AppliedDocument(msgspec.Struct, frozen=True):
    """What applying a file did. ``warnings`` are allowed and hardly meant."""

    plan: str
    currency: str
    is_new: bool
    changed: bool
    steps: list[StepDocument]
    warnings: list[LintWarning]


class PlanText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A plan file inside JSON."""

    yaml: str


VERSION = VersionDocument(
    version=1,
    effective="2026-01-01T00:00:00Z",
    label="Standard",
    rates=[
        RatesDocument(
            "llama-3.1-70b",
            {
                "uncached_input": PriceDocument("unit", TOKENS, 0, None, "0.5", 1_000_000),
                "answer_output": PriceDocument("unit", TOKENS, 0, None, "1.5", 1_000_000),
            },
        )
    ],
    monthly_fee="20",
    minimum=None,
    billable={},
)
PLAN = PlanDocument(
    UUID("019ab3f4-8c00-7000-8000-00000000000f"), "standard", "USD", "2026-11-24T10:00:00Z", [VERSION]
)
YAML = """plan: standard
currency: USD
label: Standard
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1000000
    monthly_fee: "20"
    rates:
      - model: llama-3.1-70b
        uncached_input: "0.50"
        answer_output: "1.50"
"""
APPLIED = AppliedDocument("standard", "USD", True, True, [StepDocument(Change.ADDED, False, VERSION)], [])
SENT = {"text/yaml": YAML, JSON_TYPE: PlanText(YAML)}


class PlanController(Controller):
    """Plans."""

    path = "/plans"
    tags = ("Plans",)

    @get(**described("List plans", Page([PLAN], None)))
    async def list_plans(
        self, services: Services, limit: Limit = LIMIT_DEFAULT, after: After = None
    ) -> Page[PlanDocument]:
        """Plans by name with their versions."""
        (name,) = read(after, 1) or ("",)
        found = await services.pricing.list_plans(limit + 1, name)
        return page(found, limit, document, lambda plan: (plan.name,))

    @get("/{plan:str}", **described("Show a plan", PLAN, refusals=(404,)))
    async def get_plan(self, services: Services, plan: PlanName) -> PlanDocument:
        """The plan of a name with its versions."""
        return document(await services.pricing.plan(plan))

    @post(status_code=HTTP_200_OK, **described("Apply a plan file", APPLIED, sent=SENT, refusals=(409,)))
    async def apply_plan(self, services: Services, request: Request[Any, Any, Any]) -> AppliedDocument:
        """Make the plan that a YAML text says, or add the versions that a plan lacks.

        Applying a text twice changes nothing, and a stored version never changes. Send the text itself, or JSON with
        the text as `yaml`.
        """
        text = plan_text(request.content_type[0], await request.body())
        return applied_document(await services.pricing.apply(text))


def plan_text(content_type: str, body: bytes) -> str:
    """The YAML text of a body; raises ``InvalidInput`` and ``TooLarge``."""
    if content_type not in (*YAML_TYPES, JSON_TYPE):
        raise InvalidInput(
            f"send {YAML_TYPES[0]}, or {JSON_TYPE} with the text as `yaml`; got {content_type[:80]!r}"
        )
    try:
        raw = msgspec.json.decode(body, type=PlanText).yaml.encode() if content_type == JSON_TYPE else body
        if len(raw) > BYTES_MAX:
            raise TooLarge(f"the text is longer than {BYTES_MAX // 1024} KiB")
        return raw.decode("utf-8-sig")
    except msgspec.DecodeError as fault:
        raise InvalidInput(f"the body is not as it must be: {fault}") from None
    except UnicodeDecodeError as fault:
        raise InvalidInput(
            f"the text is not UTF-8: byte {fault.start + 1} is {body[fault.start]:#04x}"
        ) from None


def document(plan: Plan) -> PlanDocument:
    """A plan as the API shows it."""
    versions = [_version(version) for version in plan.versions]
    return PlanDocument(plan.id, plan.name, plan.currency, written(plan.created_at_us), versions)


def applied_document(applied: Applied) -> AppliedDocument:
    """What applying a file did, as the API shows it."""
    steps = [_step(applied, step) for step in applied.steps]
    return AppliedDocument(
        applied.plan, applied.currency, applied.is_new, applied.changed, steps, list(applied.warnings)
    )


def _step(applied: Applied, step: Step) -> StepDocument:
    return StepDocument(step.change, applied.is_retroactive(step), _version(step.version))


def _version(version: Version) -> VersionDocument:
    content = version.content
    return VersionDocument(
        version=version.number,
        effective=written(version.effective_us),
        label=content.label,
        rates=[RatesDocument(entry.model, _prices(entry)) for entry in content.rates],
        monthly_fee=None if content.monthly_fee is None else money.plain(content.monthly_fee),
        minimum=None if content.minimum is None else money.plain(content.minimum),
        billable=content.billable,
    )


def _prices(entry: ModelRates) -> dict[str, PriceDocument]:
    return {word: _price(price, word, entry.pool(word)) for word, price in entry.by_word.items()}


def _price(price: Price, word: str, written_as: str) -> PriceDocument:
    unit, pool = unit_of(word), written_as if price.is_cumulative else None
    if isinstance(price, GraduatedPrice):
        tiers = [TierDocument(money.plain(tier.price), tier.per, tier.up_to) for tier in price.tiers]
        return PriceDocument("graduated", unit, price.allowance, pool, tiers=tiers)
    return PriceDocument("unit", unit, price.allowance, pool, money.plain(price.price), price.per)
