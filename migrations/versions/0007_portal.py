"""The portal reads its own tenant's row, for the month of its time zone; how long a model's texts may become.

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
ALTER TABLE model ADD COLUMN context_tokens bigint, ADD COLUMN output_cap bigint,
  ADD CONSTRAINT ck_model_context_tokens CHECK (context_tokens > 0),
  ADD CONSTRAINT ck_model_output_cap CHECK (output_cap > 0);
GRANT UPDATE (context_tokens, output_cap) ON model TO control;
GRANT SELECT ON tenant TO portal;
ALTER TABLE tenant ENABLE ROW LEVEL SECURITY;
CREATE POLICY everything ON tenant TO gateway, recorder, control USING (true) WITH CHECK (true);
CREATE POLICY own_tenant ON tenant FOR SELECT TO portal
  USING (id = nullif(current_setting('billing.tenant_id', true), '')::uuid);
"""

DOWN = """
ALTER TABLE model DROP COLUMN context_tokens, DROP COLUMN output_cap;
DROP POLICY own_tenant ON tenant;
DROP POLICY everything ON tenant;
ALTER TABLE tenant DISABLE ROW LEVEL SECURITY;
REVOKE SELECT ON tenant FROM portal;
"""


def upgrade() -> None:
    """Every other role sees all tenants, as before."""
    execute(UP)


def downgrade() -> None:
    """The portal knows no months then, and no answer is capped."""
    execute(DOWN)
