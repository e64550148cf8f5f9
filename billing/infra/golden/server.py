"""llama.cpp's own HTTP server in a process of its own: ``python -m billing.infra.golden.server --model FILE``.

It listens on 127.0.0.1 only, writes one line, ``listening http://127.0.0.1:PORT``, to standard output or another
descriptor when it answers, and its errors to stderr. It ends at once on SIGTERM, and when the thread that started it
ends, whatever happened to that one.
"""

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import xllamacpp

from billing.infra.golden.runner import CONTEXT_TOKENS_DEFAULT, READY_PREFIX, SLOTS_DEFAULT

BATCH_TOKENS = 512
LOG_ERRORS = 1
HOST = "127.0.0.1"
_PR_SET_PDEATHSIG = 1


class ServerOptions(NamedTuple):
    """What one server serves. ``context_tokens`` is shared by the slots; ``port`` 0 means any free one."""

    model: Path
    alias: str
    port: int = 0
    slots: int = SLOTS_DEFAULT
    context_tokens: int = CONTEXT_TOKENS_DEFAULT
    embeddings: bool = False
    ready_fd: int = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends (Linux; elsewhere it has no effect)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def engine_parameters(options: ServerOptions) -> xllamacpp.CommonParams:
    """The settings of llama.cpp: one compute thread, no host-memory prompt cache and no warm-up, so that work is predictable."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(options.model)
    parameters.model_alias = {options.alias}
    parameters.hostnames = [HOST]
    parameters.port = options.port
    parameters.n_parallel = options.slots
    parameters.n_ctx = options.context_tokens
    parameters.n_batch = BATCH_TOKENS
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.endpoint_metrics = True
    parameters.ui = False
    parameters.cache_ram_mib = 0
    parameters.fit_params = False
    parameters.warmup = False
    parameters.verbosity = LOG_ERRORS
    if options.embeddings:
        parameters.embedding = True
        parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return parameters


def parse_options(arguments: Sequence[str]) -> ServerOptions:
    """The options of a command line; ends the process with a usage message when it cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m billing.infra.golden.server", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="GGUF file")
    parser.add_argument("--alias", required=True, help="name under which the model is listed")
    parser.add_argument("--port", type=int, default=0, help="0: any free port, told on the ready line")
    parser.add_argument("--slots", type=int, default=SLOTS_DEFAULT, help="requests computed at the same time")
    parser.add_argument(
        "--context",
        dest="context_tokens",
        type=int,
        default=CONTEXT_TOKENS_DEFAULT,
        help="shared by the slots",
    )
    parser.add_argument("--embeddings", action="store_true", help="serve embeddings instead of completions")
    parser.add_argument("--ready-fd", type=int, default=1, help="descriptor for the ready line")
    return ServerOptions(**vars(parser.parse_args(arguments)))


def main(arguments: Sequence[str]) -> None:
    """Serve until a signal ends the process; ends with a sentence when the model cannot be served."""
    die_with_parent()
    options = parse_options(arguments)
    # The default action ends the process without waiting for open streams, which is what a test's teardown wants.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        server = xllamacpp.Server(engine_parameters(options))
    except RuntimeError as fault:
        # llama.cpp has written the cause to the log; its exception says only that there was one.
        raise SystemExit(f"cannot serve {options.model}: {fault}") from None
    os.write(options.ready_fd, f"{READY_PREFIX}{server.listening_address}\n".encode("ascii"))
    while True:
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])
