"""Every statement on backends, models and deployments. Inserts answer whether the row was new, instead of raising."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, func, select, update
from sqlalchemy.dialects.postgresql import insert

from billing.clock import from_datetime, to_datetime
from billing.fleet.backend import Backend, Credential, EngineKind, OnHangUp
from billing.fleet.deployment import Deployment, Placement
from billing.fleet.model import Model, ReasoningTags
from billing.fleet.tables import backend, deployment, model
from billing.infra.postgres import Connection

_NAMES = "names of models"


async def insert_backend(connection: Connection, new: Backend, credential: Credential | None) -> bool:
    """Whether the backend was added; False when its name is taken."""
    statement = insert(backend).values(
        id=new.id,
        name=new.name,
        url=new.url,
        engine=new.engine.value,
        credential=credential.secret if credential else None,
        concurrency=new.concurrency,
        on_hang_up=new.on_hang_up.value,
        created_at=to_datetime(new.created_at_us),
    )
    return (await connection.execute(statement.on_conflict_do_nothing())).rowcount == 1


async def update_backend(connection: Connection, new: Backend, credential: Credential | None) -> Backend:
    """Change every part of the backend of ``new``'s name, which exists; its id and its first instant stay."""
    values = {
        "url": new.url,
        "engine": new.engine.value,
        "credential": credential.secret if credential else None,
        "concurrency": new.concurrency,
        "on_hang_up": new.on_hang_up.value,
        "archived_at": None,
    }
    await connection.execute(update(backend).where(backend.c.name == new.name).values(values))
    return (await backends_named(connection, [new.name]))[new.name]


async def change_backend(
    connection: Connection, backend_id: UUID, engine: EngineKind | None, on_hang_up: OnHangUp | None
) -> None:
    """Write what may change without the address, so that the credential can stay; None leaves a part as it is."""
    said = {"engine": engine, "on_hang_up": on_hang_up}
    values = {name: part.value for name, part in said.items() if part is not None}
    if values:
        await connection.execute(update(backend).where(backend.c.id == backend_id).values(values))


async def backends(connection: Connection, rows_max: int, after: str = "") -> list[Backend]:
    """Backends by name, at most ``rows_max``, those after a name."""
    statement = _backends().where(backend.c.name > after).order_by(backend.c.name).limit(rows_max)
    return [_backend_of(row) for row in await connection.execute(statement)]


async def backends_named(connection: Connection, names: Sequence[str]) -> dict[str, Backend]:
    """Backends of some names, by name."""
    rows = await connection.execute(_backends().where(backend.c.name.in_(names)))
    return {row.name: _backend_of(row) for row in rows}


async def backend_by_id(connection: Connection, backend_id: UUID) -> Backend | None:
    """The backend of an id."""
    row = (await connection.execute(_backends().where(backend.c.id == backend_id))).one_or_none()
    return _backend_of(row) if row else None


async def lock_names(connection: Connection) -> None:
    """Let nobody else take or free names until the transaction ends: aliases are unique across rows, which no index says.

    An advisory lock, because a table's own would ask for the right to update all of it.
    """
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(_NAMES, 0))))


async def archive_backend(connection: Connection, backend_id: UUID, at_us: int) -> None:
    """Set the instant from which a backend gets no request."""
    await connection.execute(
        update(backend).where(backend.c.id == backend_id).values(archived_at=to_datetime(at_us))
    )


async def archive_model(connection: Connection, model_id: UUID, at_us: int) -> None:
    """Set the instant from which a model is not answered."""
    await connection.execute(
        update(model).where(model.c.id == model_id).values(archived_at=to_datetime(at_us))
    )


async def insert_model(connection: Connection, new: Model) -> None:
    """Add a model whose names were checked under :func:`lock_names`."""
    await connection.execute(
        insert(model).values(
            id=new.id,
            name=new.name,
            aliases=list(new.aliases),
            created_at=to_datetime(new.created_at_us),
            **_text_of(new),
        )
    )


