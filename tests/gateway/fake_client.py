"""The caller's side for the proxy's tests: a journal of effects, a clock that stands still, and a caller who keeps what it got."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from billing.clock import MICROSECONDS_PER_SECOND
from billing.gateway.ports import Headers

NOW_US = 1_795_500_000_000_000


class Journal:
    """What happened, in order: (name, value) lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, Any]] = []
        self._actions: dict[int, list[Callable[[], None]]] = defaultdict(list)

    def __repr__(self) -> str:
        return f"<Journal {' '.join(self.names)}>"

    def note(self, name: str, value: Any = None) -> None:
        """Write a line, then do what was tied to it."""
        self.lines.append((name, value))
        for action in self._actions.pop(len(self.lines), []):
            action()

    def after(self, lines: int, action: Callable[[], None]) -> None:
        """Do something as soon as so many lines stand."""
        self._actions[lines].append(action)

    @property
    def names(self) -> list[str]:
        """Names of the lines, in order."""
        return [name for name, _ in self.lines]

    def values(self, name: str) -> list[Any]:
        """Values of the lines with a name."""
        return [value for line, value in self.lines if line == name]


class FakeClock:
    """Stands still until it is told to go on."""

    def __init__(self, now_us: int = NOW_US) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_us += round(seconds * MICROSECONDS_PER_SECOND)


class FakeClient:
    """A caller who keeps what it got, and leaves when told to. ``breaks_at`` names the write at which its transport raises."""

    def __init__(self, journal: Journal, *, breaks_at: str | None = None) -> None:
        self._journal = journal
        self._act: Callable[[], None] | None = None
        self._breaks_at = breaks_at
        self.gone = False
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.ended = False
        self._at_once = False

    def __repr__(self) -> str:
        return f"<FakeClient {self.status} {len(self.body)} B{' ended' if self.ended else ''}{' gone' if self.gone else ''}>"

    def leave(self) -> None:
        """Hang up."""
        self.gone = True
        if self._act is not None:
            self._act()

    def on_gone(self, act: Callable[[], None] | None) -> None:
        self._act = act
        if self.gone and act is not None:
            act()

    async def head(self, status: int, headers: Headers) -> None:
        self._write("head", status)
        self.status, self.headers = status, dict(headers)

    async def chunk(self, data: bytes) -> None:
        if data and not self.gone:
            self._write("chunk", data)
            self.body += data

    def pass_on(self, data: bytes) -> bool:
        """Every second piece can be sent at once."""
        self._at_once = not self._at_once
        if self._at_once and data and not self.gone:
            self._write("chunk", data)
            self.body += data
        return self._at_once or self.gone

    async def end(self, data: bytes = b"") -> None:
        if not self.gone:
            self._write("end", data)
            self.body += data
            self.ended = True

    def abort(self) -> None:
        self._journal.note("abort")
        self.gone = True

    def _write(self, name: str, value: object) -> None:
        if name == self._breaks_at:
            raise ConnectionResetError(name)
        self._journal.note(name, value)
