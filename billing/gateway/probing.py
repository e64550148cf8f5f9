"""What an engine of unknown kind accepts, learned from a refusal and remembered (protocols.md §1).

Such an engine is asked for usage as OpenAI is. One that refuses with 400 naming what we added, which the client's own
request does not name, is asked again without; if that is accepted it is remembered: its streams are counted as far as
they tell. A refusal that a caller could have written himself teaches nothing: it would end the counting for everybody.
"""

import msgspec

from billing.directory.caller import Backend
from billing.tokens.engines import Engine

STATUS_REFUSED = 400
BACKENDS_MAX = 10_000
"""Backends whose refusals are remembered; beyond them each is asked anew."""


def plain(engine: Engine) -> Engine:
    """The same engine, asked for nothing."""
    return msgspec.structs.replace(engine, stream_fields={}, stream_options={}, form_stream_fields={})


def is_about_ours(engine: Engine, asked: bytes, sent: bytes, refusal: bytes) -> bool:
    """Whether a refusal may be about what was added: it names it, it was sent, and the client had not written it."""
    added = engine.stream_fields.keys() | engine.stream_options.keys() | engine.form_stream_fields.keys()
    if engine.stream_options:
        added |= {"stream_options"}
    names = [name.encode() for name in added]
    return any(name in refusal and name in sent for name in names) and not any(
        name in asked for name in names
    )


class Probes:
    """Which backends refuse what is added to requests; by id and version, so that a changed backend is tried again."""

    def __init__(self) -> None:
        self._plain: set[tuple[int, int]] = set()

    def __repr__(self) -> str:
        return f"<Probes {len(self._plain)} refuse>"

    def engine_at(self, backend: Backend, engine: Engine) -> Engine:
        """The engine as this backend takes requests for it."""
        if not engine.probed or (backend.id.int, backend.version) not in self._plain:
            return engine
        return plain(engine)

    def remember(self, backend: Backend) -> None:
        """A backend accepted without what it had refused with it."""
        if len(self._plain) < BACKENDS_MAX:
            self._plain.add((backend.id.int, backend.version))
