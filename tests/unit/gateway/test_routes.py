"""Only what is listed can be reached, by the method it takes."""

import pytest

from billing.errors import BillingError, NotFound
from billing.gateway.problem import problem
from billing.gateway.routes import CatalogRoute, route
from billing.tokens.dialects.routes import Route
from billing.tokens.operation import Operation


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/v1/chat/completions", Operation.CHAT),
        ("/v1/completions", Operation.COMPLETIONS),
        ("/v1/embeddings", Operation.EMBEDDINGS),
    ],
)
def test_operations(path: str, operation: Operation) -> None:
    found = route("POST", path)
    assert isinstance(found, Route)
    assert found.operation is operation


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/models", None),
        ("/v1/models/", None),
        ("/v1/models/tiny", "tiny"),
        ("/v1/models/acme/tiny", "acme/tiny"),
        ("/v1/models/acme%2Ftiny", "acme/tiny"),  # as OpenAI's own client writes a name with a slash
        ("/v1/models/tiny%3Av2", "tiny:v2"),
    ],
)
def test_models(path: str, name: str | None) -> None:
    assert route("GET", path) == CatalogRoute("/v1/models", name)


NOT_SERVED = [
    "", "/v1", "/v1/", "/metrics", "/health", "/slots", "/props", "/v1/stream",
    "/v1/messages/", "/v1/responses/resp_1", "/v1/responses/resp_1/cancel", "/api/pull", "/api/push", "/api/create",
    "/api/delete", "/api/copy", "/api/blobs/sha256:0", "/v2/models", "/v2/repository/index", "/v2/models/x/load",
    "/v1/chat/completions/control", "/v1/chat/completions/", "/v1//chat/completions",
    "/v1/chat/completions/../../slots", "/V1/chat/completions", "/chat/completions", "/v1/chat%2Fcompletions",
    "/v1/load_lora_adapter", "/abort_requests", "/models/load", "/lora-adapters", "/v1/modelsx", "http://x/v1/models",
    "/v1/embeddings;x", "/pause", "/reset_prefix_cache", "/server_info", "/sleep",
]  # fmt: skip


@pytest.mark.parametrize("path", NOT_SERVED)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_else_is_served(method: str, path: str) -> None:
    with pytest.raises(NotFound, match=r"Served here: .*/v1/chat/completions"):
        route(method, path)


@pytest.mark.parametrize(
    ("method", "path", "takes"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("PUT", "/v1/completions", "POST"),
        ("DELETE", "/v1/embeddings", "POST"),
        ("post", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("DELETE", "/v1/models/tiny", "GET"),
    ],
)
def test_the_wrong_method_is_a_405_that_names_the_right_one(method: str, path: str, takes: str) -> None:
    with pytest.raises(BillingError, match=f"takes {takes}, not {method}") as refusal:
        route(method, path)
    assert problem(refusal.value).status == 405


def test_what_the_control_process_answers_is_said_with_its_address() -> None:
    for path in ("/v1/usage", "/v1/usage/019ab3f4", "/v1/limits", "/v1/estimate"):
        with pytest.raises(NotFound, match="is answered by http://control:8091, with the same key"):
            route("GET", path, "http://control:8091")
    with pytest.raises(NotFound, match="billing control"):
        route("GET", "/v1/limits")
