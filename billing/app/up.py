"""`billing up`: everything for one machine with nothing installed, on loopback, until Ctrl-C.

Once the gateway answers it looks for model servers, takes in what it finds, and says how to send the first request.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec
import uvloop

from billing.app.machine import Machine, Phases, machine
from billing.app.ready import ANSWERS_PER_WORKER, INTERVAL_S, wait_until_ready
from billing.app.supervisor import POLL_INTERVAL_S, StopSignal
from billing.errors import BillingError, Conflict, Unavailable
from billing.fleet import client
from billing.fleet.backend import Backend, EngineKind
from billing.fleet.deployment import DeploymentRequest
from billing.fleet.discovery import USUAL_PORTS, Found
from billing.fleet.place import backend_name, place_of, public_name
from billing.fleet.service import FleetService, ListedModel
from billing.infra import log
from billing.infra.postgres import Database
from billing.infra.system import new_id, now_us, random_bytes, user_name
from billing.settings import Settings
from billing.tenants.service import TenantService
from billing.tokens.operation import Dialect, Operation

TENANT = "default"
KEY_NAME = "first"
NAMED_TIMEOUT_S = 2.0
"""For an address that somebody named, which may be far away or busy; a port of this machine has ``client.TIMEOUT_S``."""
SERVED_TIMEOUT_S = 5.0
ROWS_MAX = 10_000
NAMES_SHOWN_MAX = 5

BY_HAND = """No tenant yet: the first start that finds a model server makes one, with a key. By hand, in another terminal:
  billing backends add local --url http://127.0.0.1:8000 --engine vllm
  billing models add my-model --backend local
  billing tenants create acme
  billing keys create --tenant acme"""


class Looked(msgspec.Struct, frozen=True):
    """What looking at one address has brought: a server, none (``found`` None), or the reason why nothing is known."""

    url: str
    found: Found | None = None
    fault: str = ""


class Served(msgspec.Struct, frozen=True):
    """A model that can be asked for, as far as is known."""

    name: str
    embeds: bool = False
    chats: bool = True
    """Whether its engine speaks OpenAI's dialect; Triton only generates, in a dialect of its own."""


def main(
    settings: Settings,
    show: Callable[[str], None],
    backends: Sequence[str] = (),
    *,
    admin_token: str | None = None,
) -> None:
    """Run the machine until SIGTERM or SIGINT. ``show`` receives the lines meant for the operator.

    ``backends`` are the addresses of model servers; without any, the usual ports of this machine are looked at.
    ``admin_token`` is one that was made for this start, to be shown this once.
    """
    log.set_up(logging.WARNING)
    phases = Phases(show)
    stop = StopSignal()
    with machine(settings, phases) as running:
        asyncio.run(wait_until_ready(running.gateway_url, running.settings.gateway.workers))
        phases.done(
            f"gateway answers on {running.gateway_url}/v1 with {running.settings.gateway.workers} workers"
        )
        phases.done(sign_in(running, admin_token))
        uvloop.run(_welcome(running, backends, phases, show))
        show("Ctrl-C stops everything.")
        while not stop.received:
            time.sleep(POLL_INTERVAL_S)
            running.tick()
        show("stopping")


def sign_in(running: Machine, admin_token: str | None) -> str:
    """Where the page is, and a link that signs in with a token just made; a fragment never reaches a log."""
    if admin_token is None:
        return f"the page is on {running.control_url}, the admin API on {running.control_url}/api/docs"
    return (
        f"the page is on {running.control_url}/login#token={admin_token}\n"
        f"          admin token, shown this once: {admin_token}"
    )


async def _welcome(
    running: Machine, backends: Sequence[str], phases: Phases, show: Callable[[str], None]
) -> None:
    database = Database(running.settings.database_url or "", role="control", pool_size=1)
    try:
        acting = database.acting_as(f"up:{user_name()}")
        intake = Intake(FleetService(acting, now_us, new_id))
        for looked in await look_around(running.settings, backends):
            for line in await _taken(intake, looked, is_named=bool(backends)):
                phases.done(line)
        if not backends and not intake.has_found:
            ports = ", ".join(map(str, _ports(running.settings)))
            phases.done(
                f"nothing found on ports {ports}; start a model server and `billing up` again, or say --backend URL"
            )
        tenants = TenantService(acting, now_us, new_id, random_bytes)
        show(await _next_steps(running, tenants, await intake.best()))
    finally:
        await database.close()


def _ports(settings: Settings) -> list[int]:
    """The usual ports without those at which we listen ourselves."""
    own = {settings.gateway.port, settings.control.port}
    return [port for port in USUAL_PORTS if port not in own]


async def look_around(settings: Settings, backends: Sequence[str] = ()) -> list[Looked]:
    """Look at the addresses that were named, or at the usual ports, all at the same time."""
    if backends:
        return list(await asyncio.gather(*(_look_at(url, settings) for url in backends)))
    urls = [f"http://127.0.0.1:{port}" for port in _ports(settings)]
    return list(await asyncio.gather(*(_look(url, client.TIMEOUT_S) for url in urls)))


