"""``/api/v1/tenants/{tenant}/projects``: parts of a tenant's usage that are looked at on their own."""

from uuid import UUID

import msgspec
from litestar import Controller, get, post
from litestar.params import JSONBody

from billing.admin.describe import described
from billing.admin.moment import written, written_or_none
from billing.admin.page import LIMIT_DEFAULT, After, Limit, Page, page, read
from billing.admin.parameters import ProjectSlug, TenantSlug
from billing.admin.services import Services
from billing.tenants.project import Project


class ProjectDocument(msgspec.Struct, frozen=True):
    """A project of a tenant; ``slug`` is unique within the tenant."""

    id: UUID
    tenant_id: UUID
    slug: str
    name: str
    created_at: str
    archived_at: str | None


class NewProject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A project to be made; its name is its slug unless said."""

    slug: str
    name: str | None = None


PROJECT = ProjectDocument(
    id=UUID("019ab3f4-8c00-7000-8000-00000000000b"),
    tenant_id=UUID("019ab3f4-8c00-7000-8000-00000000000a"),
    slug="search",
    name="Search",
    created_at="2026-11-24T10:00:00Z",
    archived_at=None,
)
ARCHIVED = msgspec.structs.replace(PROJECT, archived_at="2026-11-25T10:00:00Z")


class ProjectController(Controller):
    """Projects."""

    path = "/tenants/{tenant:str}/projects"
    tags = ("Projects",)

    @get(**described("List projects", Page([PROJECT], None), refusals=(404,)))
    async def list_projects(
        self, services: Services, tenant: TenantSlug, limit: Limit = LIMIT_DEFAULT, after: After = None
    ) -> Page[ProjectDocument]:
        """A tenant's projects by slug, archived ones too."""
        (slug,) = read(after, 1) or ("",)
        found = await services.tenants.list_projects(tenant, limit + 1, slug)
        return page(found, limit, document, lambda project: (project.slug,))

    @post(**described("Make a project", PROJECT, sent=NewProject("search", "Search"), refusals=(404, 409)))
    async def create_project(
        self, services: Services, tenant: TenantSlug, data: JSONBody[NewProject]
    ) -> ProjectDocument:
        """A new project of a tenant. Its slug never changes."""
        return document(await services.tenants.create_project(tenant, data.slug, data.name))

    @post(
        "/{project:str}/archive",
        status_code=200,
        **described("Archive a project", ARCHIVED, refusals=(404,)),
    )
    async def archive_project(
        self, services: Services, tenant: TenantSlug, project: ProjectSlug
    ) -> ProjectDocument:
        """Close the door to every key of a project, within a second. Its usage stays; its slug stays taken."""
        return document(await services.tenants.archive_project(tenant, project))


def document(project: Project) -> ProjectDocument:
    """A project as the API shows it."""
    return ProjectDocument(
        id=project.id,
        tenant_id=project.tenant_id,
        slug=project.slug,
        name=project.name,
        created_at=written(project.created_at_us),
        archived_at=written_or_none(project.archived_at_us),
    )
