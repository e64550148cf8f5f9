"""Every statement that sums over records and rollup rows. Nothing here writes."""

from uuid import UUID

from sqlalchemy import text

from billing.clock import to_datetime
from billing.ids import floor_of
from billing.infra.postgres import Connection
from billing.metering.totals.total import BackendTotal, Pace, UsageTotal
from billing.tokens.components import Component, Components
from billing.tokens.usage import Outcome

LATEST_SEEN_MAX = 1_000
"""Latest records among which streamed ones are looked for, so that the look never reads a whole month."""

_CUT_SHORT = [Outcome.CLIENT_CLOSED.value, Outcome.TRUNCATED.value, Outcome.INTERRUPTED.value]

# Tenants lead the rollup's key: naming them lets Postgres go to each one's buckets instead of through all of history.
_TOTALS = text(f"""
SELECT outcome, provenance, sum(requests)::bigint, {", ".join(f"sum({part.value})::bigint" for part in Component)}
FROM usage_rollup
WHERE tenant_id IN (SELECT id FROM tenant WHERE CAST(:tenant_id AS uuid) IS NULL OR id = :tenant_id)
  AND bucket >= :starts AND bucket < :ends
GROUP BY outcome, provenance ORDER BY outcome, provenance
""")  # noqa: S608 - own names
_PACE = text("""
SELECT count(*), coalesce(sum(input), 0)::bigint, coalesce(sum(output), 0)::bigint
FROM usage_record WHERE id >= :since
""")
_FIRST_TOKENS = text("""
SELECT ttft_us FROM (SELECT id, stream, ttft_us FROM usage_record ORDER BY id DESC LIMIT :seen_max) AS latest
WHERE stream AND ttft_us IS NOT NULL ORDER BY id DESC LIMIT :rows_max
""")
_BACKENDS = text("""
SELECT backend_id, count(*), count(*) FILTER (WHERE input IS NULL OR output IS NULL),
  count(*) FILTER (WHERE outcome = ANY(:cut)), coalesce(sum(input), 0)::bigint, coalesce(sum(output), 0)::bigint
FROM usage_record WHERE id >= :since GROUP BY backend_id ORDER BY backend_id
""")

_RECORDED = text("""
SELECT coalesce(sum(coalesce(input, 0) + coalesce(output, 0) + coalesce((parts -> 'training' ->> 0)::bigint, 0)), 0)::bigint
FROM usage_record
WHERE tenant_id = :tenant_id AND id >= :starts AND id < :ends
""")


async def usage_totals(
    connection: Connection, tenant_id: UUID | None, start_us: int, end_us: int
) -> list[UsageTotal]:
    """The rollup's sums of the buckets in ``[start, end)``, of one tenant or of all."""
    rows = await connection.execute(
        _TOTALS, {"tenant_id": tenant_id, "starts": to_datetime(start_us), "ends": to_datetime(end_us)}
    )
    return [UsageTotal(row[0], row[1], row[2], Components(*row[3:])) for row in rows]


async def pace(connection: Connection, since_us: int, first_tokens_max: int) -> Pace:
    """What arrived since an instant, and how long the latest streamed requests waited for their first token."""
    since = {"since": floor_of(since_us)}
    requests, input_tokens, output_tokens = (await connection.execute(_PACE, since)).one()
    waits = await connection.execute(
        _FIRST_TOKENS, {"seen_max": LATEST_SEEN_MAX, "rows_max": first_tokens_max}
    )
    return Pace(requests, input_tokens, output_tokens, tuple(row[0] for row in waits))


async def backend_totals(connection: Connection, since_us: int) -> list[BackendTotal]:
    """What is on record of each model server, of requests that arrived since an instant."""
    rows = await connection.execute(_BACKENDS, {"since": floor_of(since_us), "cut": _CUT_SHORT})
    return [BackendTotal(*row) for row in rows]


async def recorded_tokens(connection: Connection, tenant_id: UUID, start_us: int, end_us: int) -> int:
    """Tokens on the records themselves, of requests that arrived in ``[start, end)``; the rollup must say the same."""
    values = {"tenant_id": tenant_id, "starts": floor_of(start_us), "ends": floor_of(end_us)}
    found: int = (await connection.execute(_RECORDED, values)).scalar_one()
    return found