async def _look_at(url: str, settings: Settings) -> Looked:
    """Look at an address that somebody named."""
    place = place_of(url)
    own = {settings.gateway.port, settings.control.port}
    if place.host in {"127.0.0.1", settings.gateway.host} and place.port in own:
        return Looked(url, fault=f"{url} is this gateway itself")
    return await _look(url, NAMED_TIMEOUT_S)


async def _look(url: str, timeout_s: float) -> Looked:
    try:
        found = await client.look(url, timeout_s)
    except Unavailable as fault:
        return Looked(url, fault=str(fault))
    return Looked(url, found, "" if found else f"{url} answers, but it is no model server")


async def _taken(intake: "Intake", looked: Looked, *, is_named: bool) -> list[str]:
    """What to say about an address, after what is found there was taken in. Silence on a usual port is no news."""
    if looked.found is None:
        return [f"error: --backend: {looked.fault}"] if is_named else []
    try:
        return await intake.take(looked.url, looked.found)
    except BillingError as fault:
        # Up goes on: what one server's names break must not keep the others and the gateway from the operator.
        return [f"error: what answers on {looked.url} was not added: {fault}"]


class Intake:
    """Takes what is found into the fleet. Nothing that exists is changed, so every start may do it again."""

    def __init__(self, fleet: FleetService) -> None:
        self._fleet = fleet
        self._served: list[Served] = []
        self.has_found = False

    def __repr__(self) -> str:
        return f"<Intake {', '.join(served.name for served in self._served) or 'nothing yet'}>"

    async def best(self) -> Served | None:
        """The model for a first request: one that was found, rather for chat; else any that is answered somewhere."""
        for served in sorted(self._served, key=lambda each: (each.embeds, not each.chats)):
            return served
        for listed in await self._fleet.list_models(ROWS_MAX):
            if listed.placements and listed.model.archived_at_us is None:
                return Served(listed.model.name)
        return None

    async def take(self, url: str, found: Found) -> list[str]:
        """Add the backend and its models unless they exist; returns lines that say what was found and done.

        Raises ``Conflict`` when the backend's name belongs to another address.
        """
        known = await self._known(url)
        if known is not None:
            return await self._take_known(url, found, known)
        return _refusal(url) if found.engine is None else await self._take_new(url, found, found.engine)

    async def _take_new(self, url: str, found: Found, engine: EngineKind) -> list[str]:
        self.has_found = True
        said = _what(url, found)
        if found.needs_credential:
            return [said, *_by_hand(url, engine)]
        name = (await self._fleet.add_backend(backend_name(engine, url), url, engine)).name
        _, notes = await self._deploy(name, found)
        by_name = [] if found.models else [_by_name("it lists no models; add them by name", name)]
        return [f"{said}; added as backend {name}", *by_name, *notes]

    async def _take_known(self, url: str, found: Found, known: Backend) -> list[str]:
        self.has_found = True
        said = _what(url, found)
        if known.archived_at_us is not None:
            return [f"{said}; backend {known.name} is archived and stays so"]
        # What shows no kind of its own may still be what the operator says it is, behind a proxy for example.
        if found.engine not in {None, EngineKind.GENERIC, known.engine}:
            return [
                f"{said}; ATTENTION: backend {known.name} counts tokens there as {known.engine} does",
                f"  billing backends change {known.name} --engine {found.engine}",
            ]
        added, notes = await self._deploy(known.name, found)
        new = f", new: {_some(added)}" if added else ""
        return [f"{said}; it is backend {known.name}{new}", *_credential_notes(known, found), *notes]

    async def _known(self, url: str) -> Backend | None:
        backends = await self._fleet.list_backends(ROWS_MAX)
        same = [each for each in backends if place_of(each.url) == place_of(url)]
        return min(same, key=lambda each: each.archived_at_us is not None, default=None)

    async def _deploy(self, backend: str, found: Found) -> tuple[list[str], list[str]]:
        """Add the models that nobody answers yet; returns their names, and notes on those that were left alone."""
        owners = {
            name: listed for listed in await self._fleet.list_models(ROWS_MAX) for name in listed.model.names
        }
        added, notes = [], []
        for model in found.models:
            name = public_name(model)
            if name is None:
                notes.append(f"  {model!r} cannot be a public name: billing models add NAME --backend '{backend}={model}'")  # fmt: skip
            elif name not in owners:
                await self._fleet.add_model(name, [DeploymentRequest(backend, model)])
                added.append(name)
            elif owners[name].model.archived_at_us is not None:
                notes.append(f"  model {name} is archived and stays so")
                continue
            elif not _is_on(owners[name], backend):
                notes.append(f"  {name} is answered elsewhere already; here too: billing models deploy {name} --backend {backend}")  # fmt: skip
                continue
            if name is not None:
                public = owners[name].model.name if name in owners else name
                self._served.append(_served(public, model, found))
        return added, notes


