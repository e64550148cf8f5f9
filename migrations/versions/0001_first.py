"""Roles, directory, plans, and the record path.

Revision ID: 0001
Revises:
Create Date: 2026-11-24
"""

from migrations.statements import execute, execute_alone

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Roles belong to the whole cluster: several databases may migrate at once, and a downgrade of one must not take a role
# from the others. Hence created if missing, in a transaction of their own, so that nobody waits for a whole migration,
# with the races tolerated, and never dropped. An owner who is not a superuser must be able to become each role.
ROLES = """
DO $$
DECLARE
  wanted text;
  may_become text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['gateway', 'recorder', 'control', 'portal'] LOOP
    FOR attempt IN 1..50 LOOP
      BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
          EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
        IF NOT pg_has_role(current_user, wanted, may_become) THEN
          EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
        END IF;
        EXIT;
      EXCEPTION
        -- Another database's migration was a moment faster (the last is "tuple concurrently updated").
        WHEN duplicate_object OR unique_violation OR internal_error THEN
          IF attempt = 50 THEN RAISE; END IF;
          PERFORM pg_sleep(0.05);
      END;
    END LOOP;
  END LOOP;
END $$
"""

# The version of the directory is a row, not a sequence: a sequence skips late commits (design.md §6). The row's lock
# makes versions commit in order.
DIRECTORY = """
CREATE EXTENSION IF NOT EXISTS btree_gist;

CREATE TABLE directory_version (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  version   bigint NOT NULL
);
INSERT INTO directory_version (version) VALUES (0);

CREATE FUNCTION directory_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE directory_version SET version = version + 1 RETURNING version INTO NEW.version;
  RETURN NEW;
END $$;

CREATE TABLE tenant (
  id         uuid PRIMARY KEY,
  slug       text NOT NULL UNIQUE,
  name       text NOT NULL,
  timezone   text NOT NULL DEFAULT 'UTC',
  status     text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
  collection integer NOT NULL DEFAULT 1 CHECK (collection > 0),
  created_at timestamptz NOT NULL,
  version    bigint NOT NULL DEFAULT 0
);
CREATE INDEX ix_tenant_version ON tenant (version);
CREATE TRIGGER tenant_touch BEFORE INSERT OR UPDATE OF slug, name, timezone, status ON tenant
  FOR EACH ROW EXECUTE FUNCTION directory_touch();

CREATE TABLE project (
  tenant_id   uuid NOT NULL REFERENCES tenant (id),
  id          uuid NOT NULL,
  slug        text NOT NULL,
  name        text NOT NULL,
  archived_at timestamptz,
  created_at  timestamptz NOT NULL,
  version     bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, slug)
);
CREATE INDEX ix_project_version ON project (version);
CREATE TRIGGER project_touch BEFORE INSERT OR UPDATE ON project
  FOR EACH ROW EXECUTE FUNCTION directory_touch();

CREATE TABLE api_key (
  tenant_id    uuid NOT NULL REFERENCES tenant (id),
  id           uuid NOT NULL,
  project_id   uuid,
  name         text NOT NULL,
  prefix       text NOT NULL,
  hash         bytea NOT NULL CHECK (length(hash) = 32),
  tags         jsonb NOT NULL DEFAULT '{}',
  expires_at   timestamptz,
  revoked_at   timestamptz,
  created_at   timestamptz NOT NULL,
  last_used_at timestamptz,
  version      bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, project_id) REFERENCES project (tenant_id, id),
  UNIQUE (tenant_id, hash)
);
CREATE INDEX ix_api_key_version ON api_key (version);
CREATE TRIGGER api_key_touch BEFORE INSERT OR UPDATE OF project_id, name, hash, tags, expires_at, revoked_at ON api_key
  FOR EACH ROW EXECUTE FUNCTION directory_touch();

CREATE TABLE backend (
  id          uuid PRIMARY KEY,
  name        text NOT NULL UNIQUE,
  url         text NOT NULL,
  engine      text NOT NULL,
  credential  text,
  concurrency integer CHECK (concurrency > 0),
  archived_at timestamptz,
  created_at  timestamptz NOT NULL,
  version     bigint NOT NULL DEFAULT 0
);
CREATE INDEX ix_backend_version ON backend (version);
CREATE TRIGGER backend_touch BEFORE INSERT OR UPDATE ON backend
  FOR EACH ROW EXECUTE FUNCTION directory_touch();

CREATE TABLE model (
  id          uuid PRIMARY KEY,
  name        text NOT NULL UNIQUE,
  aliases     text[] NOT NULL DEFAULT '{}',
  archived_at timestamptz,
  created_at  timestamptz NOT NULL,
  version     bigint NOT NULL DEFAULT 0
);
CREATE INDEX ix_model_version ON model (version);
CREATE TRIGGER model_touch BEFORE INSERT OR UPDATE ON model
  FOR EACH ROW EXECUTE FUNCTION directory_touch();

CREATE TABLE deployment (
  id            uuid PRIMARY KEY,
  model_id      uuid NOT NULL REFERENCES model (id),
  backend_id    uuid NOT NULL REFERENCES backend (id),
  backend_model text NOT NULL,
  weight        integer NOT NULL DEFAULT 1 CHECK (weight > 0),
  priority      integer NOT NULL DEFAULT 0,
  archived_at   timestamptz,
  created_at    timestamptz NOT NULL,
  version       bigint NOT NULL DEFAULT 0,
  UNIQUE (model_id, backend_id, backend_model)
);
CREATE INDEX ix_deployment_version ON deployment (version);
CREATE TRIGGER deployment_touch BEFORE INSERT OR UPDATE ON deployment
  FOR EACH ROW EXECUTE FUNCTION directory_touch();
"""