async def change_model(connection: Connection, changed: Model) -> None:
    """Write how a model's text is read."""
    await connection.execute(update(model).where(model.c.id == changed.id).values(_text_of(changed)))


async def insert_deployment(connection: Connection, new: Deployment) -> bool:
    """Whether the deployment was added; False when the model is deployed so already."""
    statement = insert(deployment).values(
        id=new.id,
        model_id=new.model_id,
        backend_id=new.backend_id,
        backend_model=new.backend_model,
        weight=new.weight,
        priority=new.priority,
        created_at=to_datetime(new.created_at_us),
    )
    return (await connection.execute(statement.on_conflict_do_nothing())).rowcount == 1


async def models(connection: Connection, rows_max: int | None = None, after: str = "") -> list[Model]:
    """Models by name, those after a name; all of them when no maximum is given, as the check of names needs."""
    statement = select(model).where(model.c.name > after).order_by(model.c.name).limit(rows_max)
    return [_model_of(row) for row in await connection.execute(statement)]


async def model_by_name(connection: Connection, name: str) -> Model | None:
    """The model of a public name."""
    row = (await connection.execute(select(model).where(model.c.name == name))).one_or_none()
    return _model_of(row) if row else None


async def placements(connection: Connection, model_ids: Sequence[UUID]) -> list[Placement]:
    """Where some models are answered, in the order in which their backends are tried."""
    columns = (
        model.c.name.label("model"),
        backend.c.name.label("backend"),
        deployment.c.backend_model,
        deployment.c.weight,
        deployment.c.priority,
    )
    statement = (
        select(*columns)
        .join_from(deployment, model, deployment.c.model_id == model.c.id)
        .join(backend, deployment.c.backend_id == backend.c.id)
        .where(deployment.c.model_id.in_(model_ids), deployment.c.archived_at.is_(None))
        .order_by(model.c.name, deployment.c.priority, deployment.c.weight.desc(), backend.c.name)
    )
    return [Placement(**row) for row in (await connection.execute(statement)).mappings()]


def _backends() -> Select[Any]:
    """Every column but the credential, which only the directory reads."""
    shown = [column for column in backend.c if column.name not in {"credential", "version"}]
    return select(*shown, backend.c.credential.is_not(None).label("has_credential"))


def _text_of(of: Model) -> dict[str, str | int | None]:
    """The columns that say how a model's text is read, and how long it may become."""
    tags = of.reasoning_tags
    return {
        "reasoning_start": tags.start if tags else None,
        "reasoning_end": tags.end if tags else None,
        "tokenizer": of.tokenizer,
        "context_tokens": of.context_tokens,
        "output_cap": of.output_cap,
    }


def _instant(moment: datetime | None) -> int | None:
    return None if moment is None else from_datetime(moment)


def _backend_of(row: Row[Any]) -> Backend:
    return Backend(
        id=row.id,
        name=row.name,
        url=row.url,
        engine=EngineKind(row.engine),
        has_credential=row.has_credential,
        created_at_us=from_datetime(row.created_at),
        concurrency=row.concurrency,
        archived_at_us=_instant(row.archived_at),
        on_hang_up=OnHangUp(row.on_hang_up),
    )


def _model_of(row: Row[Any]) -> Model:
    return Model(
        id=row.id,
        name=row.name,
        aliases=tuple(row.aliases),
        created_at_us=from_datetime(row.created_at),
        archived_at_us=_instant(row.archived_at),
        reasoning_tags=_tags(row.reasoning_start, row.reasoning_end),
        tokenizer=row.tokenizer,
        context_tokens=row.context_tokens,
        output_cap=row.output_cap,
    )


def _tags(start: str | None, end: str | None) -> ReasoningTags | None:
    return None if start is None or end is None else ReasoningTags(start, end)
