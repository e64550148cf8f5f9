"""The directory as one value in the memory of a gateway worker: built from changes, asked by key hash and model name.

A gateway applies "changes since version v" twice a second (design.md §6); the whole is also kept on disk, so that a
worker which starts during an outage of Postgres still knows its callers.
"""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import msgspec

from billing.directory.caller import ApiKey, Backend, Caller, Deployment, Model, Project, Target, Tenant
from billing.directory.prices import PlanHead, PlanVersion, Prices, Subscribed
from billing.errors import Forbidden, NotFound, Unauthenticated
from billing.limits.limit import Limit

FORMAT = 2
FORMAT_WITHOUT_PLANS = 1
"""Still read: all of it is true, but the plans are not in it."""
NAME_SHOWN_MAX = 200
"""Characters of a model's name that an error repeats."""
CALLERS_MAX = 50_000
"""Pairs of a key and a model whose limits are remembered together; beyond them they are gathered anew."""


class Changes(msgspec.Struct, frozen=True):
    """Rows that changed since a version, and the version they bring the directory to."""

    version: int = 0
    tenants: tuple[Tenant, ...] = ()
    projects: tuple[Project, ...] = ()
    keys: tuple[ApiKey, ...] = ()
    backends: tuple[Backend, ...] = ()
    models: tuple[Model, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    limits: tuple[Limit, ...] = ()
    plans: tuple[PlanHead, ...] = ()
    plan_versions: tuple[PlanVersion, ...] = ()
    subscriptions: tuple[Subscribed, ...] = ()
    format: int = FORMAT

    @property
    def empty(self) -> bool:
        """Whether nothing changed."""
        return not (
            self.tenants
            or self.projects
            or self.keys
            or self.backends
            or self.models
            or self.deployments
            or self.limits
            or self.priced
        )

    @property
    def priced(self) -> bool:
        """Whether anything of what prices a tenant's usage changed."""
        return bool(self.plans or self.plan_versions or self.subscriptions)


class Snapshot:
    """Everything a gateway must know of callers and models, as of one version."""

    __slots__ = (
        "_backends",
        "_deployments",
        "_keys",
        "_limits",
        "_limits_of_callers",
        "_models",
        "_projects",
        "_targets",
        "_tenants",
        "by_name",
        "prices",
        "version",
    )

    def __init__(self) -> None:
        self.version = 0
        self._tenants: dict[UUID, Tenant] = {}
        self._projects: dict[UUID, Project] = {}
        self._keys: dict[str, ApiKey] = {}
        self._backends: dict[UUID, Backend] = {}
        self._models: dict[UUID, Model] = {}
        self._deployments: dict[UUID, Deployment] = {}
        self.by_name: dict[str, Model] = {}
        self._targets: dict[UUID, tuple[Target, ...]] = {}
        self._limits: dict[UUID, dict[UUID, Limit]] = {}
        self._limits_of_callers: dict[tuple[UUID, UUID | None, UUID, str], tuple[Limit, ...]] = {}
        self.prices = Prices()

    def __repr__(self) -> str:
        return f"<Snapshot v{self.version} {len(self._tenants)} tenants, {len(self._keys)} keys, {len(self._models)} models>"

    def apply(self, changes: Changes) -> None:
        """Take changed rows in and move to their version; rows are whole, so applying twice changes nothing."""
        if changes.version < self.version:
            return
        self._tenants.update(_by_id(changes.tenants))
        self._projects.update(_by_id(changes.projects))
        self._keys.update({key.hash: key for key in changes.keys})
        self._backends.update(_by_id(changes.backends))
        self._models.update(_by_id(changes.models))
        self._deployments.update(_by_id(changes.deployments))
        self.version = max(self.version, changes.version)
        if changes.models or changes.deployments or changes.backends:
            self._index_models()
        if changes.limits:
            self._index_limits(changes.limits)
        if changes.priced:
            self.prices.apply(changes.plans, changes.plan_versions, changes.subscriptions)

    def everything(self) -> Changes:
        """The whole as changes since nothing, for the copy on disk."""
        plans, plan_versions, subscriptions = self.prices.rows()
        return Changes(
            version=self.version,
            tenants=tuple(self._tenants.values()),
            projects=tuple(self._projects.values()),
            keys=tuple(self._keys.values()),
            backends=tuple(self._backends.values()),
            models=tuple(self._models.values()),
            deployments=tuple(self._deployments.values()),
            limits=tuple(limit for limits in self._limits.values() for limit in limits.values()),
            plans=plans,
            plan_versions=plan_versions,
            subscriptions=subscriptions,
        )

    def caller(self, key_hash: str, now_us: int) -> Caller:
        """Who a key stands for; raises ``Unauthenticated`` or, for a suspended tenant, ``Forbidden``."""
        key = self._keys.get(key_hash)
        if key is None:
            raise Unauthenticated("incorrect API key provided")
        if key.revoked:
            raise Unauthenticated("this API key has been revoked")
        if key.expires_us is not None and key.expires_us <= now_us:
            raise Unauthenticated("this API key has expired")
        tenant = self._tenants.get(key.tenant_id)
        if tenant is None:
            raise Unauthenticated("incorrect API key provided")
        if tenant.status != "active":
            raise Forbidden(f"tenant {tenant.slug} is {tenant.status}; ask your operator")
        project = self._projects.get(key.project_id) if key.project_id else None
        if key.project_id is not None and (project is None or project.archived):
            raise Forbidden("the project of this API key is archived; ask your operator")
        return Caller(tenant.id, tenant.slug, key.project_id, key.id, key.tags)

    def model(self, name: str) -> Model:
        """The model of a name or alias; raises ``NotFound``."""
        model = self.by_name.get(name)
        if model is None:
            raise NotFound(
                f"The model `{name[:NAME_SHOWN_MAX]}` does not exist or you do not have access to it.",
                "model",
            )
        return model

    def targets(self, model: Model) -> tuple[Target, ...]:
        """Where a model can be asked for, best priority first; empty when nothing serves it."""
        return self._targets.get(model.id, ())

    def backend_name(self, backend_id: UUID | None) -> str:
        """What operators call a backend; ``unknown`` for one that is not known."""
        backend = self._backends.get(backend_id) if backend_id is not None else None
        return "unknown" if backend is None else backend.name

    def limits(self, caller: Caller, model_name: str) -> tuple[Limit, ...]:
        """The limits that count a caller's request for a model, by its public name and not by an alias.

        Those of the tenant, of the key's project and of the key, for this model or for all; widest first.
        """
        if caller.tenant_id not in self._limits:
            return ()
        asked = (caller.tenant_id, caller.project_id, caller.key_id, model_name)
        found = self._limits_of_callers.get(asked)
        if found is None:
            found = self._gather_limits(caller, model_name)
            if len(self._limits_of_callers) >= CALLERS_MAX:
                self._limits_of_callers.clear()
            self._limits_of_callers[asked] = found
        return found

    def limits_of(self, caller: Caller) -> tuple[Limit, ...]:
        """Every limit that may count a caller's requests, whatever the model; widest first."""
        own = self._limits.get(caller.tenant_id, {})
        return tuple(sorted((each for each in own.values() if _counts(each, caller)), key=_breadth))

    def models(self) -> list[Model]:
        """Models that something serves, by name."""
        return sorted(
            (model for model in set(self.by_name.values()) if self._targets.get(model.id)),
            key=lambda model: model.name,
        )

    def backends(self) -> list[Backend]:
        """Backends in use."""
        return [backend for backend in self._backends.values() if not backend.archived]

    def _index_models(self) -> None:
        live = [model for model in self._models.values() if not model.archived]
        self.by_name = {alias: model for model in live for alias in model.aliases} | {
            model.name: model for model in live
        }
        targets: dict[UUID, list[Target]] = {}
        for deployment in sorted(
            self._deployments.values(), key=lambda deployment: (deployment.priority, deployment.id)
        ):
            backend = self._backends.get(deployment.backend_id)
            if backend is not None and not backend.archived and not deployment.archived:
                targets.setdefault(deployment.model_id, []).append(Target(deployment, backend))
        self._targets = {model_id: tuple(places) for model_id, places in targets.items()}

    def _index_limits(self, rows: Iterable[Limit]) -> None:
        for row in rows:
            own = self._limits.setdefault(row.tenant_id, {})
            if row.archived:
                own.pop(row.id, None)
            else:
                own[row.id] = row
            if not own:
                del self._limits[row.tenant_id]
        self._limits_of_callers.clear()

    def _gather_limits(self, caller: Caller, model_name: str) -> tuple[Limit, ...]:
        counting = (
            limit
            for limit in self._limits[caller.tenant_id].values()
            if _counts(limit, caller) and limit.model in {None, model_name}
        )
        return tuple(sorted(counting, key=_breadth))


def _counts(limit: Limit, caller: Caller) -> bool:
    return limit.project_id in {None, caller.project_id} and limit.key_id in {None, caller.key_id}


def _breadth(limit: Limit) -> tuple[bool, bool, UUID]:
    """Tenant before project before key, in a fixed order."""
    return limit.key_id is not None, limit.project_id is not None, limit.id


def _by_id(rows: Iterable[Any]) -> dict[UUID, Any]:
    return {row.id: row for row in rows}


encode = msgspec.json.Encoder().encode
"""Bytes of changes, as kept on disk."""


def decode(data: bytes) -> Changes:
    """Changes of their bytes; raises ``ValueError`` when they are of another format or broken.

    Those of a program that knew no plans bring the directory to version 0: what they lack comes with the next poll.
    """
    try:
        changes = msgspec.json.decode(data, type=Changes)
    except msgspec.DecodeError as fault:
        raise ValueError(f"not a directory snapshot: {fault}") from fault
    if changes.format == FORMAT_WITHOUT_PLANS:
        return msgspec.structs.replace(changes, version=0, format=FORMAT)
    if changes.format != FORMAT:
        raise ValueError(f"directory snapshot of format {changes.format}, this program reads {FORMAT}")
    return changes
