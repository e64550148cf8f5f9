"""Backends, models and deployments: load, decide, save, in one transaction each."""

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType

from billing.clock import Clock
from billing.errors import Conflict, InvalidInput, NotFound
from billing.fleet import backend as backends
from billing.fleet import deployment as deployments
from billing.fleet import store
from billing.fleet.backend import Backend, Credential, OnHangUp
from billing.fleet.deployment import DEPLOYMENTS_MAX, Deployment, DeploymentRequest, Placement
from billing.fleet.model import (
    Model,
    ReasoningTags,
    check_names,
    check_tags,
    check_tokenizer,
    check_tokens,
    check_unique,
)
from billing.ids import NewId
from billing.infra.postgres import Connection, Database


class ListedModel(msgspec.Struct, frozen=True):
    """A model with where it is answered; without placements nobody can be served."""

    model: Model
    placements: tuple[Placement, ...]


class FleetService:
    """What answers. Raises ``NotFound`` naming what does not exist, ``Conflict`` on what exists already."""

    def __init__(self, database: Database, clock: Clock, new_id: NewId) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id

    def __repr__(self) -> str:
        return f"<FleetService {self._database!r}>"

    async def add_backend(
        self,
        name: str,
        url: str,
        engine: str,
        *,
        credential: str | None = None,
        concurrency: int | None = None,
        on_hang_up: str = OnHangUp.ABORT,
    ) -> Backend:
        """A new model server; nothing is sent to it here."""
        new, secret = self._backend(name, url, engine, credential, concurrency, on_hang_up)
        async with self._database.transaction() as connection:
            if not await store.insert_backend(connection, new, secret):
                raise Conflict(f"backend {name} exists already")
        return new

    async def put_backend(
        self,
        name: str,
        url: str,
        engine: str,
        *,
        credential: str | None = None,
        concurrency: int | None = None,
        on_hang_up: str = OnHangUp.ABORT,
    ) -> Backend:
        """The model server of a name as it is now: added, or changed in every part and kept under its id."""
        new, secret = self._backend(name, url, engine, credential, concurrency, on_hang_up)
        async with self._database.transaction() as connection:
            if not await store.insert_backend(connection, new, secret):
                return await store.update_backend(connection, new, secret)
        return new

    def _backend(
        self,
        name: str,
        url: str,
        engine: str,
        credential: str | None,
        concurrency: int | None,
        on_hang_up: str,
    ) -> tuple[Backend, Credential | None]:
        secret = backends.check_credential(credential) if credential is not None else None
        new = Backend(
            id=self._new_id(),
            name=backends.check_name(name),
            url=backends.check_url(url),
            engine=backends.check_engine(engine),
            has_credential=secret is not None,
            created_at_us=self._clock(),
            concurrency=backends.check_concurrency(concurrency),
            on_hang_up=backends.check_on_hang_up(on_hang_up),
        )
        return new, secret

    async def change_backend(
        self, name: str, *, engine: str | None = None, on_hang_up: str | None = None
    ) -> Backend:
        """Change parts of a backend; None leaves a part as it is.

        Not its address, because a credential that stays may go nowhere else: ``put_backend`` says both anew.
        """
        kind = None if engine is None else backends.check_engine(engine)
        hang_up = None if on_hang_up is None else backends.check_on_hang_up(on_hang_up)
        async with self._database.transaction() as connection:
            found = await _backend(connection, name)
            await store.change_backend(connection, found.id, kind, hang_up)
            return await _backend(connection, name)

    async def list_backends(self, rows_max: int, after: str = "") -> list[Backend]:
        """Backends by name, those after a name."""
        async with self._database.transaction() as connection:
            return await store.backends(connection, rows_max, after)

    async def backend(self, name: str) -> Backend:
        """The backend of a name."""
        async with self._database.transaction() as connection:
            return await _backend(connection, name)

    async def archive_backend(self, name: str) -> Backend:
        """Send no more requests to a backend; ``put_backend`` takes it back into service.

        A backend that is archived stays so since the first time. Gateways obey within a second (design.md §6).
        """
        async with self._database.transaction() as connection:
            found = await _backend(connection, name)
            if found.archived_at_us is not None:
                return found
            now_us = self._clock()
            await store.archive_backend(connection, found.id, now_us)
        return msgspec.structs.replace(found, archived_at_us=now_us)

    async def add_model(
        self,
        name: str,
        requests: Sequence[DeploymentRequest],
        aliases: Sequence[str] = (),
        *,
        reasoning_tags: ReasoningTags | None = None,
        tokenizer: str | None = None,
        context_tokens: int | None = None,
        output_cap: int | None = None,
    ) -> ListedModel:
        """A new model with its deployments, at least one. Its name and aliases answer to no other model."""
        names = check_names(name, tuple(aliases))
        _check_requests(requests)
        new = Model(
            id=self._new_id(),
            name=name,
            aliases=tuple(aliases),
            created_at_us=self._clock(),
            reasoning_tags=None if reasoning_tags is None else check_tags(reasoning_tags),
            tokenizer=None if tokenizer is None else check_tokenizer(tokenizer),
            context_tokens=check_tokens(context_tokens, "context_tokens"),
            output_cap=check_tokens(output_cap, "output_cap"),
        )
        async with self._database.transaction() as connection:
            await store.lock_names(connection)
            check_unique(names, await store.models(connection))
            await store.insert_model(connection, new)
            await self._deploy(connection, new, requests)
            return await _listed(connection, new)

    async def change_model(
        self,
        name: str,
        *,
        reasoning_tags: ReasoningTags | UnsetType | None = UNSET,
        tokenizer: str | UnsetType | None = UNSET,
        context_tokens: int | UnsetType | None = UNSET,
        output_cap: int | UnsetType | None = UNSET,
    ) -> ListedModel:
        """Change how a model's text is read and how long it may become; ``UNSET`` leaves a part as it is, None takes it away."""
        said: dict[str, object] = {}
        if reasoning_tags is not UNSET:
            said["reasoning_tags"] = reasoning_tags and check_tags(reasoning_tags)
        if tokenizer is not UNSET:
            said["tokenizer"] = None if tokenizer is None else check_tokenizer(tokenizer)
        for name_, count in (("context_tokens", context_tokens), ("output_cap", output_cap)):
            if count is not UNSET:
                said[name_] = check_tokens(count, name_)
        async with self._database.transaction() as connection:
            await store.lock_names(connection)
            changed = msgspec.structs.replace(await _model(connection, name), **said)
            await store.change_model(connection, changed)
            return await _listed(connection, changed)

    async def deploy(self, model_name: str, request: DeploymentRequest) -> ListedModel:
        """One more backend for a model."""
        _check_requests([request])
        async with self._database.transaction() as connection:
            found = await _model(connection, model_name)
            if found.archived_at_us is not None:
                raise Conflict(f"model {model_name} is archived: it is answered nowhere any more")
            await self._deploy(connection, found, [request])
            return await _listed(connection, found)

    async def archive_model(self, name: str) -> ListedModel:
        """Answer a model no more. Its name and aliases stay taken: its usage is recorded and priced under them.

        A model that is archived stays so since the first time. Gateways obey within a second (design.md §6).
        """
        async with self._database.transaction() as connection:
            await store.lock_names(connection)
            found = await _model(connection, name)
            if found.archived_at_us is None:
                now_us = self._clock()
                await store.archive_model(connection, found.id, now_us)
                found = msgspec.structs.replace(found, archived_at_us=now_us)
            return await _listed(connection, found)

    async def model(self, name: str) -> ListedModel:
        """The model of a public name, with where it is answered."""
        async with self._database.transaction() as connection:
            return await _listed(connection, await _model(connection, name))

    async def list_models(self, rows_max: int, after: str = "") -> list[ListedModel]:
        """Models by name, those after a name, each with where it is answered."""
        async with self._database.transaction() as connection:
            found = await store.models(connection, rows_max, after)
            placed = await store.placements(connection, [model.id for model in found])
        by_model: dict[str, list[Placement]] = {model.name: [] for model in found}
        for placement in placed:
            by_model[placement.model].append(placement)
        return [ListedModel(model, tuple(by_model[model.name])) for model in found]

    async def _deploy(
        self, connection: Connection, model: Model, requests: Sequence[DeploymentRequest]
    ) -> None:
        known = await store.backends_named(connection, [request.backend for request in requests])
        for request in requests:
            if request.backend not in known:
                raise NotFound(f"there is no backend {_shown(request.backend)}")
            new = Deployment(
                id=self._new_id(),
                model_id=model.id,
                backend_id=known[request.backend].id,
                backend_model=request.backend_model or model.name,
                created_at_us=self._clock(),
                weight=request.weight,
                priority=request.priority,
            )
            if not await store.insert_deployment(connection, new):
                raise Conflict(
                    f"model {model.name} is deployed on {request.backend} as {new.backend_model} already"
                )


def _shown(text: str, length_max: int = 80) -> str:
    """What was sent, quoted and cut to a length that fits a message."""
    return repr(text) if len(text) <= length_max else f"{text[:length_max]!r}…"


def _check_requests(requests: Sequence[DeploymentRequest]) -> None:
    if not 1 <= len(requests) <= DEPLOYMENTS_MAX:
        raise InvalidInput(
            f"deployments: 1 to {DEPLOYMENTS_MAX} backends, got {len(requests)}", "deployments"
        )
    for index, request in enumerate(requests):
        deployments.check(request, f"deployments[{index}]")


async def _backend(connection: Connection, name: str) -> Backend:
    found = (await store.backends_named(connection, [name])).get(name)
    if found is None:
        raise NotFound(f"there is no backend {_shown(name)}")
    return found


async def _model(connection: Connection, name: str) -> Model:
    found = await store.model_by_name(connection, name)
    if found is None:
        raise NotFound(f"there is no model {_shown(name)}")
    return found


async def _listed(connection: Connection, model: Model) -> ListedModel:
    return ListedModel(model, tuple(await store.placements(connection, [model.id])))
