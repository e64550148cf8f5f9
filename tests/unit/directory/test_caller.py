"""What the data plane knows of a tenant never shows a secret."""

from uuid import UUID

import msgspec
import pytest

from billing.directory.caller import Backend, Caller, Deployment, Model, Target
from billing.fleet.backend import OnHangUp

BACKEND = Backend(
    UUID(int=1), "gpu-1", "http://engine:8000", "vllm", "sk-secret", 8, archived=False, version=3
)


def test_a_backend_is_shown_without_its_credential() -> None:
    target = Target(
        Deployment(UUID(int=2), UUID(int=3), BACKEND.id, "m", 1, 0, archived=False, version=1), BACKEND
    )
    assert repr(BACKEND) == "<Backend gpu-1 vllm http://engine:8000>"
    assert "sk-secret" not in f"{BACKEND} {target!r} {(BACKEND,)}"


def test_values_cannot_be_changed() -> None:
    caller = Caller(UUID(int=1), "acme", None, UUID(int=2), {"team": "a"})
    for value, name in ((BACKEND, "url"), (caller, "tenant_id")):
        with pytest.raises(AttributeError):
            setattr(value, name, "other")


def test_values_survive_their_bytes() -> None:
    assert msgspec.json.decode(msgspec.json.encode(BACKEND), type=Backend) == BACKEND


def test_what_nobody_has_said_is_the_plainest() -> None:
    model = Model(UUID(int=3), "tiny", (), archived=False, created_us=0, version=1)
    assert BACKEND.on_hang_up == OnHangUp.ABORT
    assert (model.reasoning_start, model.reasoning_end, model.tokenizer) == (None, None, None)
