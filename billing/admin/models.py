"""``/api/v1/models``: models as callers ask for them, and where they are answered.

A model's name may hold a slash, so it stands in bodies and not in addresses.
"""

from uuid import UUID

import msgspec
from litestar import Controller, get, post
from litestar.params import JSONBody
from msgspec import UNSET, UnsetType

from billing.admin.describe import described
from billing.admin.moment import written, written_or_none
from billing.admin.page import LIMIT_DEFAULT, After, Limit, Page, page, read
from billing.admin.services import Services
from billing.fleet.deployment import DeploymentRequest
from billing.fleet.model import ReasoningTags
from billing.fleet.service import ListedModel


class DeploymentDocument(msgspec.Struct, frozen=True):
    """One backend of a model. Smaller priorities are tried first; equal ones share by weight."""

    backend: str
    backend_model: str
    weight: int
    priority: int


class Tags(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model writes into its answer around its reasoning, where its server has no reasoning parser."""

    start: str
    end: str

    def tags(self) -> ReasoningTags:
        """The same as the service takes it."""
        return ReasoningTags(self.start, self.end)


class ModelDocument(msgspec.Struct, frozen=True):
    """A model that is sold under a public name; usage is priced by this name, whatever alias was asked for."""

    id: UUID
    name: str
    aliases: tuple[str, ...]
    created_at: str
    archived_at: str | None
    reasoning_tags: Tags | None
    tokenizer: str | None
    """What counts its text where its engine has no count."""
    context_tokens: int | None
    output_cap: int | None
    deployments: tuple[DeploymentDocument, ...]


class NewDeployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a model shall be answered; ``backend_model`` is the backend's own name for it, the public one unless said."""

    backend: str
    backend_model: str | None = None
    weight: int = 1
    priority: int = 0

    def request(self) -> DeploymentRequest:
        """The same as the service takes it."""
        return DeploymentRequest(self.backend, self.backend_model, self.weight, self.priority)


class NewModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model to be added, with at least one deployment."""

    name: str
    deployments: list[NewDeployment]
    aliases: list[str] = []
    reasoning_tags: Tags | None = None
    tokenizer: str | None = None
    context_tokens: int | None = None
    output_cap: int | None = None


class ModelChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes different of a model; what is not said stays, what is null is taken away."""

    model: str
    reasoning_tags: Tags | UnsetType | None = UNSET
    tokenizer: str | UnsetType | None = UNSET
    context_tokens: int | UnsetType | None = UNSET
    output_cap: int | UnsetType | None = UNSET


class Deploy(NewDeployment, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One more backend for a model."""

    model: str


class ModelName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model by its public name."""

    model: str


MODEL = ModelDocument(
    id=UUID("019ab3f4-8c00-7000-8000-00000000000e"),
    name="llama-3.1-70b",
    aliases=("llama",),
    created_at="2026-11-24T10:00:00Z",
    archived_at=None,
    reasoning_tags=Tags("<think>", "</think>"),
    tokenizer="llama3",
    context_tokens=131_072,
    output_cap=8_192,
    deployments=(DeploymentDocument("gpu-1", "meta/llama-3.1-70b-instruct", 1, 0),),
)
DEPLOYED = msgspec.structs.replace(
    MODEL, deployments=(DeploymentDocument("gpu-2", "llama-3.1-70b", 3, 0), *MODEL.deployments)
)
ARCHIVED = msgspec.structs.replace(DEPLOYED, archived_at="2026-11-25T10:00:00Z")
DEPLOYMENT = NewDeployment("gpu-1", "meta/llama-3.1-70b-instruct")
NEW = NewModel(
    "llama-3.1-70b", [DEPLOYMENT], ["llama"], MODEL.reasoning_tags, MODEL.tokenizer, 131_072, 8_192
)
CHANGE = ModelChange("llama-3.1-70b", MODEL.reasoning_tags, MODEL.tokenizer, 131_072, 8_192)
DEPLOY = Deploy(backend="gpu-2", model="llama-3.1-70b", weight=3)


class ModelController(Controller):
    """Models."""

    path = "/models"
    tags = ("Models",)

    @get(**described("List models", Page([MODEL], None)))
    async def list_models(
        self, services: Services, limit: Limit = LIMIT_DEFAULT, after: After = None
    ) -> Page[ModelDocument]:
        """Models by name, archived ones too, each with where it is answered."""
        (name,) = read(after, 1) or ("",)
        found = await services.fleet.list_models(limit + 1, name)
        return page(found, limit, document, lambda listed: (listed.model.name,))

    @post(**described("Add a model", MODEL, sent=NEW, refusals=(404, 409)))
    async def add_model(self, services: Services, data: JSONBody[NewModel]) -> ModelDocument:
        """A new model with its deployments. Its name and aliases answer to no other model.

        `reasoning_tags` are for models whose server leaves them in the answer. `tokenizer` is the absolute path of a
        `tokenizer.json` on the gateways' hosts, or the name of a vocabulary that they have. `context_tokens` is what a
        prompt and its answer hold together; `output_cap` is asked for in the place of longer answers, which the reply
        says in `x-billing-output-cap`.
        """
        return document(
            await services.fleet.add_model(
                data.name,
                [each.request() for each in data.deployments],
                data.aliases,
                reasoning_tags=data.reasoning_tags.tags() if data.reasoning_tags else None,
                tokenizer=data.tokenizer,
                context_tokens=data.context_tokens,
                output_cap=data.output_cap,
            )
        )

    @post("/change", status_code=200, **described("Change a model", MODEL, sent=CHANGE, refusals=(404,)))
    async def change_model(self, services: Services, data: JSONBody[ModelChange]) -> ModelDocument:
        """Read a model's text in another way, from the next requests on, within a second.

        What is not said stays; null takes it away.
        """
        said = data.reasoning_tags
        tags = said.tags() if isinstance(said, Tags) else said
        return document(
            await services.fleet.change_model(
                data.model,
                reasoning_tags=tags,
                tokenizer=data.tokenizer,
                context_tokens=data.context_tokens,
                output_cap=data.output_cap,
            )
        )

    @post(
        "/deploy", status_code=200, **described("Deploy a model", DEPLOYED, sent=DEPLOY, refusals=(404, 409))
    )
    async def deploy(self, services: Services, data: JSONBody[Deploy]) -> ModelDocument:
        """Answer a model on one more backend, within a second."""
        return document(await services.fleet.deploy(data.model, data.request()))

    @post(
        "/archive",
        status_code=200,
        **described("Archive a model", ARCHIVED, sent=ModelName("llama-3.1-70b"), refusals=(404,)),
    )
    async def archive_model(self, services: Services, data: JSONBody[ModelName]) -> ModelDocument:
        """Answer a model no more, within a second. Its usage stays; its names stay taken."""
        return document(await services.fleet.archive_model(data.model))


def document(listed: ListedModel) -> ModelDocument:
    """A model as the API shows it."""
    model, tags = listed.model, listed.model.reasoning_tags
    deployments = (
        DeploymentDocument(each.backend, each.backend_model, each.weight, each.priority)
        for each in listed.placements
    )
    return ModelDocument(
        id=model.id,
        name=model.name,
        aliases=model.aliases,
        created_at=written(model.created_at_us),
        archived_at=written_or_none(model.archived_at_us),
        reasoning_tags=Tags(tags.start, tags.end) if tags else None,
        tokenizer=model.tokenizer,
        context_tokens=model.context_tokens,
        output_cap=model.output_cap,
        deployments=tuple(deployments),
    )
