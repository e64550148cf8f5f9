"""What an engine of unknown kind accepts, learned from its first refusal and remembered (protocols.md §1).

Such an engine is asked for usage as OpenAI is. One that refuses a member of ours with 400 is asked again without, and from
then on never with it: its streams are counted as far as they tell.
"""

import msgspec

from billing.directory.caller import Backend
from billing.tokens.engines import Engine

STATUS_REFUSED = 400
BACKENDS_MAX = 10_000
"""Backends whose refusals are remembered; beyond them each is asked anew."""


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
        return msgspec.structs.replace(engine, stream_fields={}, stream_options={}, form_stream_fields={})

    def learns(self, backend: Backend, engine: Engine, body: bytes) -> bool:
        """Whether a refusal's text names something that was added: then it is to be asked again, without."""
        added = engine.stream_fields.keys() | engine.stream_options.keys() | engine.form_stream_fields.keys()
        if engine.stream_options:
            added |= {"stream_options"}
        if not engine.probed or not any(name.encode() in body for name in added):
            return False
        if len(self._plain) < BACKENDS_MAX:
            self._plain.add((backend.id.int, backend.version))
        return True
