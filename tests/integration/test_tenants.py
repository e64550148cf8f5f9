"""Tenants, projects and keys on a real Postgres, under the role that operators work with."""

import hashlib
from collections.abc import AsyncIterator
from uuid import UUID

import msgspec
import pytest

from billing.errors import Conflict, InvalidInput, NotFound
from billing.infra.postgres import Database
from billing.infra.system import random_bytes
from billing.tenants import api_key, store
from billing.tenants.api_key import KeyState
from billing.tenants.service import TenantService
from billing.tenants.tenant import Tenant, TenantStatus
from tests.invoice_kit import at
from tests.metering_kit import ask, id_maker

NOW = at("2026-11-24T10:00:00Z")
LATER = at("2026-11-24T11:00:00Z")


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    opened = Database(migrated_url, role="control", pool_size=4)
    yield opened
    await opened.close()


@pytest.fixture
def service(database: Database) -> TenantService:
    return TenantService(database, lambda: NOW, id_maker(clock=lambda: NOW), random_bytes)


async def version(url: str) -> int:
    return int((await ask(url, "SELECT version FROM directory_version"))[0][0])


async def test_a_tenant_is_made_once_and_found_by_its_slug(service: TenantService) -> None:
    made = await service.create_tenant("acme", " Acme Inference Ltd ")
    assert made == Tenant(made.id, "acme", "Acme Inference Ltd", NOW)
    assert await service.tenant("acme") == made
    with pytest.raises(Conflict, match="tenant acme exists already"):
        await service.create_tenant("acme")
    with pytest.raises(NotFound, match="there is no tenant 'globex'"):
        await service.tenant("globex")


async def test_tenants_are_listed_by_slug_as_far_as_asked_for(service: TenantService) -> None:
    for slug in ("globex", "acme", "initech"):
        await service.create_tenant(slug)
    assert [tenant.slug for tenant in await service.list_tenants(10)] == ["acme", "globex", "initech"]
    assert [tenant.slug for tenant in await service.list_tenants(2)] == ["acme", "globex"]


async def test_a_tenant_keeps_what_is_not_changed(service: TenantService, migrated_url: str) -> None:
    made = await service.create_tenant("acme", timezone="Asia/Kolkata")
    before = await version(migrated_url)
    changed = await service.change_tenant("acme", name="Acme Ltd", status=TenantStatus.SUSPENDED)
    assert changed == await service.tenant("acme")
    assert (changed.name, changed.timezone, changed.status) == (
        "Acme Ltd",
        "Asia/Kolkata",
        TenantStatus.SUSPENDED,
    )
    assert await version(migrated_url) == before + 1
    assert (await service.change_tenant("acme", timezone="UTC")).timezone == "UTC"
    assert await service.change_tenant("acme", timezone="UTC") == msgspec.structs.replace(
        made, name="Acme Ltd", timezone="UTC", status=TenantStatus.SUSPENDED
    )
    assert await version(migrated_url) == before + 2


@pytest.mark.parametrize(
    "name", ["asia/kolkata", "../../etc/passwd", "", "localtime", "GMT+25", "Asia/Kolkata\n"]
)
async def test_a_zone_that_the_database_does_not_have_is_refused(service: TenantService, name: str) -> None:
    with pytest.raises(InvalidInput, match="is not the name of a time zone; write for example Europe/Berlin"):
        await service.create_tenant("acme", timezone=name)
    assert await service.list_tenants(1) == []


async def test_tenants_are_listed_in_pages(service: TenantService) -> None:
    for slug in ("globex", "acme", "initech"):
        await service.create_tenant(slug)
    assert [tenant.slug for tenant in await service.list_tenants(2, "acme")] == ["globex", "initech"]


async def test_a_bad_slug_reaches_no_database(service: TenantService) -> None:
    with pytest.raises(InvalidInput):
        await service.create_tenant("acme'; DROP TABLE tenant; --")
    assert await service.list_tenants(1) == []


async def test_projects_belong_to_one_tenant(service: TenantService) -> None:
    for slug in ("acme", "globex"):
        await service.create_tenant(slug)
    made = await service.create_project("acme", "web", "Web")
    assert (made.slug, made.name, made.created_at_us) == ("web", "Web", NOW)
    await service.create_project("globex", "web")
    assert await service.list_projects("acme", 10) == [made]
    with pytest.raises(Conflict, match="tenant acme has a project web already"):
        await service.create_project("acme", "web")
    with pytest.raises(NotFound, match="there is no tenant 'nobody'"):
        await service.create_project("nobody", "web")


