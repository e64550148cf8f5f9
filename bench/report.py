"""From samples to figures: medians over the rounds, ratios within a round, the bars, and the table."""

import statistics
from collections.abc import Callable, Iterable

import msgspec
from rich.console import Console
from rich.table import Table

from bench import plan
from bench.load import Measured, Spread
from bench.plan import DIRECT, GATEWAY, NGINX, Samples, Shape

REQUEST_CPU_US_MAX = 200.0
LIMITED_REQUEST_CPU_US_MAX = 260.0
"""With four limits asked and settled in Valkey."""
CHUNK_CPU_US_MAX = 20.8
"""Of chunks that are a read and a write each (performance.md)."""
FAST_CHUNK_CPU_US_MAX = 6.0
"""Of chunks that come together, with usage to take out of each (performance.md)."""

Figure = Callable[[Measured, str], float]
"""A number of one window, given the name of the target that was under load."""


class Row(msgspec.Struct, frozen=True):
    """One line of the table: medians over the rounds, by target."""

    title: str
    values: dict[str, float]
    ratio: float | None = None
    """Gateway to nginx, the median of the rounds' own ratios."""
    bar: float | None = None
    digits: int = 1

    @property
    def missed(self) -> bool:
        """Whether the gateway is above its bar."""
        return self.bar is not None and self.values.get(GATEWAY, 0.0) > self.bar


def rows(samples: Samples, beside: Iterable[str]) -> list[Row]:
    """Every line of the table."""
    found = [*_cpu_rows(samples), *_speed_rows(samples), *_beside_rows(samples, beside)]
    return [row for row in found if row.values]


def _cpu_rows(samples: Samples) -> list[Row]:
    def line(title: str, shape: Shape, figure: Figure, bar: float | None = None) -> Row:
        return _row(samples, shape, title, figure, bar=bar, targets=(NGINX, GATEWAY))

    return [
        line("CPU µs a request, 32 at once", plan.UNLIMITED, _request_us, REQUEST_CPU_US_MAX),
        line("  with four limits", plan.SATURATED, _request_us, LIMITED_REQUEST_CPU_US_MAX),
        line("CPU µs a request, 2,000 a second, limits", plan.FIXED, _request_us),
        line("CPU µs a paced chunk, usage stripped", plan.PACED, _chunk_us, CHUNK_CPU_US_MAX),
        line("  the client asked for usage itself", plan.PACED_ASKED, _chunk_us, CHUNK_CPU_US_MAX),
        line("  llama.cpp's timings stripped", plan.PACED_TIMINGS, _chunk_us, CHUNK_CPU_US_MAX),
        line("CPU µs a fast chunk, usage stripped", plan.FAST, _chunk_us, FAST_CHUNK_CPU_US_MAX),
    ]


def _speed_rows(samples: Samples) -> list[Row]:
    def line(title: str, shape: Shape, figure: Figure, digits: int = 2) -> Row:
        return _row(samples, shape, title, figure, digits=digits)

    p50 = line("latency ms p50, 200 a second", plan.LATENCY, lambda one, _: _of(one.latency_ms).p50)
    p99 = line("latency ms p99, 200 a second", plan.LATENCY, lambda one, _: _of(one.latency_ms).p99)
    return [
        line("requests a second, 32 at once", plan.SATURATED, lambda one, _: one.requests / one.window_s, 0),
        p50,
        _added(p50),
        p99,
        _added(p99),
        line("first byte ms p50, paced streams", plan.PACED, lambda one, _: _of(one.first_byte_ms).p50),
        line("first byte ms p99, paced streams", plan.PACED, lambda one, _: _of(one.first_byte_ms).p99),
        line("gap ms p50, paced streams (paced at 5)", plan.PACED, lambda one, _: _of(one.gap_ms).p50),
        line("gap ms p99, paced streams", plan.PACED, lambda one, _: _of(one.gap_ms).p99),
    ]


def _added(row: Row) -> Row:
    """The same figure without what it is when there is no proxy."""
    bare = row.values.get(DIRECT, 0.0)
    added = {name: value - bare for name, value in row.values.items() if name != DIRECT}
    return Row("  added by the proxy", added, digits=row.digits)


def _beside_rows(samples: Samples, beside: Iterable[str]) -> list[Row]:
    """What works beside the gateway, and the two processes that must not be the bottleneck."""
    found = [
        _row(
            samples,
            plan.FIXED,
            f"{name}: CPU µs a request",
            _of_process(_request_us, name),
            targets=(GATEWAY,),
        )
        for name in beside
    ]
    shapes = ((plan.FIXED, "2,000 a second"), (plan.SATURATED, "32 at once"), (plan.PACED, "paced streams"))
    for name, title in ((DIRECT, "mock engine"), ("loader", "load generator")):
        for shape, words in shapes:
            text = f"{title}: % of a core, {words}"
            found.append(_row(samples, shape, text, _of_process(_share, name), digits=0))
    return [msgspec.structs.replace(row, ratio=None) for row in found]


def _row(
    samples: Samples,
    shape: Shape,
    title: str,
    figure: Figure,
    *,
    bar: float | None = None,
    digits: int = 1,
    targets: tuple[str, ...] = (DIRECT, NGINX, GATEWAY),
) -> Row:
    """A line about one shape; without values when it was not measured."""
    found = {
        target: [figure(one, target) for one in samples[shape.name, target]]
        for target in targets
        if (shape.name, target) in samples
    }
    values = {target: statistics.median(each) for target, each in found.items()}
    return Row(title, values, _ratio(found), bar, digits)


def _ratio(found: dict[str, list[float]]) -> float | None:
    if NGINX not in found or GATEWAY not in found:
        return None
    pairs = zip(found[GATEWAY], found[NGINX], strict=True)
    return statistics.median(ours / theirs for ours, theirs in pairs if theirs)


def _request_us(one: Measured, name: str) -> float:
    return 1e6 * one.cpu_s[name] / max(1, one.requests)


def _chunk_us(one: Measured, name: str) -> float:
    return 1e6 * one.cpu_s[name] / max(1, one.chunks)


def _share(one: Measured, name: str) -> float:
    return 100 * one.cpu_s[name] / one.window_s


def _of_process(figure: Figure, name: str) -> Figure:
    """The same figure of one process, whatever the target is."""
    return lambda one, _: figure(one, name)


def _of(spread: Spread | None) -> Spread:
    return spread or Spread(float("nan"), float("nan"))


def show(console: Console, found: list[Row], title: str) -> None:
    """The table."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for heading in ("no proxy", "nginx", "gateway", "× nginx", "bar"):
        table.add_column(heading, justify="right")
    for row in found:
        cells = [_cell(row.values.get(target), row.digits) for target in (DIRECT, NGINX, GATEWAY)]
        if row.bar is not None:
            cells[2] = f"[{'red' if row.missed else 'green'}]{cells[2]}[/]"
        table.add_row(row.title, *cells, _cell(row.ratio, 1), f"≤ {row.bar:g}" if row.bar else "")
    console.print(table)


def _cell(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
