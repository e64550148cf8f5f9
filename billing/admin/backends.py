"""``/api/v1/backends``: model servers. A credential goes in and never comes out."""

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Controller, get, patch, post, put
from litestar.params import JSONBody

from billing.admin.describe import described
from billing.admin.moment import written, written_or_none
from billing.admin.page import LIMIT_DEFAULT, After, Limit, Page, page, read
from billing.admin.parameters import BackendName
from billing.admin.services import Services
from billing.fleet.backend import Backend, EngineKind, OnHangUp


class BackendDocument(msgspec.Struct, frozen=True):
    """A model server. Whether it has a credential is shown, the credential is not."""

    id: UUID
    name: str
    url: str
    engine: EngineKind
    has_credential: bool
    concurrency: int | None
    on_hang_up: OnHangUp
    """What becomes of a request whose client hangs up before its whole reply is there; a stream's is always stopped."""
    created_at: str
    archived_at: str | None


class BackendChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model server as it shall be, whole: what is not said is taken away, the credential too."""

    url: str
    engine: EngineKind
    credential: Annotated[str, msgspec.Meta(extra_json_schema={"writeOnly": True})] | None = None
    concurrency: int | None = None
    on_hang_up: OnHangUp = OnHangUp.ABORT


class BackendParts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What becomes different; what is not said stays, the credential too."""

    engine: EngineKind | None = None
    on_hang_up: OnHangUp | None = None


BACKEND = BackendDocument(
    id=UUID("019ab3f4-8c00-7000-8000-00000000000d"),
    name="gpu-1",
    url="http://10.0.0.7:8000",
    engine=EngineKind.VLLM,
    has_credential=True,
    concurrency=64,
    on_hang_up=OnHangUp.STREAM_AND_ASSEMBLE,
    created_at="2026-11-24T10:00:00Z",
    archived_at=None,
)
SENT = BackendChange(
    "http://10.0.0.7:8000", EngineKind.VLLM, "key-of-gpu-1", 64, OnHangUp.STREAM_AND_ASSEMBLE
)
ARCHIVED = msgspec.structs.replace(BACKEND, archived_at="2026-11-25T10:00:00Z")


class BackendController(Controller):
    """Backends."""

    path = "/backends"
    tags = ("Backends",)

    @get(**described("List backends", Page([BACKEND], None)))
    async def list_backends(
        self, services: Services, limit: Limit = LIMIT_DEFAULT, after: After = None
    ) -> Page[BackendDocument]:
        """Model servers by name, archived ones too."""
        (name,) = read(after, 1) or ("",)
        found = await services.fleet.list_backends(limit + 1, name)
        return page(found, limit, document, lambda backend: (backend.name,))

    @put("/{backend:str}", **described("Put a backend", BACKEND, sent=SENT))
    async def put_backend(
        self, services: Services, backend: BackendName, data: JSONBody[BackendChange]
    ) -> BackendDocument:
        """Add the model server of a name, or change it in every part; an archived one is back in service.

        `on_hang_up` says what becomes of a request whose client wants a whole reply and hangs up before it is there:
        with `abort` the engine is told, and only what is known by then is billed, usually nothing; with `drain` it
        finishes and all is billed; with `stream_and_assemble` it is asked for a stream from which the gateway assembles
        the reply, so that it stops at once and the count is exact.
        """
        return document(
            await services.fleet.put_backend(
                backend,
                data.url,
                data.engine,
                credential=data.credential,
                concurrency=data.concurrency,
                on_hang_up=data.on_hang_up,
            )
        )

    @patch(
        "/{backend:str}",
        **described(
            "Change a backend",
            BACKEND,
            sent=BackendParts(on_hang_up=OnHangUp.STREAM_AND_ASSEMBLE),
            refusals=(404,),
        ),
    )
    async def change_backend(
        self, services: Services, backend: BackendName, data: JSONBody[BackendParts]
    ) -> BackendDocument:
        """Another engine kind, or another way with those who hang up; from the next requests on, within a second.

        Its address changes by `PUT` only, which says the credential anew: one that stays must not go elsewhere.
        """
        return document(
            await services.fleet.change_backend(backend, engine=data.engine, on_hang_up=data.on_hang_up)
        )

    @post(
        "/{backend:str}/archive",
        status_code=200,
        **described("Archive a backend", ARCHIVED, refusals=(404,)),
    )
    async def archive_backend(self, services: Services, backend: BackendName) -> BackendDocument:
        """Send it no more requests, within a second. Those in flight end as they would."""
        return document(await services.fleet.archive_backend(backend))


def document(backend: Backend) -> BackendDocument:
    """A backend as the API shows it."""
    return BackendDocument(
        id=backend.id,
        name=backend.name,
        url=backend.url,
        engine=backend.engine,
        has_credential=backend.has_credential,
        concurrency=backend.concurrency,
        on_hang_up=backend.on_hang_up,
        created_at=written(backend.created_at_us),
        archived_at=written_or_none(backend.archived_at_us),
    )
