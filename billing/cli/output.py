"""How commands speak: tables that fit the terminal, JSON whose decimals are text, amounts that line up.

Colour and widths follow the terminal; a pipe gets plain text. What is stored came from callers and engines: whatever of
it a terminal would obey instead of show is escaped here, on every way out.
"""

import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from billing import money
from billing.clock import MICROSECONDS_PER_SECOND, rfc3339, to_datetime
from billing.invoicing.period import Period, instant
from billing.metering.rollup import NO_PROVENANCE

if TYPE_CHECKING:  # rich is imported when something is drawn
    from rich.console import RenderableType
    from rich.table import Table

Cell = str | tuple[str, ...]
"""A cell of a table: one line, or several."""

UNKNOWN_PROVENANCE = NO_PROVENANCE
PIPE_WIDTH = 120
PIPE_HEIGHT = 40
FOLDED_WIDTH_MIN = 8
COLUMN_GAP = 3
ROWS_DEFAULT = 200
ROWS_MAX = 10_000

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
limit_option = click.option(
    "--limit",
    "rows_max",
    type=click.IntRange(1, ROWS_MAX),
    default=ROWS_DEFAULT,
    show_default=True,
    help="Rows at most.",
)
period_option = click.option("--period", metavar="YYYY-MM", help="A month; the present one unless given.")
tenant_option = click.option(
    "--tenant", "tenant_slug", metavar="SLUG", required=True, help="The tenant's slug."
)


_NOT_ASCII_TEXT = re.compile(r"[^ -~]")
_SPACES = "Zs"


def printable(text: str, escape: Callable[[str], str] | None = None) -> str:
    r"""Text that a terminal shows and does not obey: ``ESC`` becomes ``\x1b``, a mark that turns the direction ``\u202e``.

    Escaped are control characters, invisible format characters, separators of lines and halves of a pair; letters,
    signs and spaces of every script stay. ``escape`` writes one character in another way.
    """
    return _NOT_ASCII_TEXT.sub(lambda found: _shown(found[0], escape or _in_code), text)


def _shown(sign: str, escape: Callable[[str], str]) -> str:
    is_harmless = sign.isprintable() or unicodedata.category(sign) == _SPACES
    return sign if is_harmless else escape(sign)


def _in_code(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")


def _in_json(sign: str) -> str:
    # Strings hold no line break after json.dumps: those that are left divide the lines of the document.
    return sign if sign == "\n" else json.dumps(sign)[1:-1]


def document(value: Any) -> None:
    """Print JSON, indented, keys in the order given: decimals and ids are text, never numbers in binary."""
    click.echo(printable(json.dumps(value, default=_plain, indent=2, ensure_ascii=False), _in_json))


def line(text: str = "") -> None:
    """Print one line."""
    click.echo(printable(text))


def lines(text: str) -> None:
    """Print text of several lines, such as what a command has printed."""
    click.echo("\n".join(map(printable, text.split("\n"))))


def note(text: str) -> None:
    """Print a line that stands back, on stderr, so that a pipe carries the result alone."""
    click.echo(click.style(printable(text), dim=True), err=True)


def error(message: str) -> None:
    """Print why a command failed, on stderr and in one line."""
    click.echo(click.style("error: ", fg="red") + printable(message), err=True)


class Sheet:
    """A table in the making.

    A column whose title ends with ``>`` is set right, as numbers are. One that ends with ``*`` may fold, so that the
    table fits the terminal; no other is ever broken or cut.
    """

    def __init__(self, *columns: str, title: str = "") -> None:
        self.columns = columns
        self.title = title
        self.rows: list[tuple[str, ...]] = []
        self._sections: set[int] = set()
        self._bold: set[int] = set()

    def __repr__(self) -> str:
        return f"<Sheet {len(self.columns)} columns, {len(self.rows)} rows>"

    def add(self, *cells: Cell, bold: bool = False) -> None:
        """One more row."""
        if bold:
            self._bold.add(len(self.rows))
        self.rows.append(tuple(map(_cell, cells)))

    def rule(self) -> None:
        """A line below the last row, as above a total."""
        self._sections.add(len(self.rows) - 1)

    def width_min(self) -> int:
        """Characters that the columns need which never fold, and a few for each that does."""
        widths = [
            FOLDED_WIDTH_MIN
            if title.endswith("*")
            else max(map(_cell_width, [title.removesuffix(">"), *cells]))
            for title, *cells in zip(self.columns, *self.rows, strict=True)
        ]
        return sum(widths) + len(widths) * COLUMN_GAP - 1

    def drawn(self) -> "Table":
        """The table, as rich draws it."""
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1), header_style="bold")
        for title in self.columns:
            folds, is_right = title.endswith("*"), title.endswith(">")
            table.add_column(
                title.rstrip("*>"),
                justify="right" if is_right else "left",
                no_wrap=not folds,
                overflow="fold",
            )
        for index, cells in enumerate(self.rows):
            table.add_row(
                *cells, style="bold" if index in self._bold else None, end_section=index in self._sections
            )
        return table


