"""How an operation of the admin API describes itself: its summary, examples of both ways, and the problems it answers.

The description is the handler's docstring. Examples are values of the very types that the handler takes and gives, so
they cannot say what the API does not.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example, OpenAPIMediaType, OpenAPIResponse, Operation, RequestBody, Schema

from billing.admin.problem import MEDIA_TYPE, Problem, problem_of_status
from billing.ids import uuid7

JSON = "application/json"
EXAMPLE_NAME = "example"
_EXAMPLE_ID = uuid7(1_795_514_400_000_000, bytes(10))
_SENTENCES = {
    400: "limit: Expected `int` <= 200",
    401: "no admin token was sent; send it as: Authorization: Bearer adm-…",
    404: "there is no tenant 'acme'",
    409: "tenant acme exists already",
    413: "Request Entity Too Large",
    503: "Postgres cannot be reached: connection refused",
}
_DONE = "Done"
ALWAYS = (400, 401, 503)
"""Problems that any operation may answer."""


def described(
    summary: str,
    answer: object,
    *,
    sent: object = None,
    refusals: Sequence[int] = (),
    media_type: str = JSON,
    container: Any = None,
) -> dict[str, Any]:
    """Arguments of a route's decorator. ``answer`` and ``sent`` are examples; ``sent`` None means there is no body.

    ``sent`` may be a mapping from media types to examples, for a body that the handler reads by itself. ``container`` is
    the type of the answer where the handler gives bytes that are ready to be sent.
    """
    statuses = sorted({*ALWAYS, *refusals, *((413,) if sent is not None else ())})
    responses = {status: _problem_response(status) for status in statuses}
    if container is not None:
        responses[200] = ResponseSpec(
            container, generate_examples=False, description=_DONE, media_type=media_type
        )
    return {
        "summary": summary,
        "operation_class": _operation_class(answer, sent, media_type),
        "responses": responses,
        "response_description": _DONE,
    }


def _operation_class(answer: object, sent: object, media_type: str) -> type[Operation]:
    """An operation that completes itself by examples, which Litestar has no place for."""

    def complete(self: Operation, **fields: Any) -> None:
        Operation.__init__(self, **fields)
        if isinstance(sent, Mapping):
            self.request_body = RequestBody(
                content={kind: _typed(each) for kind, each in sent.items()}, required=True
            )
        elif self.request_body is not None and isinstance(self.request_body, RequestBody):
            self.request_body.content[JSON].examples = _examples(sent)
        for status, response in (self.responses or {}).items():
            if status.startswith("2") and isinstance(response, OpenAPIResponse) and response.content:
                response.content[media_type].examples = _examples(answer)

    return type("DescribedOperation", (Operation,), {"__init__": complete})


def _typed(example: object) -> OpenAPIMediaType:
    kind = "string" if isinstance(example, str) else "array" if isinstance(example, list) else "object"
    return OpenAPIMediaType(schema=Schema(type=kind), examples=_examples(example))  # type: ignore[arg-type]  # an enum of Litestar's with these values


def _examples(value: object) -> dict[str, Any]:
    # As JSON that is ready, because Litestar leaves nulls out of what it writes itself.
    return {EXAMPLE_NAME: Example(value=msgspec.Raw(msgspec.json.encode(value)))}


def _problem_response(status: int) -> ResponseSpec:
    answer = problem_of_status(status, _SENTENCES[status], _EXAMPLE_ID)
    return ResponseSpec(
        Problem,
        generate_examples=False,
        description=answer.title,
        media_type=MEDIA_TYPE,
        examples=[Example(id=EXAMPLE_NAME, value=msgspec.to_builtins(answer))],
    )
