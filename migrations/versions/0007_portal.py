"""The portal reads its own tenant's row, for the month of its time zone.

Revision ID: 0007
Revises: 0006
Create Date: 2026-11-24
"""

from migrations.statements import execute

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

UP = """
GRANT SELECT ON tenant TO portal;
ALTER TABLE tenant ENABLE ROW LEVEL SECURITY;
CREATE POLICY everything ON tenant TO gateway, recorder, control USING (true) WITH CHECK (true);
CREATE POLICY own_tenant ON tenant FOR SELECT TO portal
  USING (id = nullif(current_setting('billing.tenant_id', true), '')::uuid);
"""

DOWN = """
DROP POLICY own_tenant ON tenant;
DROP POLICY everything ON tenant;
ALTER TABLE tenant DISABLE ROW LEVEL SECURITY;
REVOKE SELECT ON tenant FROM portal;
"""


def upgrade() -> None:
    """Every other role sees all tenants, as before."""
    execute(UP)


def downgrade() -> None:
    """The portal knows no months then."""
    execute(DOWN)