# A plan version never changes. The validity of a subscription is a constraint, not an `if` (design.md §7).
PLANS = """
CREATE TABLE price_plan (
  id         uuid PRIMARY KEY,
  name       text NOT NULL UNIQUE,
  currency   text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  created_at timestamptz NOT NULL
);

CREATE TABLE price_plan_version (
  plan_id      uuid NOT NULL REFERENCES price_plan (id),
  number       integer NOT NULL CHECK (number > 0),
  effective_at timestamptz NOT NULL,
  content      jsonb NOT NULL,
  content_hash bytea NOT NULL,
  created_at   timestamptz NOT NULL,
  PRIMARY KEY (plan_id, number),
  UNIQUE (plan_id, effective_at),
  CHECK (extract(epoch FROM effective_at)::bigint % 900 = 0)
);

CREATE TABLE subscription (
  tenant_id  uuid NOT NULL REFERENCES tenant (id),
  id         uuid NOT NULL,
  plan_id    uuid NOT NULL REFERENCES price_plan (id),
  starts_at  timestamptz NOT NULL,
  ends_at    timestamptz,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  CHECK (extract(epoch FROM starts_at)::bigint % 900 = 0),
  CHECK (ends_at IS NULL OR (ends_at > starts_at AND extract(epoch FROM ends_at)::bigint % 900 = 0)),
  CONSTRAINT ex_subscription_overlap EXCLUDE USING gist (tenant_id WITH =, tstzrange(starts_at, ends_at) WITH &&)
);
"""

