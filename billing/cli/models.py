"""``billing models``."""

from collections.abc import Iterable

import click
from msgspec import UNSET, UnsetType

from billing.cli import output
from billing.cli.context import Context
from billing.fleet.deployment import DeploymentRequest, Placement
from billing.fleet.model import Model, ReasoningTags
from billing.fleet.service import ListedModel

EMPTY = "No models yet. Add one: billing models add llama-3.1-8b --backend gpu-1"

backend_help = "BACKEND, or BACKEND=NAME where the server knows the model by another name"


tags_option = click.option(
    "--reasoning-tags",
    "tags",
    nargs=2,
    metavar="START END",
    help="What it writes around its reasoning, '<think>' '</think>', if its server has no reasoning parser.",
)
tokenizer_option = click.option(
    "--tokenizer",
    metavar="FILE|NAME",
    help="What counts its text where its engine does not: a tokenizer.json on the gateways' hosts, or llama3.",
)
context_option = click.option(
    "--context-tokens", type=int, metavar="N", help="What prompt and answer hold together; 0 for not known."
)
cap_option = click.option(
    "--output-cap",
    type=int,
    metavar="N",
    help="The most tokens of an answer: asked for in the place of more, and the reply says so; 0 for none.",
)


@click.group("models")
def models() -> None:
    """Models that callers may ask for, and where they are answered."""


@models.command("add")
@click.argument("name")
@click.option("--backend", "places", multiple=True, required=True, help=f"{backend_help}; may repeat.")
@click.option("--alias", "aliases", multiple=True, help="Another name that callers may ask for; may repeat.")
@tags_option
@tokenizer_option
@context_option
@cap_option
@output.json_option
@click.pass_obj
def add(
    context: Context,
    name: str,
    places: tuple[str, ...],
    aliases: tuple[str, ...],
    tags: tuple[str, str] | None,
    tokenizer: str | None,
    context_tokens: int | None,
    output_cap: int | None,
    as_json: bool,
) -> None:
    """Add a model with its public NAME. Usage is priced by this name, whatever alias was asked for."""
    requests = [_request(place) for place in places]
    made = context.run(
        lambda services: services.fleet.add_model(
            name,
            requests,
            aliases,
            reasoning_tags=ReasoningTags(*tags) if tags else None,
            tokenizer=tokenizer,
            context_tokens=context_tokens or None,
            output_cap=output_cap or None,
        )
    )
    _report(made, as_json)


@models.command("change")
@click.argument("name")
@tags_option
@click.option("--no-reasoning-tags", "has_no_tags", is_flag=True, help="Its answers hold no such tags.")
@tokenizer_option
@click.option("--no-tokenizer", "has_no_tokenizer", is_flag=True, help="Nothing counts but its engine.")
@context_option
@cap_option
@output.json_option
@click.pass_obj
def change(
    context: Context,
    name: str,
    tags: tuple[str, str] | None,
    has_no_tags: bool,
    tokenizer: str | None,
    has_no_tokenizer: bool,
    context_tokens: int | None,
    output_cap: int | None,
    as_json: bool,
) -> None:
    """Change how the text of the model NAME is read, and how long it may become; what is not said stays."""
    if (tags and has_no_tags) or (tokenizer and has_no_tokenizer):
        raise click.UsageError("either say what it is or that there is none, not both")
    wanted: ReasoningTags | UnsetType | None = ReasoningTags(*tags) if tags else UNSET
    counter: str | UnsetType | None = UNSET if tokenizer is None else tokenizer
    changed = context.run(
        lambda services: services.fleet.change_model(
            name,
            reasoning_tags=None if has_no_tags else wanted,
            tokenizer=None if has_no_tokenizer else counter,
            context_tokens=UNSET if context_tokens is None else context_tokens or None,
            output_cap=UNSET if output_cap is None else output_cap or None,
        )
    )
    if as_json:
        output.document(_document(changed))
        return
    output.line(f"Model {name}: {', '.join(_text(changed.model))}.")


