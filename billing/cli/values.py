"""Kinds of values on the command line."""

import click

from billing.pricing.instant import OutOfYears, parse_instant


class Instant(click.ParamType[int]):
    """``2026-11-01T00:00:00Z``, or a day, which means its midnight in UTC; becomes microseconds since the epoch."""

    name = "instant"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The instant; fails with an example on anything else, a time without its zone and a far year included."""
        if isinstance(value, int):
            return value
        text = str(value)
        try:
            is_day = len(text) == len("2026-11-01")
            return parse_instant(f"{text}T00:00:00Z" if is_day else text)
        except OutOfYears as fault:
            self.fail(f"{text} {fault}", param, ctx)
        except ValueError:
            self.fail(f"{text!r} is not an instant; write 2026-11-01 or 2026-11-01T12:30:00Z", param, ctx)


class Tag(click.ParamType[tuple[str, str]]):
    """``name=value``."""

    name = "name=value"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Name and value; fails without the sign between them."""
        if isinstance(value, tuple):
            return value[0], value[1]
        name, sign, content = str(value).partition("=")
        if not name or not sign:
            self.fail(f"{value!r} is not name=value", param, ctx)
        return name, content


INSTANT = Instant()
TAG = Tag()