# A count above 2^53 is a broken engine (tokens.usage.COUNT_MAX), and a few of them would overflow a rollup's sum.
RECORDS = """
CREATE TABLE spool (
  id              uuid PRIMARY KEY,
  host            text NOT NULL,
  shipped_through bigint NOT NULL DEFAULT 0,
  oldest_open     bigint NOT NULL DEFAULT 0,
  registered_at   timestamptz NOT NULL,
  closed_at       timestamptz,
  CONSTRAINT ck_spool_order CHECK (0 <= oldest_open AND oldest_open <= shipped_through)
);

CREATE TABLE usage_record (
  tenant_id               uuid NOT NULL,
  id                      uuid NOT NULL,
  project_id              uuid,
  key_id                  uuid NOT NULL,
  model                   text NOT NULL,
  backend_id              uuid NOT NULL,
  engine                  text NOT NULL,
  operation               text NOT NULL,
  stream                  boolean NOT NULL,
  service_tier            text NOT NULL,
  outcome                 text NOT NULL,
  status                  smallint NOT NULL,
  provenance              text NOT NULL,
  input                   bigint CHECK (input BETWEEN 0 AND 9007199254740992),
  input_provenance        text,
  input_method            text,
  cached_input            bigint CHECK (cached_input BETWEEN 0 AND 9007199254740992),
  cached_input_provenance text,
  cached_input_method     text,
  cache_write             bigint CHECK (cache_write BETWEEN 0 AND 9007199254740992),
  cache_write_provenance  text,
  cache_write_method      text,
  output                  bigint CHECK (output BETWEEN 0 AND 9007199254740992),
  output_provenance       text,
  output_method           text,
  reasoning               bigint CHECK (reasoning BETWEEN 0 AND 9007199254740992),
  reasoning_provenance    text,
  reasoning_method        text,
  input_estimate          bigint,
  ttft_us                 bigint,
  itl_us                  bigint,
  duration_us             bigint,
  response_model          text,
  response_id             text,
  error                   text,
  end_user                text,
  idempotency_key         text,
  tags                    jsonb NOT NULL DEFAULT '{}',
  collection              integer NOT NULL,
  payload_hash            bytea NOT NULL,
  spool_id                uuid,
  recorded_at             timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  CHECK (cached_input IS NULL OR input IS NULL OR cached_input <= input),
  CHECK (reasoning IS NULL OR output IS NULL OR reasoning <= output)
) PARTITION BY RANGE (id);
CREATE INDEX ix_usage_record_id ON usage_record (id);

CREATE TABLE usage_rollup (
  tenant_id      uuid NOT NULL,
  bucket         timestamptz NOT NULL,
  collection     integer NOT NULL,
  project_id     uuid NOT NULL,
  model          text NOT NULL,
  operation      text NOT NULL,
  service_tier   text NOT NULL,
  prompt_band    smallint NOT NULL,
  outcome        text NOT NULL,
  provenance     text NOT NULL,
  requests       bigint NOT NULL,
  uncached_input bigint NOT NULL,
  cached_input   bigint NOT NULL,
  cache_write    bigint NOT NULL,
  answer_output  bigint NOT NULL,
  reasoning      bigint NOT NULL,
  PRIMARY KEY (tenant_id, bucket, collection, project_id, model, operation, service_tier, prompt_band, outcome, provenance),
  CHECK (extract(epoch FROM bucket)::bigint % 900 = 0)
);

CREATE TABLE usage_quarantine (
  tenant_id   uuid NOT NULL,
  id          uuid NOT NULL,
  reason      text NOT NULL,
  detail      text NOT NULL,
  payload     bytea NOT NULL,
  payload_hash bytea NOT NULL,
  spool_id    uuid,
  recorded_at timestamptz NOT NULL,
  released_at timestamptz,
  PRIMARY KEY (tenant_id, id, payload_hash)
);

-- Partitions are months of the time inside the id; there is no DEFAULT partition: an id outside goes to quarantine.
-- SECURITY DEFINER, so that the recorder can keep partitions ahead without owning the table; its search path therefore
-- names the temporary schema last. A table is made first and attached then: unlike CREATE ... PARTITION OF, which locks
-- the parent against everybody, this lets readers and the recorder go on. pg_class is asked by a query, which sees what
-- was committed while this waited for its lock; to_regclass would answer from a cache that the lock does not refresh.
CREATE FUNCTION usage_partitions_ensure(first timestamptz, last timestamptz) RETURNS integer
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  month timestamptz := date_trunc('month', first);
  made integer := 0;
  name text;
BEGIN
  IF last > first + interval '20 years' THEN
    RAISE EXCEPTION 'usage_partitions_ensure: % to % is more than 20 years', first, last;
  END IF;
  WHILE month <= last LOOP
    name := 'usage_record_' || to_char(month, 'YYYY_MM');
    IF NOT EXISTS (SELECT FROM pg_class WHERE relname = name AND relnamespace = 'public'::regnamespace) THEN
      PERFORM pg_advisory_xact_lock(hashtext('usage_partitions_ensure'));
      IF NOT EXISTS (SELECT FROM pg_class WHERE relname = name AND relnamespace = 'public'::regnamespace) THEN
        EXECUTE format('CREATE TABLE public.%I (LIKE public.usage_record INCLUDING ALL)', name);
        EXECUTE format('ALTER TABLE public.usage_record ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
          name, uuid_floor(month), uuid_floor(month + interval '1 month'));
        made := made + 1;
      END IF;
    END IF;
    month := month + interval '1 month';
  END LOOP;
  RETURN made;
END $$;
"""

