"""Counts text with a model's own vocabulary where its engine has no count: loaded once, off the event loop.

A file is loaded by fastokens, which refuses what it does not support; then HF's own ``tokenizers`` load it, slower and
right. Where both are installed a sample must count alike (docs/decisions/0005). Built-in vocabularies are splintr-rs's.
"""

import asyncio
import importlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from billing.errors import Misconfigured

MODELS_MAX = 64
"""Vocabularies kept at once; one more is not loaded, and its texts are estimated."""
TEXT_LENGTH_MAX = 4 * 1024 * 1024
"""Characters of a text that is counted; in the worst script one is four bytes."""
THREADS = 1
"""A text of 16 kB takes about 0.3 ms: more threads would only take the processor from the relay."""
SAMPLE = "Hello there, naïve café! 1234567890\n\n\tdef f(x): return x ** 2  # 书房 🙂 ﬁne \u0301e"
INSTALL = "pip install 'gpu-billing[tokenizers]'"

Count = Callable[[str], int]

_log = logging.getLogger(__name__)


def load(name: str) -> Count:
    """What counts by the vocabulary of a ``tokenizer.json``, or of a built-in name (``o200k_base``, ``llama3``, ``qwen3``).

    Raises ``Misconfigured`` when there is none, when what would load it is not installed, or when two libraries differ.
    """
    return _of_file(name) if name.endswith(".json") else _built_in(name)


def _of_file(path: str) -> Count:
    fast, right = _optional("fastokens"), _optional("tokenizers")
    if fast is None and right is None:
        raise Misconfigured(f"tokenizer {path!r}: {INSTALL}")
    oracle = None if right is None else _loaded(path, lambda: _hf(right, path))
    if fast is None:
        return oracle or _refuse(path)
    try:
        counted = _fastokens(fast, path)
    except (ValueError, OSError, RuntimeError) as fault:
        # It says what it cannot do instead of guessing.
        return oracle or _refuse(path, fault)
    if oracle is not None and counted(SAMPLE) != oracle(SAMPLE):
        raise Misconfigured(f"tokenizer {path!r}: fastokens counts a sample unlike HF's tokenizers")
    return counted


def _built_in(name: str) -> Count:
    library = _optional("splintr")
    if library is None:
        raise Misconfigured(f"tokenizer {name!r}: {INSTALL}")
    vocabulary = _loaded(name, lambda: library.Tokenizer.from_pretrained(name))
    return lambda text: len(vocabulary.encode(text))


def _hf(library: Any, path: str) -> Count:
    vocabulary = library.Tokenizer.from_file(path)
    return lambda text: len(vocabulary.encode(text, add_special_tokens=False).ids)


def _fastokens(library: Any, path: str) -> Count:
    vocabulary = library.Tokenizer.from_file(path)

    def count(text: str) -> int:
        encoded = vocabulary.encode(text)
        return len(getattr(encoded, "ids", encoded))

    return count


def _loaded(name: str, act: Callable[[], Any]) -> Any:
    try:
        return act()
    except Exception as fault:  # noqa: BLE001 - HF's loader raises no narrower one; it is re-raised as ours
        raise Misconfigured(f"tokenizer {name!r}: {fault}") from None


def _refuse(path: str, fault: Exception | None = None) -> Count:
    raise Misconfigured(f"tokenizer {path!r}: {fault or 'nothing that loads it is installed'}")


def _optional(module: str) -> Any:
    """A package that gateways without local tokenizers do without; None where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


class LocalTokenizers:
    """The vocabularies of one process. ``failures`` counts texts that could not be counted."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="tokenizer")
        self._loaded: dict[str, Count | None] = {}
        self.failures = 0

    def __repr__(self) -> str:
        return f"<LocalTokenizers {len(self._loaded)} loaded, failures={self.failures}>"

    async def count(self, name: str, text: str) -> int | None:
        """Tokens of a text; None, counted, when the vocabulary cannot be loaded or the text is too long."""
        if len(text) > TEXT_LENGTH_MAX:
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
        count = self._loaded[name]
        return None if count is None else count(text)

    def _load(self, name: str) -> Count | None:
        try:
            return load(name)
        except Misconfigured as fault:
            _log.warning("%s; its texts are estimated", fault)
            return None
