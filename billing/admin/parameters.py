"""What stands in addresses: the names of things, and what lists are narrowed by."""

from typing import Annotated

from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter


def _example(value: str) -> list[Example]:
    """What the documentation's page fills in; ids and keys have none, because they differ on each server."""
    return [Example(value=value)]


TenantSlug = Annotated[
    str, PathParameter(description="The tenant's slug, for example `acme`.", examples=_example("acme"))
]
ProjectSlug = Annotated[
    str, PathParameter(description="The project's slug, for example `search`.", examples=_example("search"))
]
KeyName = Annotated[
    str,
    PathParameter(
        description="The key's visible part (`sk-` and 8 characters), or its id. A list of keys says both."
    ),
]
PlanName = Annotated[
    str, PathParameter(description="The plan's name, for example `standard`.", examples=_example("standard"))
]
BackendName = Annotated[
    str, PathParameter(description="The backend's name, for example `gpu-1`.", examples=_example("gpu-1"))
]
InvoiceNumber = Annotated[
    str,
    PathParameter(
        description="The invoice's number, for example `INV-000001`.", examples=_example("INV-000001")
    ),
]
LimitId = Annotated[str, PathParameter(description="The limit's id. A list of limits says it.")]
UsageId = Annotated[
    str,
    PathParameter(
        description="The usage id, which a reply carries as `x-request-id`. A list of records says it."
    ),
]

OfTenant = Annotated[str | None, QueryParameter(description="Of one tenant, by its slug.")]
OfModel = Annotated[str | None, QueryParameter(description="For one model, by its public name.")]
OfSubject = Annotated[
    str | None, QueryParameter(description="About one kind of thing, for example `api_key`.")
]
OfActor = Annotated[str | None, QueryParameter(description="By one actor, for example `admin`.")]
InMonth = Annotated[
    str | None, QueryParameter(description="A month, for example `2026-11`; the present one unless said.")
]
OfMonth = Annotated[str | None, QueryParameter(description="Of one month, for example `2026-11`.")]
