"""Time zones by their names, from the system's database or the ``tzdata`` package where the system has none."""

from datetime import UTC, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from billing.errors import InvalidInput

NAME_SHOWN_MAX = 60
NO_PLACES = {"Factory", "localtime", "posixrules"}
"""Names of the database that mean another zone on another machine, or none."""


@cache
def _names() -> frozenset[str]:
    return frozenset(available_timezones()) - NO_PLACES


def zone_of(name: str, where: str = "timezone") -> tzinfo:
    """The zone of a name such as ``Asia/Kolkata``, exactly as the database writes it; raises ``InvalidInput``."""
    if name == "UTC":
        return UTC
    if name not in _names():
        raise InvalidInput(
            f"{where}: {name[:NAME_SHOWN_MAX]!r} is not the name of a time zone; write for example Europe/Berlin",
            where,
        )
    return ZoneInfo(name)
