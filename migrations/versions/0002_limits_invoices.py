"""Limits, invoices with their ledger, the audit log, and how far each spool is recorded in time.

Revision ID: 0002
Revises: 0001
Create Date: 2026-11-24
"""

from migrations.statements import execute

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# A limit belongs to a tenant, or to one of its projects or keys; without a model it counts all models together.
LIMITS = """
CREATE TABLE usage_limit (
  tenant_id   uuid NOT NULL REFERENCES tenant (id),
  id          uuid NOT NULL,
  project_id  uuid,
  key_id      uuid,
  model       text,
  meter       text NOT NULL CHECK (meter IN ('requests', 'tokens', 'concurrency')),
  amount      bigint NOT NULL CHECK (amount BETWEEN 1 AND 1000000000000),
  window_s    integer CHECK (window_s = 60),
  burst       bigint CHECK (burst BETWEEN 1 AND 1000000000000),
  enforce     text NOT NULL CHECK (enforce IN ('enforced', 'shadow')),
  on_failure  text NOT NULL CHECK (on_failure IN ('closed', 'open')),
  archived_at timestamptz,
  created_at  timestamptz NOT NULL,
  version     bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, project_id) REFERENCES project (tenant_id, id),
  FOREIGN KEY (tenant_id, key_id) REFERENCES api_key (tenant_id, id),
  CONSTRAINT ck_usage_limit_scope CHECK (project_id IS NULL OR key_id IS NULL),
  CONSTRAINT ck_usage_limit_window CHECK ((window_s IS NULL) = (meter = 'concurrency')),
  CONSTRAINT ck_usage_limit_burst CHECK (burst IS NULL OR meter <> 'concurrency')
);
CREATE INDEX ix_usage_limit_version ON usage_limit (version);
CREATE UNIQUE INDEX ux_usage_limit_scope ON usage_limit (tenant_id, project_id, key_id, model, meter, window_s)
  NULLS NOT DISTINCT WHERE archived_at IS NULL;
CREATE TRIGGER usage_limit_touch BEFORE INSERT OR UPDATE ON usage_limit
  FOR EACH ROW EXECUTE FUNCTION directory_touch();
"""

# The instant before which every request of a spool has its record: a close waits for it.
SPOOLS = """
ALTER TABLE spool ADD COLUMN recorded_through timestamptz;
"""

TENANTS = """
ALTER TABLE tenant ADD COLUMN synthetic boolean NOT NULL DEFAULT false;
"""

# One invoice for a tenant's month is a unique index, not an `if` (design.md §7). An issued one never changes (P8).
INVOICES = """
CREATE TABLE issuer (
  id            uuid PRIMARY KEY,
  name          text NOT NULL UNIQUE,
  number_prefix text NOT NULL UNIQUE,
  next_number   bigint NOT NULL DEFAULT 1 CHECK (next_number > 0),
  rounding      text NOT NULL CHECK (rounding IN ('half_even', 'half_up')),
  created_at    timestamptz NOT NULL
);
INSERT INTO issuer (id, name, number_prefix, rounding, created_at)
  VALUES ('00000000-0000-7000-8000-000000000001', 'default', 'INV-', 'half_even', now());

CREATE TABLE invoice (
  tenant_id    uuid NOT NULL REFERENCES tenant (id),
  id           uuid NOT NULL,
  issuer_id    uuid NOT NULL REFERENCES issuer (id),
  number       text,
  status       text NOT NULL CHECK (status IN ('draft', 'issued')),
  month        text NOT NULL CHECK (month ~ '^[0-9]{4}-[0-9]{2}$'),
  period_start timestamptz NOT NULL,
  period_end   timestamptz NOT NULL,
  is_early     boolean NOT NULL,
  collection   integer NOT NULL CHECK (collection > 0),
  currency     text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  inputs       jsonb NOT NULL,
  content      bytea,
  content_hash bytea CHECK (length(content_hash) = 32),
  total_minor  bigint,
  created_at   timestamptz NOT NULL,
  issued_at    timestamptz,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (issuer_id, number),
  CONSTRAINT ck_invoice_period CHECK (period_start < period_end
    AND extract(epoch FROM period_start)::bigint % 900 = 0 AND extract(epoch FROM period_end)::bigint % 900 = 0),
  CONSTRAINT ck_invoice_issued CHECK ((status = 'draft') = (issued_at IS NULL)
    AND (status = 'draft' OR num_nulls(number, content, content_hash, total_minor) = 0))
);
CREATE UNIQUE INDEX ux_invoice_month ON invoice (tenant_id, month);
CREATE INDEX ix_invoice_issued_at ON invoice (issued_at);

CREATE FUNCTION invoice_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.issued_at IS NOT NULL AND (TG_OP = 'DELETE' OR to_jsonb(OLD) - 'status' IS DISTINCT FROM to_jsonb(NEW) - 'status')
  THEN
    RAISE EXCEPTION 'invoice % is issued and never changes', OLD.number USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER invoice_frozen BEFORE UPDATE OR DELETE ON invoice FOR EACH ROW EXECUTE FUNCTION invoice_frozen();
"""