def draw(sheet: Sheet) -> None:
    """Print a table below an empty line and its title."""
    click.echo()
    if sheet.title:
        click.echo(click.style(printable(sheet.title), bold=True))
    _draw(sheet.drawn(), sheet.width_min())


def _draw(part: "RenderableType", width_min: int = 0) -> None:
    """Print what rich draws, without the empty lines around it and the spaces that only fill a line."""
    from rich.console import Console

    width = max(width_min, shutil.get_terminal_size((PIPE_WIDTH, PIPE_HEIGHT)).columns)
    screen = Console(file=sys.stdout, width=width, markup=False, highlight=False, emoji=False)
    with screen.capture() as captured:
        screen.print(part)
    rows = [row.rstrip() for row in captured.get().splitlines()]
    click.echo("\n".join(rows).strip("\n"))


def _cell(cell: Cell) -> str:
    return printable(cell) if isinstance(cell, str) else "\n".join(map(printable, cell))


def _cell_width(text: str) -> int:
    from rich.cells import cell_len

    return max(cell_len(part) for part in text.split("\n"))


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and what they are below an empty line, one a line, the long ones folded beside their name."""
    from rich.table import Table

    drawn = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    drawn.add_column(style="dim", no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, text in pairs:
        drawn.add_row(name, printable(text))
    click.echo()
    _draw(drawn)


def heading(title: str, below: str = "") -> None:
    """The first line of a screen, and what it is about."""
    click.echo(click.style(printable(title), bold=True))
    if below:
        click.echo(click.style(printable(below), dim=True))


def paragraph(text: str) -> None:
    """A line below an empty one."""
    click.echo(f"\n{printable(text)}")


def listing(
    columns: Sequence[str],
    found: Sequence[Any],
    row: Callable[[Any], Sequence[Cell]],
    *,
    rows_max: int,
    empty: str,
) -> None:
    """A table of what was found, or what to do when nothing was; the caller asked for one row more than is shown."""
    if not found:
        line(empty)
        return
    sheet = Sheet(*columns)
    for each in found[:rows_max]:
        sheet.add(*row(each))
    _draw(sheet.drawn(), sheet.width_min())
    if len(found) > rows_max:
        note(f"More than {rows_max}: ask for more with --limit.")


def when(instant_us: int | None, absent: str = "–") -> str:
    """An instant for people, to the minute."""
    return absent if instant_us is None else f"{to_datetime(instant_us):%Y-%m-%d %H:%M}"


def day(instant_us: int) -> str:
    """The UTC day of an instant."""
    return f"{to_datetime(instant_us):%Y-%m-%d}"


def moment(instant_us: int) -> str:
    """An instant for people, to the millisecond."""
    return f"{to_datetime(instant_us):%Y-%m-%d %H:%M:%S.%f}"[:-3]


DAY_US = 24 * 3_600 * MICROSECONDS_PER_SECOND


def span(period: Period) -> str:
    """Both ends of a period; the second is the first instant that is no longer in it. Days, unless a zone shifts them."""
    ends = (period.start_us, period.end_us)
    if all(end % DAY_US == 0 for end in ends):
        return f"{day(period.start_us)} to {day(period.end_us)} UTC"
    return " to ".join(map(instant, ends))


def timestamp(instant_us: int | None) -> str | None:
    """An instant for machines: RFC 3339 in UTC."""
    return None if instant_us is None else rfc3339(instant_us)


def words(name: str) -> str:
    """A name of the code as people read it: ``uncached_input`` is ``uncached input``."""
    return name.replace("_", " ")


def provenance(name: str) -> str:
    """How counts are known, for people."""
    return "unknown" if name == UNKNOWN_PROVENANCE else name


def count(number: int) -> str:
    """A whole number with its thousands apart."""
    return f"{number:,}"


def amount(value: Decimal, currency: str = "", decimals_min: int = 2) -> str:
    """An amount, exact, with at least the currency's decimals and its thousands apart."""
    return amounts([value], currency, decimals_min)[0]


def amounts(values: Sequence[Decimal], currency: str = "", decimals_min: int = 2) -> list[str]:
    """Amounts with as many decimals as the longest needs, so that a column of them lines up and none is rounded."""
    least = money.exponent(currency) if currency else decimals_min
    decimals = max([least, *(_decimals(value) for value in values)])
    return [f"{value:,.{decimals}f}" for value in values]


def _decimals(value: Decimal) -> int:
    return len(money.plain(value).partition(".")[2])


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return money.plain(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} has no JSON form here")