@models.command("deploy")
@click.argument("name")
@click.option("--backend", "place", required=True, help=f"{backend_help}.")
@click.option(
    "--weight", type=int, default=1, show_default=True, help="Share among backends of one priority."
)
@click.option("--priority", type=int, default=0, show_default=True, help="Smaller ones are tried first.")
@output.json_option
@click.pass_obj
def deploy(context: Context, name: str, place: str, weight: int, priority: int, as_json: bool) -> None:
    """Answer the model NAME on one more backend."""
    request = _request(place, weight, priority)
    _report(context.run(lambda services: services.fleet.deploy(name, request)), as_json)


@models.command("archive")
@click.argument("name")
@output.json_option
@click.pass_obj
def archive(context: Context, name: str, as_json: bool) -> None:
    """Answer a model no more. Its name stays taken: usage is recorded and priced under it."""
    found = context.run(lambda services: services.fleet.archive_model(name))
    if as_json:
        output.document(_document(found))
        return
    output.line(f"Model {found.model.name} is archived since {output.when(found.model.archived_at_us)} UTC.")


@models.command("list")
@output.limit_option
@output.json_option
@click.pass_obj
def list_(context: Context, rows_max: int, as_json: bool) -> None:
    """Show models by name, with where they are answered."""
    found = context.run(lambda services: services.fleet.list_models(rows_max + 1))
    if as_json:
        output.document([_document(each) for each in found[:rows_max]])
        return
    columns = ("Model*", "Aliases*", "Answered by*", "Text*", "Added", "Archived")
    output.listing(columns, found, _row, rows_max=rows_max, empty=EMPTY)


def _request(place: str, weight: int = 1, priority: int = 0) -> DeploymentRequest:
    backend, sign, backend_model = place.partition("=")
    return DeploymentRequest(backend, backend_model if sign else None, weight, priority)


def _report(made: ListedModel, as_json: bool) -> None:
    if as_json:
        output.document(_document(made))
        return
    output.line(f"Model {made.model.name} is answered by {', '.join(_places(made.placements))}.")


def _places(placements: Iterable[Placement]) -> tuple[str, ...]:
    return tuple(_place(each) for each in placements) or ("nothing yet",)


def _place(placement: Placement) -> str:
    name = placement.backend
    if placement.backend_model != placement.model:
        name += f"={placement.backend_model}"
    if placement.weight != 1 or placement.priority != 0:
        name += f" (priority {placement.priority}, weight {placement.weight})"
    return name


def _settings(model: Model) -> tuple[str, ...]:
    """What is set of how its text is read."""
    tags = (str(model.reasoning_tags),) if model.reasoning_tags else ()
    return (*tags, *((model.tokenizer,) if model.tokenizer else ()), *_lengths(model))


def _text(model: Model) -> tuple[str, ...]:
    """The same in words."""
    return (
        f"reasoning between {model.reasoning_tags}" if model.reasoning_tags else "no reasoning tags",
        f"tokenizer {model.tokenizer}" if model.tokenizer else "no tokenizer",
        *_lengths(model),
    )


def _lengths(model: Model) -> tuple[str, ...]:
    context = (f"context {model.context_tokens:,}",) if model.context_tokens else ()
    return (*context, f"answers to {model.output_cap:,}") if model.output_cap else context


def _row(listed: ListedModel) -> tuple[output.Cell, ...]:
    model = listed.model
    return (
        model.name,
        ", ".join(model.aliases) or "–",
        _places(listed.placements),
        _settings(model) or ("–",),
        output.day(model.created_at_us),
        output.when(model.archived_at_us),
    )


def _document(listed: ListedModel) -> dict[str, object]:
    model, tags = listed.model, listed.model.reasoning_tags
    return {
        "id": model.id,
        "name": model.name,
        "aliases": list(model.aliases),
        "created_at": output.timestamp(model.created_at_us),
        "archived_at": output.timestamp(model.archived_at_us),
        "reasoning_tags": tags and {"start": tags.start, "end": tags.end},
        "tokenizer": model.tokenizer,
        "context_tokens": model.context_tokens,
        "output_cap": model.output_cap,
        "deployments": [
            {
                "backend": placement.backend,
                "backend_model": placement.backend_model,
                "weight": placement.weight,
                "priority": placement.priority,
            }
            for placement in listed.placements
        ],
    }