# Postings are in minor units, debits positive, credits negative; those of a transaction add up to 0 when it commits.
LEDGER = """
CREATE TABLE ledger_transaction (
  tenant_id  uuid NOT NULL REFERENCES tenant (id),
  id         uuid NOT NULL,
  kind       text NOT NULL CHECK (kind IN ('invoice_issued')),
  invoice_id uuid,
  currency   text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoice (tenant_id, id)
);
CREATE UNIQUE INDEX ux_ledger_transaction_invoice ON ledger_transaction (tenant_id, invoice_id, kind);

CREATE TABLE ledger_posting (
  tenant_id      uuid NOT NULL,
  transaction_id uuid NOT NULL,
  number         smallint NOT NULL CHECK (number > 0),
  account        text NOT NULL CHECK (account IN ('receivable', 'revenue')),
  amount_minor   bigint NOT NULL CHECK (amount_minor <> 0),
  PRIMARY KEY (tenant_id, transaction_id, number),
  FOREIGN KEY (tenant_id, transaction_id) REFERENCES ledger_transaction (tenant_id, id)
);

CREATE FUNCTION ledger_balanced() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (SELECT coalesce(sum(amount_minor), 0) FROM ledger_posting
      WHERE tenant_id = NEW.tenant_id AND transaction_id = NEW.transaction_id) <> 0 THEN
    RAISE EXCEPTION 'ledger transaction % does not balance', NEW.transaction_id USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER ledger_balanced AFTER INSERT OR UPDATE ON ledger_posting
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_balanced();
"""

# Every write of the operator's is audited where it cannot be forgotten: by the table. The actor is what the transaction
# says (infra/postgres.py), else the session's own user. What a trigger's arguments name is a secret or too long, and
# stands in the log only as changed.
AUDIT = """
CREATE TABLE audit_entry (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at         timestamptz NOT NULL,
  actor      text NOT NULL,
  action     text NOT NULL CHECK (action IN ('insert', 'update', 'delete')),
  subject    text NOT NULL,
  subject_id text NOT NULL,
  tenant_id  uuid,
  before     jsonb,
  after      jsonb
);
CREATE INDEX ix_audit_entry_tenant_id ON audit_entry (tenant_id, id);

CREATE FUNCTION audit_write() RETURNS trigger
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  old_row jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) - 'version' END;
  new_row jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) - 'version' END;
  present jsonb := coalesce(new_row, old_row);
  hidden  text;
BEGIN
  IF TG_OP = 'UPDATE' AND old_row = new_row THEN
    RETURN NULL;
  END IF;
  FOREACH hidden IN ARRAY coalesce(TG_ARGV, '{}') LOOP
    IF TG_OP = 'UPDATE' AND old_row -> hidden IS DISTINCT FROM new_row -> hidden THEN
      new_row := jsonb_set(new_row, ARRAY[hidden], '"(changed)"');
    ELSE
      new_row := new_row - hidden;
    END IF;
    old_row := old_row - hidden;
  END LOOP;
  INSERT INTO audit_entry (at, actor, action, subject, subject_id, tenant_id, before, after) VALUES (
    clock_timestamp(),
    coalesce(nullif(current_setting('billing.actor', true), ''), 'sql:' || session_user),
    lower(TG_OP), TG_TABLE_NAME,
    coalesce(present ->> 'id', (present ->> 'plan_id') || '/' || (present ->> 'number'),
             (present ->> 'transaction_id') || '/' || (present ->> 'number'), ''),
    CASE TG_TABLE_NAME WHEN 'tenant' THEN present ->> 'id' ELSE present ->> 'tenant_id' END::uuid,
    old_row, new_row);
  RETURN NULL;
END $$;

CREATE FUNCTION audit_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the audit log is only ever added to' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER audit_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entry
  FOR EACH STATEMENT EXECUTE FUNCTION audit_kept();
"""

