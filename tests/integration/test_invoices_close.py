"""Closing months on a real Postgres: once for each tenant, whole, and never differently afterwards."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from billing.errors import Conflict, InvalidInput, NotFound
from billing.invoicing.close import CloseState, NoInvoice
from billing.invoicing.invoice import InvoiceStatus
from billing.metering.collection import lock_key
from billing.tokens.usage import Outcome
from tests.integration.close_kit import DECEMBER, DyingDatabase, Killed, Office, totals
from tests.invoice_kit import SPOOL, at, record, usage, usage_id
from tests.metering_kit import ask, id_maker

TENANTS = ("acme", "globex", "hooli", "initech", "umbrella")


@pytest.fixture
async def office(migrated_url: str) -> AsyncIterator[Office]:
    made = Office(migrated_url)
    await made.plans()
    yield made
    await made.close_pools()


async def test_a_closed_month_is_an_invoice_with_a_number_and_a_ledger_entry(office: Office) -> None:
    acme = await office.tenant("acme", "unit")
    await office.use(acme, "2026-11-01T00:00:00Z", "2026-11-30T23:59:59.999Z", "2026-12-01T00:00:00Z")
    [result] = await office.close("acme")
    assert (result.state, result.invoice and result.invoice.number) == (CloseState.ISSUED, "INV-000001")
    document = await office.invoicing.invoice("INV-000001")
    # 2,000 × 0.50 / 1,000 + 200 × 1.50 / 1,000
    assert (document.content.total, document.content.total_minor) == ("1.30", 130)
    assert [(line.component, line.quantity, line.amount) for line in document.content.lines] == [
        ("uncached_input", 2_000, "1.00"),
        ("answer_output", 200, "0.30"),
    ]
    assert (document.content.start, document.content.end) == ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")
    assert (document.content.is_early, document.content.note) == (False, None)
    assert document.issued_us == DECEMBER
    balances = await office.ledger.balances(acme.id)
    assert [(each.account, each.amount) for each in balances] == [
        ("receivable", Decimal("1.30")),
        ("revenue", Decimal("-1.30")),
    ]
    entries = await office.ledger.statement(acme.id)
    assert [(each.account, each.amount_minor, each.invoice_number) for each in entries] == [
        ("receivable", 130, "INV-000001"),
        ("revenue", -130, "INV-000001"),
    ]


async def test_fee_and_allowance_are_of_the_whole_month(office: Office) -> None:
    globex = await office.tenant("globex", "graduated")
    await office.use(globex, "2026-11-10T00:00:00Z", output_tokens=210)
    number = await office.issue("globex")
    content = (await office.invoicing.invoice(number)).content
    assert [
        (each.kind, each.component, each.tier, each.quantity, each.amount_exact) for each in content.lines
    ] == [
        ("included", "uncached_input", None, 100, "0"),
        ("usage", "uncached_input", None, 900, "0.36"),
        ("included", "answer_output", None, 10, "0"),
        ("usage", "answer_output", 0, 100, "0.2"),
        ("usage", "answer_output", 1, 100, "0.12"),
        ("fee", None, None, None, "20"),
    ]
    assert content.total == "20.68"


async def test_a_fee_alone_makes_an_invoice_and_nothing_at_all_makes_none(office: Office) -> None:
    await office.tenant("globex", "graduated")
    await office.tenant("hooli", "unit")
    idle = await office.tenant("initech")
    await office.use(idle, "2026-11-10T00:00:00Z")
    results = await office.close()
    assert [(each.tenant, each.state, each.reason) for each in results] == [
        ("globex", CloseState.ISSUED, None),
        ("hooli", CloseState.NO_INVOICE, NoInvoice.NOTHING_TO_BILL),
        ("initech", CloseState.NO_INVOICE, NoInvoice.NO_PLAN),
    ]
    assert totals(results) == {"globex": 2_000, "hooli": None, "initech": None}
    assert "billing subscriptions create --tenant initech" in results[2].detail
    await office.pricing.subscribe(idle.id, "unit", at("2026-11-01T00:00:00Z"))
    assert totals(await office.close()) == {"globex": 2_000, "hooli": None, "initech": 65}


async def test_closing_twice_says_that_it_is_issued_already(office: Office) -> None:
    acme = await office.tenant("acme", "unit")
    await office.use(acme, "2026-11-10T00:00:00Z")
    [first] = await office.close()
    await office.use(acme, "2026-11-11T00:00:00Z")
    [second] = await office.close()
    assert second.state is CloseState.ALREADY_ISSUED
    assert second.invoice == first.invoice
    [row] = await ask(office.url, "SELECT collection FROM tenant WHERE slug = 'acme'")
    assert row[0] == 2


async def test_a_total_of_nothing_is_not_posted(office: Office) -> None:
    acme = await office.tenant("acme", "unit")
    await office.use(acme, "2026-11-10T00:00:00Z", input_tokens=1, output_tokens=0)
    number = await office.issue("acme")
    assert (await office.invoicing.invoice(number)).content.total == "0.00"
    assert await office.ledger.balances() == []
    assert (await office.invoicing.verify(number)).is_same


async def test_a_month_that_was_never_named_is_refused(office: Office) -> None:
    with pytest.raises(InvalidInput, match="is not a month"):
        await office.invoicing.close("November")
    with pytest.raises(NotFound, match="there is no tenant 'nobody'"):
        await office.close("nobody")
    with pytest.raises(NotFound, match="there is no invoice 'INV-9'"):
        await office.invoicing.invoice("INV-9")


async def test_processes_that_close_at_once_issue_each_invoice_once_without_a_gap(office: Office) -> None:
    for slug in TENANTS:
        await office.use(await office.tenant(slug, "unit"), "2026-11-10T00:00:00Z")
    others = [Office(office.url) for _ in range(4)]
    try:
        closed = await asyncio.gather(*(other.close() for other in others))
    finally:
        for other in others:
            await other.close_pools()
    rows = await ask(office.url, "SELECT number, status FROM invoice ORDER BY number")
    assert [tuple(row) for row in rows] == [(f"INV-{number:06}", "issued") for number in range(1, 6)]
    states = [each.state for results in closed for each in results]
    assert states.count(CloseState.ISSUED) == len(TENANTS)
    assert states.count(CloseState.ALREADY_ISSUED) == 3 * len(TENANTS)
    assert {row[0] for row in await ask(office.url, "SELECT collection FROM tenant")} == {2}
    [row] = await ask(office.url, "SELECT count(*), sum(amount_minor) FROM ledger_posting")
    assert tuple(row) == (10, 0)


async def test_a_close_that_died_between_its_transactions_is_finished_by_the_next(office: Office) -> None:
    for slug in TENANTS:
        await office.use(await office.tenant(slug, "unit"), "2026-11-10T00:00:00Z")
    # Its transactions: a look, then two for each tenant; it dies before the second tenant's second.
    dying = Office(office.url, DyingDatabase(office.url, 5))
    with pytest.raises(Killed):
        await dying.close()
    await dying.close_pools()
    # What comes after the cut is not the draft's any more, whoever finishes it.
    globex = await office.tenants.tenant("globex")
    await office.use(globex, "2026-11-11T00:00:00Z")
    listed = await office.invoicing.invoices(rows_max=10)
    assert [(each.tenant, each.status, each.number, each.total) for each in listed] == [
        ("globex", InvoiceStatus.DRAFT, None, None),
        ("acme", InvoiceStatus.ISSUED, "INV-000001", Decimal("0.65")),
    ]
    assert totals(await office.close()) == dict.fromkeys(TENANTS, 65)
    rows = await ask(office.url, "SELECT number FROM invoice ORDER BY number")
    assert [row[0] for row in rows] == [f"INV-{number:06}" for number in range(1, 6)]
    assert (await office.invoicing.late("INV-000002")).requests == 1


async def test_usage_in_flight_is_in_the_invoice_or_late_and_never_between(office: Office) -> None:
    acme = await office.tenant("acme", "unit")
    await office.use(acme, "2026-11-10T00:00:00Z")
    async with office.recorder.transaction() as connection:
        # A recorder that has read the collection keeps the close waiting until it has committed.
        await connection.execute(
            text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": lock_key(acme.id)}
        )
        closing = asyncio.create_task(office.close("acme"))
        _, pending = await asyncio.wait([closing], timeout=0.3)
        assert pending
    [result] = await closing
    assert result.state is CloseState.ISSUED


async def test_an_issued_invoice_can_be_neither_changed_nor_deleted(office: Office) -> None:
    acme = await office.tenant("acme", "unit")
    await office.use(acme, "2026-11-10T00:00:00Z")
    await office.issue("acme")
    for statement in (
        "UPDATE invoice SET total_minor = 1",
        "UPDATE invoice SET content = 'x'",
        "UPDATE invoice SET inputs = '{}'",
        "DELETE FROM invoice",
    ):
        with pytest.raises(DBAPIError, match="is issued and never changes"):
            await office.execute(statement)
    for statement in ("UPDATE ledger_posting SET amount_minor = 1", "DELETE FROM ledger_transaction"):
        with pytest.raises(DBAPIError, match="permission denied"):
            await office.execute(statement)
    # Not even the owner of the tables can.
    with pytest.raises(asyncpg.RestrictViolationError):
        await ask(office.url, "UPDATE invoice SET number = 'INV-7'")


async def test_the_database_refuses_a_ledger_transaction_that_does_not_balance(office: Office) -> None:
    acme = await office.tenant("acme")
    with pytest.raises(DBAPIError, match="does not balance"):
        await office.execute(
            "INSERT INTO ledger_transaction VALUES (:tenant, :id, 'invoice_issued', NULL, 'USD', now())",
            "INSERT INTO ledger_posting VALUES (:tenant, :id, 1, 'revenue', -5)",
            tenant=acme.id,
            id=SPOOL,
        )


async def test_a_close_is_in_the_audit_log_with_who_did_it(office: Office) -> None:
    acme = await office.tenant("acme", "unit")
    await office.use(acme, "2026-11-10T00:00:00Z")
    await office.issue("acme")
    rows = await ask(
        office.url,
        "SELECT action, subject, after FROM audit_entry WHERE actor = 'cli:test' AND tenant_id = $1 AND id > "
        "(SELECT max(id) FROM audit_entry WHERE subject = 'subscription') ORDER BY id",
        acme.id,
    )
    assert [(row["action"], row["subject"]) for row in rows] == [
        ("update", "tenant"),
        ("insert", "invoice"),
        ("update", "invoice"),
        ("insert", "ledger_transaction"),
        ("insert", "ledger_posting"),
        ("insert", "ledger_posting"),
    ]
    assert '"number": "INV-000001"' in rows[2]["after"]


async def test_a_close_waits_for_the_spools_of_every_host_and_names_what_it_waits_for(office: Office) -> None:
    acme = await office.tenant("acme", "unit")
    await office.use(acme, "2026-11-10T00:00:00Z")
    first, second, third = (id_maker(seed)() for seed in (31, 32, 33))
    ends_us = at("2026-12-01T00:00:00Z")
    await office.spool(first, ends_us)
    await office.spool(second, ends_us - 5_000_000)
    await office.spool(third, None, closed=True)
    said: list[str] = []
    with pytest.raises(
        Conflict, match=f"spool {second} on gpu-7 is recorded through 2026-11-30T23:59:55Z"
    ) as caught:
        await office.invoicing.close("2026-11", wait_s=2.4, progress=said.append)
    assert "Waited 2.4 s and closed nothing" in str(caught.value)
    assert len(said) == 1
    assert str(first) not in said[0]
    assert await office.invoicing.invoices(rows_max=1) == []
    closing = asyncio.create_task(office.invoicing.close("2026-11", wait_s=20, progress=said.append))
    await asyncio.sleep(0.3)
    await office.spool(second, ends_us)
    assert totals(await closing) == {"acme": 65}


async def test_a_close_that_does_not_wait_takes_what_is_recorded(office: Office) -> None:
    await office.tenant("globex", "graduated")
    await office.spool(id_maker(31)(), None)
    with pytest.raises(Conflict, match="is recorded by nobody yet"):
        await office.invoicing.close("2026-11", wait_s=0)
    assert totals(await office.close()) == {"globex": 2_000}
    # What is issued needs no spool any more.
    [again] = await office.invoicing.close("2026-11", wait_s=0)
    assert again.state is CloseState.ALREADY_ISSUED


async def test_invoices_are_listed_newest_first_in_pages(office: Office) -> None:
    for slug in TENANTS:
        await office.tenant(slug, "graduated")
    await office.close()
    first = await office.invoicing.invoices(rows_max=3)
    rest = await office.invoicing.invoices(rows_max=3, after=first[-1].id)
    assert [each.tenant for each in [*first, *rest]] == sorted(TENANTS, reverse=True)
    assert [each.number for each in await office.invoicing.invoices("hooli", rows_max=9)] == ["INV-000003"]
    assert len(await office.invoicing.invoices(None, "2026-11", rows_max=9)) == 5
    assert await office.invoicing.invoices("hooli", "2026-10", rows_max=9) == []


async def test_what_is_waived_stands_on_the_invoice_and_is_not_billed(office: Office) -> None:
    acme = await office.tenant("acme", "unit")
    await office.use(acme, "2026-11-10T00:00:00Z")
    await office.save(
        [
            record(
                usage_id("2026-11-11T00:00:00Z"),
                usage(10, 10),
                tenant_id=acme.id,
                outcome=Outcome.UPSTREAM_ERROR,
            )
        ]
    )
    content = (await office.invoicing.invoice(await office.issue("acme"))).content
    assert (content.total, content.waived.requests, content.waived.tokens) == ("0.65", 1, 20)
