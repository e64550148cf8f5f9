"""A model as callers ask for it: its public name and its aliases."""

import re
from collections.abc import Iterable
from uuid import UUID

import msgspec

from billing.errors import Conflict, InvalidInput

NAME_LENGTH_MAX = 128
ALIASES_MAX = 32

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*")


class Model(msgspec.Struct, frozen=True):
    """A model that is sold under a public name; usage is priced by this name, whatever alias was asked for."""

    id: UUID
    name: str
    aliases: tuple[str, ...]
    created_at_us: int
    archived_at_us: int | None = None

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
