"""Plans in the gateways' directory: plans, their versions and subscriptions carry the version that their change brought.

Revision ID: 0005
Revises: 0004
Create Date: 2026-11-24
"""

from migrations.statements import execute

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# What is there already becomes one change, in one statement each: the trigger would write directory_version once a row,
# and each write looks at all those before it (10,000 of them: seconds).
UP = """
ALTER TABLE price_plan ADD COLUMN version bigint NOT NULL DEFAULT 0;
ALTER TABLE price_plan_version ADD COLUMN version bigint NOT NULL DEFAULT 0;
ALTER TABLE subscription ADD COLUMN version bigint NOT NULL DEFAULT 0;
UPDATE directory_version SET version = version + 1;
UPDATE price_plan SET version = (SELECT version FROM directory_version);
UPDATE price_plan_version SET version = (SELECT version FROM directory_version);
UPDATE subscription SET version = (SELECT version FROM directory_version);
CREATE INDEX ix_price_plan_version ON price_plan (version);
CREATE INDEX ix_price_plan_version_version ON price_plan_version (version);
CREATE INDEX ix_subscription_version ON subscription (version);
CREATE TRIGGER price_plan_touch BEFORE INSERT OR UPDATE ON price_plan
  FOR EACH ROW EXECUTE FUNCTION directory_touch();
CREATE TRIGGER price_plan_version_touch BEFORE INSERT OR UPDATE ON price_plan_version
  FOR EACH ROW EXECUTE FUNCTION directory_touch();
CREATE TRIGGER subscription_touch BEFORE INSERT OR UPDATE ON subscription
  FOR EACH ROW EXECUTE FUNCTION directory_touch();
GRANT SELECT ON price_plan, price_plan_version, subscription TO gateway;
"""

DOWN = """
REVOKE SELECT ON price_plan, price_plan_version, subscription FROM gateway;
DROP TRIGGER subscription_touch ON subscription;
DROP TRIGGER price_plan_version_touch ON price_plan_version;
DROP TRIGGER price_plan_touch ON price_plan;
ALTER TABLE subscription DROP COLUMN version;
ALTER TABLE price_plan_version DROP COLUMN version;
ALTER TABLE price_plan DROP COLUMN version;
"""


def upgrade() -> None:
    """Add the columns, give what is there a version, and keep it by triggers from then on."""
    execute(UP)


def downgrade() -> None:
    """Gateways know no plans then; nothing else is lost."""
    execute(DOWN)
