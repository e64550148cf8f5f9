"""What answers at an address: which engine it is and which models it has, from what it says of itself (pure).

First it is asked for its models, then what :func:`further` chooses by that answer, then :func:`conclude` decides. No
question makes an engine generate anything. Sources: protocols.md §2, §3, §4, §6; our recordings of llama.cpp and vLLM;
NVIDIA's API reference of NIM 2.0 (``/v1/metadata``); TGI's router (``/info``); ``owned_by`` as vLLM, SGLang, llama.cpp
and TensorRT-LLM write it.
"""

import contextlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from billing.errors import InvalidInput
from billing.fleet.backend import NAME_LENGTH_MAX, EngineKind
from billing.fleet.deployment import BACKEND_MODEL_LENGTH_MAX
from billing.fleet.model import check_name

USUAL_PORTS = (8000, 8080, 11434, 30000)
"""Where engines listen unless they are told otherwise: vLLM, NIM and TensorRT-LLM; llama.cpp; Ollama; SGLang."""
MODELS_MAX = 100
"""Models of one server that are taken; more of them are an operator's to add."""

_OK, _BAD_REQUEST, _NOT_FOUND, _METHOD_NOT_ALLOWED = 200, 400, 404, 405
_REFUSED = {401, 403}
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_PORTS = {"http": 80, "https": 443}
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9._]+")


class Question(msgspec.Struct, frozen=True):
    """One harmless request."""

    method: str
    path: str
    body: bytes = b""


MODELS = Question("GET", "/v1/models")
PROPS = Question("GET", "/props")
"""llama.cpp lists its models to anybody and shows this only to holders of its API key."""
VERSION = Question("GET", "/version")
"""vLLM answers this to anybody, also where its other paths want an API key."""
METADATA = Question("GET", "/v1/metadata")
"""NIM has it, plain vLLM has not."""
TGI_INFO = Question("GET", "/info")
OLLAMA_VERSION = Question("GET", "/api/version")
CHAT_ROUTE = Question("GET", "/v1/chat/completions")
"""405 says that the route is there, 404 that it is not."""
EMBEDDING_ROUTE = Question("GET", "/v1/embeddings")
EMPTY_EMBEDDING = Question("POST", "/v1/embeddings", b"{}")
"""llama.cpp answers 501 unless it serves embeddings, and then 400 because of what is missing."""


class Answer(msgspec.Struct, frozen=True):
    """What came back; ``status`` 0 means nothing that could be read. ``server`` is the header of that name."""

    status: int = 0
    server: str = ""
    body: bytes = b""


SILENCE = Answer()
Answers = Mapping[Question, Answer]


class Found(msgspec.Struct, frozen=True):
    """A model server. ``engine`` None: this gateway cannot meter it (yet), whatever its ``title`` says it is."""

    title: str
    engine: EngineKind | None
    models: tuple[str, ...] = ()
    """As the server itself calls them."""
    needs_credential: bool = False
    embeds: bool = False
    """Whether it is there for embeddings and not for chat, as far as that can be told."""


class _Card(msgspec.Struct, frozen=True):
    id: str
    owned_by: str | None = None


class _Cards(msgspec.Struct, frozen=True):
    data: list[_Card]


_UNKNOWN = Found("a model server of an unknown kind", None)
_LLAMA_CPP = Found("llama.cpp", EngineKind.LLAMA_CPP)
_VLLM = Found("vLLM", EngineKind.VLLM)
_NIM = Found("NIM", EngineKind.NIM)
_OLLAMA = Found("Ollama", None)
_TGI = Found("TGI", None)
_OWNERS = {
    "llamacpp": _LLAMA_CPP,
    "vllm": _VLLM,
    "sglang": Found("SGLang", None),
    "tensorrt_llm": Found("TensorRT-LLM", None),
}
"""What engines write into ``owned_by``. NIM writes ``vllm`` or ``system``, Ollama and TGI the name of a model's author."""
_NIM_OWNERS = {"vllm", "system"}


def further(listed: Answer) -> tuple[Question, ...]:
    """What is to be asked next, by the answer to :data:`MODELS`."""
    if listed.status in _REFUSED:
        return (VERSION, PROPS)
    owner = _owner(listed)
    if _is_llama_cpp(listed):
        return (PROPS, EMPTY_EMBEDDING)
    if owner in _NIM_OWNERS:
        return (METADATA, CHAT_ROUTE, EMBEDDING_ROUTE)
    return () if owner in _OWNERS else (OLLAMA_VERSION, TGI_INFO)


