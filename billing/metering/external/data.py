"""What an event says was used: counts by the words of records and plans, checked against each other."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from billing.errors import InvalidInput
from billing.fleet.model import check_name as check_model
from billing.tenants.api_key import check_tags
from billing.tenants.tenant import check_slug, shown
from billing.tokens.members import end_user_of
from billing.tokens.operation import Operation
from billing.tokens.usage import COUNT_MAX, UNKNOWN, Count, Outcome, Part, Provenance, TokenUsage, weakest

_TIER = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_PLACE = re.compile(r"(.*) - at `\$(.*)`", re.DOTALL)

Amount = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)] | None
"""A whole number; null says as little as a member that is not there."""


class UsageData(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What was used. ``input`` contains its cached, written and non-text parts, ``output`` its reasoning and the like."""

    model: str
    """The name that prices are for; an alias of a model counts as the model, and a name that no model has is taken."""
    operation: Operation = Operation.TRAINING
    project: str | None = None
    """The slug of one of the tenant's projects."""
    outcome: Outcome = Outcome.COMPLETE
    end_user: str | None = None
    tags: dict[str, str] = {}
    service_tier: str = "standard"
    estimated: bool = False
    """Whether the counts are guesses: they are kept apart, and under review until a plan says otherwise."""
    input: Amount = None
    cached_input: Amount = None
    cache_write: Amount = None
    output: Amount = None
    reasoning: Amount = None
    audio_input: Amount = None
    image_input: Amount = None
    video_input: Amount = None
    audio_output: Amount = None
    image_output: Amount = None
    cache_write_1h: Amount = None
    training: Amount = None
    image: Amount = None
    second: Amount = None
    gpu_second: Amount = None
    character: Amount = None
    search: Amount = None

    def amount(self, name: str) -> int | None:
        """The count of a name; None where it was not told."""
        value: int | None = getattr(self, name)
        return value


COUNTS = ("input", "cached_input", "cache_write", "output", "reasoning")
"""The counts of ``billing.tokens.usage.TokenUsage``."""
PARTS = tuple(part for part in Part if part is not Part.HIDDEN)
"""The parts that an event may tell; hidden tokens are what an engine's own total holds beyond its counts."""
_ALL = (*COUNTS, *PARTS)
_CONTAINED = (
    ("input", ("cached_input", "cache_write")),
    ("input", ("audio_input", "image_input", "video_input")),
    ("output", ("reasoning", "audio_output", "image_output")),
    ("cache_write", ("cache_write_1h",)),
)
"""Which count contains which others, that exclude each other."""


def usage_of(data: UsageData, source: str) -> TokenUsage:
    """The counts with how they are known: reported by their source, unless it says that it guessed."""
    provenance = Provenance.ESTIMATED if data.estimated else Provenance.REPORTED

    def count(name: str) -> Count:
        value = data.amount(name)
        return UNKNOWN if value is None else Count(value, provenance, f"event of {source}")

    parts: dict[Part, Count] = {part: count(part) for part in PARTS if data.amount(part) is not None}
    return TokenUsage(**{name: count(name) for name in COUNTS}, parts=parts)


def read_data(value: object, where: str) -> UsageData:
    """The usage that a decoded JSON value tells; raises ``InvalidInput`` naming the member below ``where``."""
    if value is None:
        raise InvalidInput(
            f'{where}: missing; write for example {{"model": "llama", "training": 4096}}', where
        )
    if not isinstance(value, dict):
        raise InvalidInput(f"{where}: must be an object, got {kind_of(value)}", where)
    unknown = next((name for name in value if name not in UsageData.__struct_fields__), None)
    if unknown is not None:
        raise InvalidInput(
            f"{where}.{shown(unknown)[1:-1]}: unknown; counts are {', '.join(_ALL)}", f"{where}.{unknown}"
        )
    if value.get("model") is None:
        raise InvalidInput(f"{where}.model: missing; write the name that prices are for", f"{where}.model")
    data = _converted(value, where)
    _check_texts(data, where)
    _check_counts(data, where)
    return data


def _converted(value: Mapping[str, Any], where: str) -> UsageData:
    try:
        return msgspec.convert(value, UsageData)
    except msgspec.ValidationError as fault:
        found = _PLACE.fullmatch(str(fault))
        sentence, path = (found[1], f"{where}{found[2]}") if found else (str(fault), where)
        raise InvalidInput(f"{path}: {sentence}", path) from None


def _check_texts(data: UsageData, where: str) -> None:
    check_model(data.model, f"{where}.model")
    if data.project is not None:
        check_slug(data.project, f"{where}.project")
    end_user_of(data.end_user, f"{where}.end_user")
    if not _TIER.fullmatch(data.service_tier):
        raise InvalidInput(
            f"{where}.service_tier: {shown(data.service_tier)} is no tier; write for example batch",
            f"{where}.service_tier",
        )
    try:
        check_tags(data.tags)
    except InvalidInput as fault:
        raise InvalidInput(f"{where}.{fault}", f"{where}.{fault.param}") from None


def _check_counts(data: UsageData, where: str) -> None:
    """That something is counted, and that the counts fit into each other."""
    told = [name for name in _ALL if data.amount(name) is not None]
    if not told:
        raise InvalidInput(f"{where}: holds no count; tell one of {', '.join(_ALL)}", where)
    for whole, parts in _CONTAINED:
        _check_contained(data, whole, [part for part in parts if part in told], where)
    # Usage that is unknown in part is never billed (null is not 0): a sender who means 0 has to tell it.
    missing = [name for name in ("input", "output") if name not in told]
    if missing and (len(missing) == 1 or weakest(usage_of(data, "")) is None):
        param = f"{where}.{missing[0]}"
        raise InvalidInput(f"{param}: missing beside {told[0]}; tell 0 if there was none", param)


def _check_contained(data: UsageData, whole: str, parts: list[str], where: str) -> None:
    if not parts:
        return
    limit, total = data.amount(whole), sum(data.amount(part) or 0 for part in parts)
    if limit is None:
        raise InvalidInput(f"{where}.{whole}: missing; it contains {parts[0]}", f"{where}.{whole}")
    if total > limit:
        raise InvalidInput(
            f"{where}.{parts[0]}: {' and '.join(parts)} together are {total}, and {whole}, which contains them, {limit}",
            f"{where}.{parts[0]}",
        )


def kind_of(value: object) -> str:
    """What a decoded JSON value is, for people."""
    kinds = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "text",
        list: "an array",
        dict: "an object",
    }
    return kinds.get(type(value), "null")
