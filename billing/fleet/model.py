"""A model as callers ask for it: its public name, its aliases, and how its text is read where its engine does not say."""

import re
from collections.abc import Iterable
from uuid import UUID

import msgspec

from billing.errors import Conflict, InvalidInput

NAME_LENGTH_MAX = 128
ALIASES_MAX = 32
TAG_LENGTH_MAX = 64
TOKENIZER_LENGTH_MAX = 500
TOKENS_MAX = 1_000_000_000
TOKENIZER_SUFFIX = ".json"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*")
_VOCABULARY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class ReasoningTags(msgspec.Struct, frozen=True):
    """What a model writes into its answer around its reasoning, ``<think>`` and ``</think>``.

    Only where its server has no reasoning parser: one that has takes the tags out itself.
    """

    start: str
    end: str

    def __str__(self) -> str:
        return f"{self.start} {self.end}"


class Model(msgspec.Struct, frozen=True):
    """A model that is sold under a public name; usage is priced by this name, whatever alias was asked for."""

    id: UUID
    name: str
    aliases: tuple[str, ...]
    created_at_us: int
    archived_at_us: int | None = None
    reasoning_tags: ReasoningTags | None = None
    tokenizer: str | None = None
    """What counts its text where its engine has no count: the path of an HF ``tokenizer.json`` on each gateway's host,
    or the name of a vocabulary that the gateway has (``llama3``)."""
    context_tokens: int | None = None
    """What prompt and answer hold together, where that is known: it bounds what a request can use."""
    output_cap: int | None = None
    """The most tokens of an answer, which gateways ask for in the place of more; the reply says so."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that callers may ask for."""
        return (self.name, *self.aliases)


def check_name(text: str, where: str = "name") -> str:
    """A public model name; raises ``InvalidInput`` naming ``where``. ``*`` is refused: in a plan it means any text."""
    if len(text) > NAME_LENGTH_MAX or not _NAME.fullmatch(text):
        raise InvalidInput(
            f"{where}: {text[:NAME_LENGTH_MAX]!r} is not a model name; write letters, digits and . _ : / @ + -, "
            "for example llama-3.1-70b",
            where,
        )
    return text


def check_names(name: str, aliases: tuple[str, ...]) -> tuple[str, ...]:
    """Name and aliases, each well-formed and none twice; raises ``InvalidInput`` naming the alias."""
    if len(aliases) > ALIASES_MAX:
        raise InvalidInput(f"aliases: at most {ALIASES_MAX}, got {len(aliases)}", "aliases")
    seen = {check_name(name)}
    for index, alias in enumerate(aliases):
        where = f"aliases[{index}]"
        if check_name(alias, where) in seen:
            raise InvalidInput(f"{where}: {alias} is said twice", where)
        seen.add(alias)
    return (name, *aliases)


def check_unique(names: tuple[str, ...], others: Iterable[Model]) -> None:
    """That no other model answers to one of these names; raises ``Conflict`` saying which one does."""
    owners = {name: other for other in others for name in other.names}
    for name in names:
        if name in owners:
            role = "its name" if owners[name].name == name else "an alias of it"
            raise Conflict(f"{name} belongs to model {owners[name].name} already ({role})")


def check_tags(tags: ReasoningTags, where: str = "reasoning_tags") -> ReasoningTags:
    """Two tags that a text can be split at; raises ``InvalidInput`` naming the tag below ``where``."""
    for name, tag in (("start", tags.start), ("end", tags.end)):
        if len(tag) > TAG_LENGTH_MAX or not tag.strip() or not tag.isprintable():
            raise InvalidInput(
                f"{where}.{name}: 1 to {TAG_LENGTH_MAX} printable characters, for example <think>",
                f"{where}.{name}",
            )
    if tags.start == tags.end:
        raise InvalidInput(f"{where}: start and end must differ, got {tags.start!r} twice", where)
    return tags


def check_tokens(count: int | None, where: str) -> int | None:
    """A number of tokens, or none; raises ``InvalidInput`` naming ``where``."""
    if count is not None and not 1 <= count <= TOKENS_MAX:
        raise InvalidInput(f"{where}: 1 to {TOKENS_MAX:,} tokens, got {count:,}", where)
    return count


def check_tokenizer(text: str, where: str = "tokenizer") -> str:
    """The absolute path of a ``tokenizer.json``, or the name of a vocabulary; raises ``InvalidInput`` naming ``where``.

    Whether it is there shows only at the gateways, which log it when it is not.
    """
    is_path = text.startswith("/") and text.endswith(TOKENIZER_SUFFIX) and text.isprintable()
    # A file's name without its folder is none: each process would look for it somewhere else.
    is_name = _VOCABULARY.fullmatch(text) is not None and not text.endswith(TOKENIZER_SUFFIX)
    if len(text) > TOKENIZER_LENGTH_MAX or not (is_path or is_name):
        raise InvalidInput(
            f"{where}: {text[:NAME_LENGTH_MAX]!r} is neither the absolute path of a tokenizer{TOKENIZER_SUFFIX} on the "
            "gateways' hosts nor the name of a vocabulary; write for example /models/qwen3/tokenizer.json or llama3",
            where,
        )
    return text