_AUDITED = {
    "tenant": "",
    "project": "",
    "api_key": "'hash', 'last_used_at'",
    "backend": "'credential'",
    "model": "",
    "deployment": "",
    "price_plan": "",
    "price_plan_version": "'content_hash'",
    "subscription": "",
    "usage_limit": "",
    "issuer": "",
    "invoice": "'content', 'inputs'",
    "ledger_transaction": "",
    "ledger_posting": "",
    "usage_quarantine": "'payload', 'payload_hash'",
}
AUDITED = "\n".join(
    f"CREATE TRIGGER audit_write AFTER INSERT OR UPDATE OR DELETE ON {table} "
    f"FOR EACH ROW EXECUTE FUNCTION audit_write({hidden});"
    for table, hidden in _AUDITED.items()
)

GRANTS = """
GRANT SELECT ON alembic_version TO gateway, recorder, control, portal;
GRANT SELECT ON usage_limit TO gateway;
REVOKE UPDATE ON model FROM control;
GRANT UPDATE (archived_at) ON model TO control;
GRANT UPDATE (recorded_through) ON spool TO recorder;
GRANT SELECT, INSERT ON usage_limit, invoice, ledger_transaction, ledger_posting TO control;
GRANT UPDATE (amount, burst, enforce, on_failure, archived_at) ON usage_limit TO control;
GRANT SELECT ON issuer, audit_entry TO control;
GRANT UPDATE (next_number) ON issuer TO control;
GRANT UPDATE (number, status, collection, inputs, content, content_hash, total_minor, issued_at) ON invoice TO control;
GRANT DELETE ON invoice TO control;
GRANT UPDATE (name, timezone, status, collection) ON tenant TO control;
GRANT UPDATE (name, archived_at) ON project TO control;
GRANT UPDATE (weight, priority, archived_at) ON deployment TO control;
GRANT SELECT ON invoice TO portal;
REVOKE EXECUTE ON FUNCTION audit_write() FROM PUBLIC;

ALTER TABLE invoice ENABLE ROW LEVEL SECURITY;
CREATE POLICY everything ON invoice TO control USING (true) WITH CHECK (true);
CREATE POLICY own_tenant ON invoice FOR SELECT TO portal
  USING (tenant_id = nullif(current_setting('billing.tenant_id', true), '')::uuid AND status <> 'draft');
"""

DOWN = f"""
{" ".join(f"DROP TRIGGER audit_write ON {table};" for table in _AUDITED)}
DROP TABLE audit_entry;
DROP FUNCTION audit_kept();
DROP FUNCTION audit_write();
DROP TABLE ledger_posting, ledger_transaction;
DROP FUNCTION ledger_balanced();
DROP TABLE invoice;
DROP FUNCTION invoice_frozen();
DROP TABLE issuer;
DROP TABLE usage_limit;
REVOKE SELECT ON alembic_version FROM gateway, recorder, control, portal;
REVOKE UPDATE (archived_at) ON model FROM control;
GRANT UPDATE ON model TO control;
REVOKE UPDATE (name, timezone, status, collection) ON tenant FROM control;
REVOKE UPDATE (name, archived_at) ON project FROM control;
REVOKE UPDATE (weight, priority, archived_at) ON deployment FROM control;
ALTER TABLE tenant DROP COLUMN synthetic;
ALTER TABLE spool DROP COLUMN recorded_through;
"""  # noqa: S608 - made of this file's own names


def upgrade() -> None:
    """Create everything; what exists already only gains columns with defaults and triggers."""
    for statements in (LIMITS, SPOOLS, TENANTS, INVOICES, LEDGER, AUDIT, AUDITED, GRANTS):
        execute(statements)


def downgrade() -> None:
    """Drop everything of this migration; what the audit log and the ledger held is gone then."""
    execute(DOWN)
