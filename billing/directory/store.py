"""The one query of the directory: every row that changed since a version, in one statement and so in one snapshot."""

import msgspec
from sqlalchemy import text

from billing.directory.snapshot import Changes
from billing.infra.postgres import Connection

# One statement sees one state of the database: the version it returns is exactly that of the rows beside it.
_CHANGES = text("""
SELECT jsonb_build_object(
  'version', (SELECT version FROM directory_version),
  'tenants', (SELECT coalesce(jsonb_agg(jsonb_build_object(
      'id', id, 'slug', slug, 'status', status, 'version', version)), '[]') FROM tenant WHERE version > :since),
  'projects', (SELECT coalesce(jsonb_agg(jsonb_build_object(
      'id', id, 'tenant_id', tenant_id, 'archived', archived_at IS NOT NULL, 'version', version)), '[]')
      FROM project WHERE version > :since),
  'keys', (SELECT coalesce(jsonb_agg(jsonb_build_object(
      'id', id, 'tenant_id', tenant_id, 'project_id', project_id, 'hash', encode(hash, 'hex'), 'tags', tags,
      'expires_us', (extract(epoch FROM expires_at) * 1000000)::bigint, 'revoked', revoked_at IS NOT NULL,
      'version', version)), '[]') FROM api_key WHERE version > :since),
  'backends', (SELECT coalesce(jsonb_agg(jsonb_build_object(
      'id', id, 'name', name, 'url', url, 'engine', engine, 'credential', credential, 'concurrency', concurrency,
      'on_hang_up', on_hang_up, 'archived', archived_at IS NOT NULL, 'version', version)), '[]')
      FROM backend WHERE version > :since),
  'models', (SELECT coalesce(jsonb_agg(jsonb_build_object(
      'id', id, 'name', name, 'aliases', aliases, 'archived', archived_at IS NOT NULL,
      'created_us', (extract(epoch FROM created_at) * 1000000)::bigint, 'reasoning_start', reasoning_start,
      'reasoning_end', reasoning_end, 'tokenizer', tokenizer, 'context_tokens', context_tokens, 'output_cap', output_cap, 'version', version)), '[]')
      FROM model WHERE version > :since),
  'deployments', (SELECT coalesce(jsonb_agg(jsonb_build_object(
      'id', id, 'model_id', model_id, 'backend_id', backend_id, 'backend_model', backend_model, 'weight', weight,
      'priority', priority, 'archived', archived_at IS NOT NULL, 'version', version)), '[]')
      FROM deployment WHERE version > :since),
  'limits', (SELECT coalesce(jsonb_agg(jsonb_build_object(
      'id', id, 'tenant_id', tenant_id, 'project_id', project_id, 'key_id', key_id, 'model', model, 'meter', meter,
      'amount', amount, 'window_s', window_s, 'burst', burst, 'enforce', enforce, 'on_failure', on_failure,
      'created_us', (extract(epoch FROM created_at) * 1000000)::bigint, 'archived', archived_at IS NOT NULL,
      'per_end_user', per_end_user, 'is_strict', strict, 'boost', boost,
      'boost_until_us', (extract(epoch FROM boost_until) * 1000000)::bigint, 'version', version)), '[]') FROM usage_limit WHERE version > :since),
  'plans', (SELECT coalesce(jsonb_agg(jsonb_build_object(
      'id', id, 'name', name, 'currency', currency,
      'created_us', (extract(epoch FROM created_at) * 1000000)::bigint, 'version', version)), '[]')
      FROM price_plan WHERE version > :since),
  'plan_versions', (SELECT coalesce(jsonb_agg(jsonb_build_object(
      'plan_id', plan_id, 'number', number, 'effective_us', (extract(epoch FROM effective_at) * 1000000)::bigint,
      'content', content, 'version', version)), '[]') FROM price_plan_version WHERE version > :since),
  'subscriptions', (SELECT coalesce(jsonb_agg(jsonb_build_object(
      'id', id, 'tenant_id', tenant_id, 'plan_id', plan_id,
      'starts_us', (extract(epoch FROM starts_at) * 1000000)::bigint,
      'ends_us', (extract(epoch FROM ends_at) * 1000000)::bigint, 'version', version)), '[]')
      FROM subscription WHERE version > :since)
)::text
""")
_VERSION = text("SELECT version FROM directory_version")

_decode = msgspec.json.Decoder(Changes).decode


async def changes_since(connection: Connection, version: int) -> Changes:
    """Every row changed after ``version``, whole; ``Changes`` without rows when there is nothing new."""
    present = (await connection.execute(_VERSION)).scalar_one()
    if present == version:
        return Changes(version=version)
    since = (
        version if present > version else 0
    )  # an older version: the database was restored, so everything is new
    return _decode((await connection.execute(_CHANGES, {"since": since})).scalar_one())