def conclude(answers: Answers) -> Found | None:
    """What answers there; None when it is no model server."""
    listed = answers.get(MODELS, SILENCE)
    if listed.status in _REFUSED:
        return msgspec.structs.replace(_closed(answers), needs_credential=True)
    engine = _engine(answers, listed)
    if engine is None:
        return None
    return msgspec.structs.replace(
        engine,
        models=_models(listed),
        needs_credential=_of(answers, PROPS).status in _REFUSED,
        embeds=_embeds(engine.engine, answers),
    )


def _closed(answers: Answers) -> Found:
    """What refuses to list its models, by the little that it shows."""
    if _is_llama_cpp(answers[MODELS]) or _is_llama_cpp(_of(answers, PROPS)):
        return _LLAMA_CPP
    return _VLLM if isinstance(_object(_of(answers, VERSION)).get("version"), str) else _UNKNOWN


def _engine(answers: Answers, listed: Answer) -> Found | None:
    owner = _owner(listed)
    if _is_llama_cpp(listed):
        return _LLAMA_CPP
    if owner in _NIM_OWNERS and _object(_of(answers, METADATA)):
        return _NIM
    if owner in _OWNERS:
        return _OWNERS[owner]
    if str(_object(_of(answers, TGI_INFO)).get("router", "")).startswith("text-generation-router"):
        return _TGI
    if isinstance(_object(_of(answers, OLLAMA_VERSION)).get("version"), str):
        return _OLLAMA
    return _UNKNOWN if _cards(listed) is not None else None


def _is_llama_cpp(answer: Answer) -> bool:
    return answer.server == "llama.cpp" or _owner(answer) == "llamacpp"


def _embeds(engine: EngineKind | None, answers: Answers) -> bool:
    if engine is EngineKind.LLAMA_CPP:
        return _of(answers, EMPTY_EMBEDDING).status == _BAD_REQUEST
    has_chat = _of(answers, CHAT_ROUTE).status != _NOT_FOUND
    return not has_chat and _of(answers, EMBEDDING_ROUTE).status == _METHOD_NOT_ALLOWED


def _of(answers: Answers, question: Question) -> Answer:
    return answers.get(question, SILENCE)


def _owner(listed: Answer) -> str:
    cards = _cards(listed)
    return (cards[0].owned_by or "") if cards else ""


def _models(listed: Answer) -> tuple[str, ...]:
    names = [card.id for card in _cards(listed) or []]
    known = [name for name in names if name.isprintable() and 0 < len(name) <= BACKEND_MODEL_LENGTH_MAX]
    return tuple(dict.fromkeys(known[:MODELS_MAX]))


def _cards(listed: Answer) -> list[_Card] | None:
    """The models of a list in OpenAI's shape; None when the answer is none."""
    if listed.status != _OK:
        return None
    try:
        return msgspec.json.decode(listed.body, type=_Cards).data
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _object(answer: Answer) -> dict[str, Any]:
    """The JSON object of a good answer; an empty one for anything else."""
    if answer.status != _OK:
        return {}
    try:
        return msgspec.json.decode(answer.body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


class Place(msgspec.Struct, frozen=True):
    """Where an address points, so that two ways of writing it are equal."""

    scheme: str
    host: str
    port: int
    path: str


def place_of(url: str) -> Place:
    """The place of an address that ``backend.check_url`` has accepted; every name of this machine's loopback is one."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    here = "127.0.0.1" if host in _LOOPBACK else host
    return Place(parts.scheme, here, parts.port or _PORTS.get(parts.scheme, 0), parts.path.rstrip("/"))


def backend_name(engine: EngineKind, url: str) -> str:
    """A backend's name by engine and port, ``llama-cpp-8080``; away from loopback with its host and path."""
    place = place_of(url)
    parts = [engine.value.replace(".", "-"), str(place.port)]
    if place.host not in _LOOPBACK:
        parts.insert(1, place.host)
    name = _NOT_IN_A_NAME.sub("-", "-".join([*parts, place.path]).lower())
    return name.strip("-")[:NAME_LENGTH_MAX]


def public_name(model: str) -> str | None:
    """What callers may call a server's model: its own name, or the last part of one that is a path; None if neither can be."""
    for name in (model, model.rstrip("/").rpartition("/")[2]):
        with contextlib.suppress(InvalidInput):
            return check_name(name)
    return None
