"""Limits of a second, an hour and a day, of input and of output, of each end user, strict ones, and boosts.

Revision ID: 0006
Revises: 0005
Create Date: 2026-11-24
"""

from migrations.statements import execute

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE usage_limit ADD COLUMN per_end_user boolean NOT NULL DEFAULT false;
ALTER TABLE usage_limit ADD COLUMN strict boolean NOT NULL DEFAULT false;
ALTER TABLE usage_limit ADD COLUMN boost bigint;
ALTER TABLE usage_limit ADD COLUMN boost_until timestamptz;
ALTER TABLE usage_limit ADD CONSTRAINT ck_usage_limit_boost CHECK ((boost IS NULL) = (boost_until IS NULL));
ALTER TABLE usage_limit ADD CONSTRAINT ck_usage_limit_boost_amount CHECK (boost BETWEEN 1 AND 1000000000000);
ALTER TABLE usage_limit DROP CONSTRAINT usage_limit_meter_check;
ALTER TABLE usage_limit ADD CONSTRAINT usage_limit_meter_check
  CHECK (meter IN ('requests', 'tokens', 'input_tokens', 'output_tokens', 'concurrency'));
ALTER TABLE usage_limit DROP CONSTRAINT usage_limit_window_s_check;
ALTER TABLE usage_limit ADD CONSTRAINT usage_limit_window_s_check CHECK (window_s IN (1, 60, 3600, 86400));
ALTER TABLE usage_limit ADD CONSTRAINT ck_usage_limit_strict
  CHECK (NOT strict OR (burst IS NULL AND on_failure = 'closed' AND meter <> 'concurrency'));
DROP INDEX ux_usage_limit_scope;
CREATE UNIQUE INDEX ux_usage_limit_scope
  ON usage_limit (tenant_id, project_id, key_id, model, meter, window_s, per_end_user)
  NULLS NOT DISTINCT WHERE archived_at IS NULL;
GRANT UPDATE (strict, boost, boost_until) ON usage_limit TO control;
"""

# What the older program has no word for is removed: it could not read the rows.
DOWN = """
DELETE FROM usage_limit
  WHERE per_end_user OR meter IN ('input_tokens', 'output_tokens') OR (window_s IS NOT NULL AND window_s <> 60);
DROP INDEX ux_usage_limit_scope;
CREATE UNIQUE INDEX ux_usage_limit_scope ON usage_limit (tenant_id, project_id, key_id, model, meter, window_s)
  NULLS NOT DISTINCT WHERE archived_at IS NULL;
ALTER TABLE usage_limit DROP CONSTRAINT ck_usage_limit_strict;
ALTER TABLE usage_limit DROP CONSTRAINT usage_limit_window_s_check;
ALTER TABLE usage_limit ADD CONSTRAINT usage_limit_window_s_check CHECK (window_s = 60);
ALTER TABLE usage_limit DROP CONSTRAINT usage_limit_meter_check;
ALTER TABLE usage_limit ADD CONSTRAINT usage_limit_meter_check CHECK (meter IN ('requests', 'tokens', 'concurrency'));
ALTER TABLE usage_limit DROP CONSTRAINT ck_usage_limit_boost;
ALTER TABLE usage_limit DROP CONSTRAINT ck_usage_limit_boost_amount;
ALTER TABLE usage_limit DROP COLUMN boost_until;
ALTER TABLE usage_limit DROP COLUMN boost;
ALTER TABLE usage_limit DROP COLUMN strict;
ALTER TABLE usage_limit DROP COLUMN per_end_user;
"""


def upgrade() -> None:
    """Every limit that is there stays as it is."""
    execute(UP)


def downgrade() -> None:
    """Limits of the new kinds are lost; strict ones become buckets, and boosts end."""
    execute(DOWN)