async def test_a_key_is_kept_as_its_hash_alone(service: TenantService, migrated_url: str) -> None:
    await service.create_tenant("acme")
    created = await service.create_key("acme", "laptop", tags={"team": "search"}, expires_at_us=LATER)
    text = created.secret.text
    assert api_key.parse(text) == hashlib.sha256(text.encode()).digest()
    (row,) = await ask(migrated_url, "SELECT hash, prefix, api_key::text AS everything FROM api_key")
    assert row["hash"] == hashlib.sha256(text.encode()).digest()
    assert row["prefix"] == text[:11]
    assert text not in row["everything"]
    assert text[11:30] not in row["everything"]
    assert await service.list_keys("acme", 10) == [created.key]
    assert created.key.tags == {"team": "search"}
    assert (created.key.state(NOW), created.key.state(LATER)) == (KeyState.ACTIVE, KeyState.EXPIRED)


async def test_a_key_may_belong_to_a_project_of_its_own_tenant_only(service: TenantService) -> None:
    for slug in ("acme", "globex"):
        await service.create_tenant(slug)
    project = await service.create_project("acme", "web")
    created = await service.create_key("acme", "ci", project_slug="web")
    assert created.key.project_id == project.id
    with pytest.raises(NotFound, match="tenant globex has no project 'web'"):
        await service.create_key("globex", "ci", project_slug="web")


@pytest.mark.parametrize("by", ["prefix", "id"])
async def test_a_key_is_revoked_once_by_its_visible_part_or_its_id(database: Database, by: str) -> None:
    instants = iter(range(NOW, LATER, 1_000_000))
    service = TenantService(database, lambda: next(instants), id_maker(), random_bytes)
    await service.create_tenant("acme")
    key = (await service.create_key("acme", "ci")).key
    reference = key.prefix if by == "prefix" else str(key.id)
    revoked = await service.revoke_key("acme", reference)
    assert revoked.revoked_at_us is not None
    assert revoked.state(LATER) is KeyState.REVOKED
    assert await service.revoke_key("acme", reference) == revoked
    assert await service.list_keys("acme", 10) == [revoked]


async def test_revoking_names_no_key_of_another_tenant_and_repeats_no_secret(service: TenantService) -> None:
    for slug in ("acme", "globex"):
        await service.create_tenant(slug)
    created = await service.create_key("acme", "ci")
    for reference in (created.key.prefix, str(created.key.id)):
        with pytest.raises(NotFound, match="tenant globex has no key"):
            await service.revoke_key("globex", reference)
    with pytest.raises(InvalidInput) as refused:
        await service.revoke_key("acme", created.secret.text)
    assert created.secret.text[:20] not in str(refused.value)
    with pytest.raises(InvalidInput, match="'ci' is neither a key's visible part"):
        await service.revoke_key("acme", "ci")


async def test_two_keys_of_one_prefix_are_told_apart_by_id(service: TenantService, migrated_url: str) -> None:
    await service.create_tenant("acme")
    first, second = [(await service.create_key("acme", name)).key for name in ("a", "b")]
    await ask(migrated_url, "UPDATE api_key SET prefix = 'sk-AAAAAAAA'")
    with pytest.raises(Conflict, match="'sk-AAAAAAAA' names several keys of tenant acme; give the whole id"):
        await service.revoke_key("acme", "sk-AAAAAAAA")
    await service.revoke_key("acme", str(second.id))
    states = {key.id: key.state(LATER) for key in await service.list_keys("acme", 10)}
    assert states == {first.id: KeyState.ACTIVE, second.id: KeyState.REVOKED}


async def test_every_change_raises_the_directory_s_version(service: TenantService, migrated_url: str) -> None:
    before = await version(migrated_url)
    await service.create_tenant("acme")
    await service.create_project("acme", "web")
    key = (await service.create_key("acme", "ci")).key
    await service.revoke_key("acme", key.prefix)
    assert await version(migrated_url) == before + 4


async def test_what_is_stored_comes_back_by_id(service: TenantService, database: Database) -> None:
    tenant = await service.create_tenant("acme")
    project = await service.create_project("acme", "web")
    key = (await service.create_key("acme", "ci", project_slug="web")).key
    async with database.transaction() as connection:
        assert await store.tenant_by_id(connection, tenant.id) == tenant
        assert await store.project_by_id(connection, tenant.id, project.id) == project
        assert await store.key_by_id(connection, tenant.id, key.id) == key
        assert await store.tenant_by_id(connection, UUID(int=1)) is None
        assert await store.project_by_id(connection, tenant.id, UUID(int=1)) is None
        assert await store.key_by_id(connection, tenant.id, UUID(int=1)) is None
