"""Counts text with a model's own vocabulary where its engine has no count: loaded once, off the event loop.

splintr-rs reads HF ``tokenizer.json`` and holds the vocabularies of the usual models itself (docs/decisions/0009).
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any, Protocol

from billing.errors import Misconfigured

if find_spec("splintr") is None:
    splintr: Any = None
else:
    import splintr

MODELS_MAX = 64
"""Vocabularies kept at once; one more is not loaded, and its texts are estimated."""
TEXT_BYTES_MAX = 4 * 1024 * 1024
THREADS = 1
"""A text of 16 kB takes about 0.5 ms: more threads would only take the processor from the relay."""

_log = logging.getLogger(__name__)


class Vocabulary(Protocol):
    """What turns text into tokens."""

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, none added; a token of the vocabulary that is spelled out in it is that token."""


def load(name: str) -> Vocabulary:
    """The vocabulary of a path to ``tokenizer.json``, or of a name that the library knows.

    Raises ``Misconfigured`` when there is none, or when the library is not installed.
    """
    if splintr is None:
        raise Misconfigured("local tokenizers need splintr-rs: pip install gpu-billing[tokenizers]")
    read = splintr.from_json if name.endswith(".json") else splintr.Tokenizer.from_pretrained
    try:
        vocabulary: Vocabulary = read(name)
    except (ValueError, OSError, RuntimeError) as fault:
        raise Misconfigured(f"tokenizer {name!r}: {fault}") from None
    return vocabulary


class LocalTokenizers:
    """The vocabularies of one process. ``failures`` counts texts that could not be counted."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="tokenizer")
        self._loaded: dict[str, Vocabulary | None] = {}
        self.failures = 0

    def __repr__(self) -> str:
        return f"<LocalTokenizers {len(self._loaded)} loaded, failures={self.failures}>"

    async def count(self, name: str, text: str) -> int | None:
        """Tokens of a text; None, counted, when the vocabulary cannot be loaded or the text is too long."""
        if len(text) > TEXT_BYTES_MAX:
            self.failures += 1
            return None
        tokens = await asyncio.get_running_loop().run_in_executor(self._pool, self._count, name, text)
        if tokens is None:
            self.failures += 1
        return tokens

    def close(self) -> None:
        """Wait for what is being counted; nothing may be counted afterwards."""
        self._pool.shutdown()

    def _count(self, name: str, text: str) -> int | None:
        """In the thread: only it touches what is loaded."""
        if name not in self._loaded:
            self._loaded[name] = self._load(name) if len(self._loaded) < MODELS_MAX else None
        vocabulary = self._loaded[name]
        return None if vocabulary is None else len(vocabulary.encode(text))

    def _load(self, name: str) -> Vocabulary | None:
        try:
            return load(name)
        except Misconfigured as fault:
            _log.warning("%s; its texts are estimated", fault)
            return None
