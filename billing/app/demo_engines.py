"""The demo's model servers: real llama.cpp on loopback, two deterministic models."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from billing.app.demo_traffic import EMBEDDINGS, GOLDEN, SLOW
from billing.app.machine import Phases
from billing.infra.engine_folders import make_data_folder
from billing.infra.golden import model as golden_model
from billing.infra.golden.runner import LlamaServer


class Engines(msgspec.Struct, frozen=True):
    """The three llama.cpp servers: two models, and the golden one again for embeddings."""

    golden: LlamaServer
    slow: LlamaServer
    embeddings: LlamaServer

    def by_model(self) -> dict[str, LlamaServer]:
        """Server by public model name."""
        return {GOLDEN: self.golden, SLOW: self.slow, EMBEDDINGS: self.embeddings}


@contextlib.contextmanager
def llama_servers(data_dir: Path, phases: Phases) -> Iterator[Engines]:
    """Build the models if they are not there yet and serve them; one slot each makes cached counts predictable."""
    make_data_folder(data_dir)
    models, logs = data_dir / "models", data_dir / "logs"
    for folder in (models, logs):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    golden = golden_model.model_path(models, golden_model.GOLDEN)
    slow = golden_model.model_path(models, golden_model.SLOW)
    phases.done("deterministic models built: golden (53 tokens an answer, 20 of them reasoning) and slow")
    with contextlib.ExitStack() as stack:
        servers = []
        for path, alias, embeddings in (
            (golden, GOLDEN, False),
            (slow, SLOW, False),
            (golden, EMBEDDINGS, True),
        ):
            server = LlamaServer.start(
                path, alias, log_path=logs / f"llama-{alias}.log", embeddings=embeddings, slots=1
            )
            stack.callback(server.stop)
            servers.append(server)
        phases.done("llama.cpp serves " + ", ".join(f"{server.alias} on {server.url}" for server in servers))
        yield Engines(*servers)
