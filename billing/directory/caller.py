"""Who is calling and where the call may go: what the data plane knows of a tenant, as frozen values."""

from uuid import UUID

import msgspec


class Tenant(msgspec.Struct, frozen=True):
    """Who is billed."""

    id: UUID
    slug: str
    status: str
    version: int


class Project(msgspec.Struct, frozen=True):
    """A part of a tenant."""

    id: UUID
    tenant_id: UUID
    archived: bool
    version: int


class ApiKey(msgspec.Struct, frozen=True):
    """One key, known by the SHA-256 of its text (hex)."""

    id: UUID
    tenant_id: UUID
    project_id: UUID | None
    hash: str
    tags: dict[str, str]
    expires_us: int | None
    revoked: bool
    version: int


class Backend(msgspec.Struct, frozen=True):
    """One model server. ``credential`` is sent to it as a bearer token and shown nowhere."""

    id: UUID
    name: str
    url: str
    engine: str
    credential: str | None
    concurrency: int | None
    archived: bool
    version: int
    on_hang_up: str = "abort"
    """What becomes of a request whose client hangs up before its whole reply is there (``billing.fleet.backend``)."""

    def __repr__(self) -> str:
        return f"<Backend {self.name} {self.engine} {self.url}>"


class Model(msgspec.Struct, frozen=True):
    """A public model name with its aliases."""

    id: UUID
    name: str
    aliases: tuple[str, ...]
    archived: bool
    created_us: int
    version: int
    reasoning_start: str | None = None
    """The tag before reasoning that the model writes into its answer, and the one behind it; both or none."""
    reasoning_end: str | None = None
    tokenizer: str | None = None
    """The path of a ``tokenizer.json`` on this host, or the name of a vocabulary."""
    context_tokens: int | None = None
    """What prompt and answer hold together."""
    output_cap: int | None = None
    """The most tokens of an answer."""


class Deployment(msgspec.Struct, frozen=True):
    """A model at a backend, under the backend's own name for it."""

    id: UUID
    model_id: UUID
    backend_id: UUID
    backend_model: str
    weight: int
    priority: int
    archived: bool
    version: int


class Caller(msgspec.Struct, frozen=True):
    """The caller, whole: what a valid key stands for."""

    tenant_id: UUID
    tenant: str
    project_id: UUID | None
    key_id: UUID
    tags: dict[str, str]


class Target(msgspec.Struct, frozen=True):
    """One place where a model can be asked for."""

    deployment: Deployment
    backend: Backend