def _served(public: str, model: str, found: Found) -> Served:
    chats = found.engine is None or (Dialect.OPENAI, Operation.CHAT) in found.engine.facts.serves
    return Served(public, model in found.embedding, chats)


def _is_on(listed: ListedModel, backend: str) -> bool:
    return any(placement.backend == backend for placement in listed.placements)


def _what(url: str, found: Found) -> str:
    names = f" ({_some(found.models)})" if found.models else ""
    return f"found {found.title} on {url}: {_counted(len(found.models))}{names}{_purpose(found)}"


def _counted(models: int) -> str:
    return f"{models} model{'' if models == 1 else 's'}"


def _purpose(found: Found) -> str:
    """What is said of models that are not for chat."""
    if not found.embedding:
        return ""
    whole = len(found.embedding) == len(found.models)
    return ", for embeddings" if whole else f", of which for embeddings: {_some(sorted(found.embedding))}"


def _some(names: Iterable[str]) -> str:
    chosen = list(names)
    more = len(chosen) - NAMES_SHOWN_MAX
    return ", ".join(chosen[:NAMES_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")


def _refusal(url: str) -> list[str]:
    """What is said of a server that lets nobody in; it may be anything."""
    return [
        f"something on {url} wants a credential; if it is a model server, put its API key into a file and add it:",
        f"  billing backends add NAME --url {url} --engine ENGINE --credential-file FILE",
    ]


def _credential_notes(known: Backend, found: Found) -> list[str]:
    if not found.needs_credential:
        return []
    if not known.has_credential:
        return [f"  ATTENTION: it wants a credential, which backend {known.name} has not"]
    return [] if found.models else [_by_name("add its models by name", known.name)]


def _by_name(why: str, backend: str) -> str:
    return f"  {why}: billing models add MODEL --backend {backend}"


def _by_hand(url: str, engine: EngineKind) -> list[str]:
    """The command that adds a server which wants a credential."""
    return [
        "  it wants a credential; put its API key into a file and add it:",
        f"  billing backends add {backend_name(engine, url)} --url {url} --engine {engine} --credential-file FILE",
    ]


async def _next_steps(running: Machine, tenants: TenantService, model: Served | None) -> str:
    known = await tenants.list_tenants(1)
    if known:
        return "\n".join([_request(running, model), f"  billing usage --tenant {known[0].slug}"])
    if model is None:
        return BY_HAND
    try:
        await tenants.create_tenant(TENANT)
    except Conflict:
        # Somebody made it a moment ago, and has its key.
        return _request(running, model)
    secret = (await tenants.create_key(TENANT, KEY_NAME)).secret.text
    # Nobody can bring the key back: it is shown even if the gateway has not heard of it yet.
    is_served = await _is_served(running, secret, model.name)
    delay = "" if is_served else f"\nModel {model.name} is not served yet; see the logs if that stays so."
    return f"""
Tenant {TENANT} is made. Its key is shown only now:
  export KEY={secret}
{_request(running, model)}
  billing usage --tenant {TENANT}
Its usage has no price yet: billing plans apply FILE, then billing subscriptions create --tenant {TENANT} --plan PLAN{delay}"""


def _request(running: Machine, model: Served | None) -> str:
    """A request to try with the key in ``$KEY``."""
    bearer = '-H "Authorization: Bearer $KEY"'
    if model is None:
        return f"  curl {running.gateway_url}/v1/models {bearer}"
    path, body = first_request(model)
    return f"""  curl {running.gateway_url}{path} \\
    {bearer} -H "Content-Type: application/json" \\
    -d '{body}'"""


def first_request(model: Served) -> tuple[str, str]:
    """Where a model is asked for its first words, and with what."""
    if not model.chats:
        return f"/v2/models/{model.name}/generate", '{"text_input": "Hello", "max_tokens": 20}'
    if model.embeds:
        return "/v1/embeddings", f'{{"model": "{model.name}", "input": "Hello"}}'
    return (
        "/v1/chat/completions",
        f'{{"model": "{model.name}", "messages": [{{"role": "user", "content": "Hello"}}]}}',
    )


async def _is_served(running: Machine, secret: str, model: str) -> bool:
    """Wait until every worker is likely to know the new key and model; False when that takes too long."""
    deadline = time.monotonic() + SERVED_TIMEOUT_S
    wanted, good = running.settings.gateway.workers * ANSWERS_PER_WORKER, 0
    while good < wanted and time.monotonic() < deadline:
        if model in await _models_of(running.gateway_url, secret):
            good += 1
        else:
            good = 0
            await asyncio.sleep(INTERVAL_S)
    return good == wanted


async def _models_of(url: str, secret: str) -> tuple[str, ...]:
    try:
        return await client.models_of(url, secret)
    except Unavailable:
        return ()