UUID_FLOOR = """
CREATE FUNCTION uuid_floor(moment timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
  SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$
"""

# P10: the portal sees the tenant that its transaction names, and nothing else. What a role may change is named column by
# column: a plan's currency, a version or a key's hash stays as it was made, whatever goes wrong in a program.
GRANTS = """
GRANT USAGE ON SCHEMA public TO gateway, recorder, control, portal;
GRANT SELECT ON directory_version, tenant, project, api_key, backend, model, deployment TO gateway;
GRANT SELECT, INSERT ON spool, usage_rollup, usage_quarantine TO recorder;
GRANT UPDATE (shipped_through, oldest_open, closed_at) ON spool TO recorder;
GRANT UPDATE (requests, uncached_input, cached_input, cache_write, answer_output, reasoning) ON usage_rollup TO recorder;
GRANT SELECT, INSERT ON usage_record TO recorder;
GRANT SELECT ON tenant TO recorder;
GRANT SELECT, INSERT ON tenant, project, api_key, backend, model, deployment, price_plan, subscription TO control;
GRANT UPDATE (revoked_at) ON api_key TO control;
GRANT UPDATE (url, engine, credential, concurrency, archived_at) ON backend TO control;
GRANT UPDATE (ends_at) ON subscription TO control;
-- The whole table, because LOCK TABLE asked for that; 0002 narrows it.
GRANT UPDATE ON model TO control;
GRANT SELECT, UPDATE (version) ON directory_version TO control;
GRANT SELECT, INSERT ON price_plan_version TO control;
GRANT SELECT ON spool, usage_record, usage_rollup TO control;
GRANT SELECT, UPDATE (released_at) ON usage_quarantine TO control;
GRANT SELECT ON usage_record, usage_rollup TO portal;
GRANT EXECUTE ON FUNCTION usage_partitions_ensure(timestamptz, timestamptz) TO recorder, control;
REVOKE EXECUTE ON FUNCTION usage_partitions_ensure(timestamptz, timestamptz) FROM PUBLIC;

ALTER TABLE usage_record ENABLE ROW LEVEL SECURITY;
CREATE POLICY everything ON usage_record TO recorder, control USING (true) WITH CHECK (true);
CREATE POLICY own_tenant ON usage_record FOR SELECT TO portal
  USING (tenant_id = nullif(current_setting('billing.tenant_id', true), '')::uuid);
ALTER TABLE usage_rollup ENABLE ROW LEVEL SECURITY;
CREATE POLICY everything ON usage_rollup TO recorder, control USING (true) WITH CHECK (true);
CREATE POLICY own_tenant ON usage_rollup FOR SELECT TO portal
  USING (tenant_id = nullif(current_setting('billing.tenant_id', true), '')::uuid);
"""

DOWN = """
DROP FUNCTION usage_partitions_ensure(timestamptz, timestamptz);
DROP TABLE usage_quarantine, usage_rollup, usage_record, spool;
DROP FUNCTION uuid_floor(timestamptz);
DROP TABLE subscription, price_plan_version, price_plan;
DROP TABLE deployment, model, backend, api_key, project, tenant;
DROP FUNCTION directory_touch();
DROP TABLE directory_version;
REVOKE USAGE ON SCHEMA public FROM gateway, recorder, control, portal;
"""


def upgrade() -> None:
    """Create everything, roles first."""
    execute_alone(ROLES)
    for statements in (DIRECTORY, PLANS, UUID_FLOOR, RECORDS, GRANTS):
        execute(statements)


def downgrade() -> None:
    """Drop everything but the roles and the extension, which other databases and owners may use."""
    execute(DOWN)
