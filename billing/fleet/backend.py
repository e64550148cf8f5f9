"""A model server: where it is, what it is, and what opens it."""

import re
from enum import StrEnum
from uuid import UUID

import msgspec

from billing.errors import InvalidInput
from billing.tokens.engines import ENGINES, Engine

URL_LENGTH_MAX = 500
NAME_LENGTH_MAX = 63
CREDENTIAL_LENGTH_MAX = 4096
CONCURRENCY_MAX = 100_000
PORT_MAX = 65_535

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[0-9]+))?(?P<path>(?:/[A-Za-z0-9._~%!$&'()*+,;=:@-]*)*)"
)
_VERSION_PATH = "/v1"


class EngineKind(StrEnum):
    """What answers at a backend: the names of ``billing.tokens.engines``, which says how each is asked and read."""

    LLAMA_CPP = "llama.cpp"
    VLLM = "vllm"
    NIM = "nim"
    """NVIDIA NIM for language models from 2.0 on, which serves with vLLM."""
    NIM_1 = "nim-1"
    """NVIDIA NIM 1.x, which has its own counters and counts less."""
    SGLANG = "sglang"
    TENSORRT_LLM = "tensorrt-llm"
    """``trtllm-serve``; TensorRT-LLM behind Triton is ``triton``."""
    TGI = "tgi"
    OLLAMA = "ollama"
    TRITON = "triton"
    OPENAI = "openai"
    """OpenAI's own API."""
    TRANSFORMERS = "transformers"
    """``transformers serve``."""
    GENERIC = "generic"
    """Anything else that speaks OpenAI's dialect: what it accepts is tried once and remembered."""

    @property
    def facts(self) -> Engine:
        """What is known of such engines."""
        return ENGINES[self.value]


class OnHangUp(StrEnum):
    """What becomes of a request whose client wants a whole reply and hangs up before it is there (protocols.md §9)."""

    ABORT = "abort"
    """The engine is told and stops. It reports nothing, so only what is known by then is billed: usually nothing."""
    DRAIN = "drain"
    """The engine finishes the reply, the gateway reads it to its end, and all of it is billed."""
    STREAM_AND_ASSEMBLE = "stream_and_assemble"
    """The engine is asked for a stream and the gateway assembles the reply: it stops at once, and the count is exact."""


class Credential(msgspec.Struct, frozen=True):
    """What is sent to a backend as its bearer token. Neither repr, str nor rich print it."""

    secret: str

    def __repr__(self) -> str:
        return "<Credential>"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return []


class Backend(msgspec.Struct, frozen=True):
    """A model server as operators see it; whether it has a credential is known here, the credential is not."""

    id: UUID
    name: str
    url: str
    engine: EngineKind
    has_credential: bool
    created_at_us: int
    concurrency: int | None = None
    """Requests that it works on at once; None leaves that to the engine."""
    archived_at_us: int | None = None
    on_hang_up: OnHangUp = OnHangUp.ABORT


def check_name(text: str, where: str = "name") -> str:
    """A backend's name; raises ``InvalidInput`` naming ``where``."""
    if len(text) > NAME_LENGTH_MAX or not _NAME.fullmatch(text):
        raise InvalidInput(
            f"{where}: {text[:NAME_LENGTH_MAX]!r} is not a backend name; write small letters, digits, dots and hyphens, "
            "for example gpu-1",
            where,
        )
    return text


def check_url(text: str, where: str = "url") -> str:
    """The base address of a model server, without a final slash; raises ``InvalidInput`` naming ``where``.

    Only plain characters pass, so no line break, space or user information can reach a request's head.
    """
    if len(text) > URL_LENGTH_MAX:
        raise InvalidInput(
            f"{where}: an address has at most {URL_LENGTH_MAX} characters, got {len(text)}", where
        )
    found = _URL.fullmatch(text)
    if found is None:
        raise InvalidInput(f"{where}: {_url_fault(text)}; write for example http://127.0.0.1:8000", where)
    if found["port"] is not None and not 1 <= int(found["port"]) <= PORT_MAX:
        raise InvalidInput(f"{where}: a port is 1 to {PORT_MAX}, got {found['port']}", where)
    address = text.rstrip("/")
    if address.endswith(_VERSION_PATH) and found["path"]:
        raise InvalidInput(
            f"{where}: leave out the final {_VERSION_PATH}, the gateway adds the path of each API", where
        )
    return address


def check_engine(text: str, where: str = "engine") -> EngineKind:
    """The engine kind of a name; raises ``InvalidInput`` listing the names there are."""
    try:
        return EngineKind(text)
    except ValueError:
        known = ", ".join(EngineKind)
        raise InvalidInput(
            f"{where}: {text[:NAME_LENGTH_MAX]!r} is not a known engine; known are {known}", where
        ) from None


def check_on_hang_up(text: str, where: str = "on_hang_up") -> OnHangUp:
    """What a word says of hang-ups; raises ``InvalidInput`` listing the words there are."""
    try:
        return OnHangUp(text)
    except ValueError:
        known = ", ".join(OnHangUp)
        raise InvalidInput(
            f"{where}: {text[:NAME_LENGTH_MAX]!r} says nothing of a hang-up; known are {known}", where
        ) from None


def check_credential(text: str, where: str = "credential") -> Credential:
    """A credential that can stand in a header; raises ``InvalidInput`` without repeating it."""
    if not text or len(text) > CREDENTIAL_LENGTH_MAX:
        raise InvalidInput(
            f"{where}: a credential has 1 to {CREDENTIAL_LENGTH_MAX} characters, got {len(text)}", where
        )
    if not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidInput(
            f"{where}: a credential has no spaces, line breaks or characters outside ASCII", where
        )
    return Credential(text)


def check_concurrency(count: int | None, where: str = "concurrency") -> int | None:
    """A number of requests at once, or none; raises ``InvalidInput`` naming ``where``."""
    if count is not None and not 1 <= count <= CONCURRENCY_MAX:
        raise InvalidInput(f"{where}: between 1 and {CONCURRENCY_MAX} requests at once, got {count}", where)
    return count


def _url_fault(text: str) -> str:
    """What is wrong with an address; what may be a password in it is not repeated."""
    if "@" in text.partition("://")[2].partition("/")[0]:
        return "a user name or password does not belong into the address: give it as the credential"
    if "?" in text or "#" in text:
        return "an address of a server has no ? and no #"
    if not text.startswith(("http://", "https://")):
        return f"{text!r} does not begin with http:// or https://"
    return f"{text!r} is not an address"
