"""The lists of Ollama's API, as its clients read them, hold the models that may be asked in its dialect."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest

from billing.directory.caller import Backend, Deployment, Model, Target
from billing.gateway.ollama_catalog import PS_PATH, TAGS_PATH, VERSION, VERSION_PATH, running, tags, version
from billing.gateway.ports import Directory
from tests.gateway.fake_client import NOW_US
from tests.gateway.fakes import BACKEND_ID, CALLER, DEPLOYMENT_ID, KEY, MODEL_ID, FakeDirectory, snapshot

DETAILS = {
    "parent_model": "", "format": "", "family": "", "families": None, "parameter_size": "", "quantization_level": "",
}  # fmt: skip


class Served(FakeDirectory):
    """Models by name, each with the engines of its backends."""

    def __init__(self, **engines: list[str]) -> None:
        super().__init__({KEY: CALLER}, snapshot())
        self.engines = engines

    def models(self) -> list[Model]:
        return [
            Model(id=MODEL_ID, name=name, aliases=(), archived=False, created_us=NOW_US, version=1) for name in self.engines
        ]  # fmt: skip

    def targets(self, model: Model) -> tuple[Target, ...]:
        return tuple(target(engine) for engine in self.engines[model.name])


def target(engine: str) -> Target:
    backend = Backend(
        id=BACKEND_ID, name="b", url="http://x", engine=engine, credential=None, concurrency=None, archived=False, version=1,
    )  # fmt: skip
    deployment = Deployment(
        id=DEPLOYMENT_ID, model_id=MODEL_ID, backend_id=BACKEND_ID, backend_model="w", weight=1, priority=0, archived=False, version=1,
    )  # fmt: skip
    return Target(deployment=deployment, backend=backend)


def test_tags_name_each_model_as_ollama_does() -> None:
    (card,) = msgspec.json.decode(tags(Served(tiny=["ollama"])))["models"]
    moment = datetime.fromisoformat(card.pop("modified_at"))
    assert moment == datetime.fromtimestamp(NOW_US / 1_000_000, UTC)
    assert card == {
        "name": "tiny", "model": "tiny", "size": 0, "digest": MODEL_ID.hex * 2, "details": DETAILS,
    }  # fmt: skip
    assert len(card["digest"]) == 64


def test_what_is_ready_is_listed_without_what_only_the_backend_knows() -> None:
    (card,) = msgspec.json.decode(running(Served(tiny=["ollama"])))["models"]
    assert (card["name"], card["size_vram"], card["context_length"]) == ("tiny", 0, 0)
    assert datetime.fromisoformat(card["expires_at"]).year == 1


@pytest.mark.parametrize("listed", [tags, running])
def test_only_models_that_take_ollamas_requests_are_listed(listed: Callable[[Directory], bytes]) -> None:
    directory = Served(one=["ollama"], two=["vllm"], three=["vllm", "ollama"], four=[], five=["no engine"])
    names = [card["name"] for card in msgspec.json.decode(listed(directory))["models"]]
    assert names == ["one", "three"]


def test_no_models_are_an_empty_list() -> None:
    assert tags(Served()) == b'{"models":[]}'


def test_the_version_is_one_that_clients_can_compare() -> None:
    assert msgspec.json.decode(version()) == {"version": VERSION}
    assert all(part.isdigit() for part in VERSION.split("."))


def test_the_paths_are_ollamas() -> None:
    assert (TAGS_PATH, PS_PATH, VERSION_PATH) == ("/api/tags", "/api/ps", "/api/version")
