"""Where a model is answered: a backend, and the name that the backend knows the model by."""

from uuid import UUID

import msgspec

from billing.errors import InvalidInput

BACKEND_MODEL_LENGTH_MAX = 512
WEIGHT_MAX = 1_000_000
PRIORITY_MAX = 1_000
DEPLOYMENTS_MAX = 64


class Deployment(msgspec.Struct, frozen=True):
    """One backend of one model. Smaller priorities are tried first; equal ones share by weight."""

    id: UUID
    model_id: UUID
    backend_id: UUID
    backend_model: str
    created_at_us: int
    weight: int = 1
    priority: int = 0


class DeploymentRequest(msgspec.Struct, frozen=True):
    """What an operator says of a deployment; ``backend_model`` None means the model's public name."""

    backend: str
    backend_model: str | None = None
    weight: int = 1
    priority: int = 0


class Placement(msgspec.Struct, frozen=True):
    """A deployment as it is shown: with the names of both ends."""

    model: str
    backend: str
    backend_model: str
    weight: int
    priority: int


def check(request: DeploymentRequest, where: str = "deployments[0]") -> DeploymentRequest:
    """The request, if its parts can be; raises ``InvalidInput`` naming the part below ``where``."""
    name = request.backend_model
    if name is not None and (not name or len(name) > BACKEND_MODEL_LENGTH_MAX or not name.isprintable()):
        raise InvalidInput(
            f"{where}.backend_model: 1 to {BACKEND_MODEL_LENGTH_MAX} printable characters",
            f"{where}.backend_model",
        )
    if not 1 <= request.weight <= WEIGHT_MAX:
        raise InvalidInput(f"{where}.weight: 1 to {WEIGHT_MAX}, got {request.weight}", f"{where}.weight")
    if not 0 <= request.priority <= PRIORITY_MAX:
        raise InvalidInput(
            f"{where}.priority: 0 to {PRIORITY_MAX}, got {request.priority}", f"{where}.priority"
        )
    return request
