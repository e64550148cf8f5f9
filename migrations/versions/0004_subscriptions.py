"""A subscription may end where it starts: it was taken back before anything was invoiced for it, and never applied.

Revision ID: 0004
Revises: 0003
Create Date: 2026-11-24
"""

from migrations.statements import execute

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# An empty range overlaps nothing: ex_subscription_overlap lets another begin at the same instant.
UP = """
ALTER TABLE subscription DROP CONSTRAINT subscription_check;
ALTER TABLE subscription ADD CONSTRAINT ck_subscription_ends_at
  CHECK (ends_at IS NULL OR (ends_at >= starts_at AND extract(epoch FROM ends_at)::bigint % 900 = 0));
"""

DOWN = """
DELETE FROM subscription WHERE ends_at = starts_at;
ALTER TABLE subscription DROP CONSTRAINT ck_subscription_ends_at;
ALTER TABLE subscription ADD CONSTRAINT subscription_check
  CHECK (ends_at IS NULL OR (ends_at > starts_at AND extract(epoch FROM ends_at)::bigint % 900 = 0));
"""


def upgrade() -> None:
    """Let a subscription end at its start."""
    execute(UP)


def downgrade() -> None:
    """Drop the subscriptions that never applied, which is all that an older program cannot hold."""
    execute(DOWN)
