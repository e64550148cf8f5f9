"""Every error has a status and the shape of RFC 9457; what is not the caller's business is not told."""

from uuid import UUID

import msgspec
import pytest

from billing import errors
from billing.admin.problem import KINDS, explained, failure, headers_of, problem, problem_of_status
from billing.errors import (
    BillingError,
    Conflict,
    InvalidInput,
    LimitReached,
    Misconfigured,
    NotFound,
    Unauthenticated,
)

ID = UUID("019ab3f4-8c00-7000-8000-000000000001")


def every(kind: type[BillingError] = BillingError) -> list[type[BillingError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in every(child))]


OURS = [kind for kind in every() if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_kind_of_error_is_mapped(kind: type[BillingError]) -> None:
    assert kind.kind in KINDS
    answer = problem(kind("the sentence"), ID)
    assert answer.type == f"urn:billing:problem:{kind.kind}"
    assert answer.instance == f"urn:uuid:{ID}"
    assert (answer.detail == "the sentence") is (answer.status != 500)
    assert answer.title
    assert 400 <= answer.status <= 599


def test_no_kind_is_listed_that_does_not_exist() -> None:
    assert {kind.kind for kind in OURS} == KINDS


def test_a_field_is_named_where_it_is_known() -> None:
    assert problem(InvalidInput("slug: no", "slug"), ID).param == "slug"
    assert problem(NotFound("no model", "model"), ID).param == "model"
    assert "param" not in msgspec.to_builtins(problem(Conflict("taken"), ID))


def test_the_text_of_a_failure_stays_inside() -> None:
    for answer in (failure(ID), problem(Misconfigured("/etc/secret is missing"), ID)):
        assert answer.status == 500
        assert "secret" not in answer.detail
        assert "log" in answer.detail


def test_an_operator_without_a_token_is_asked_for_one() -> None:
    answer = problem(Unauthenticated("no token"), ID)
    assert headers_of(answer)["www-authenticate"] == 'Bearer realm="billing"'
    assert headers_of(answer)["x-request-id"] == str(ID)
    assert set(headers_of(problem(Conflict("x"), ID))) == {"x-request-id"}


def test_a_limit_says_when_to_come_back_and_never_too_early() -> None:
    fault = LimitReached("x", retry_after_us=1_000_001)
    assert headers_of(problem(fault, ID), fault)["retry-after"] == "2"


@pytest.mark.parametrize(("status", "kind"), [(404, "not_found"), (405, "wrong_method"), (413, "too_large"), (415, "invalid_input"), (507, "internal")])  # fmt: skip
def test_the_frameworks_statuses_have_a_kind(status: int, kind: str) -> None:
    answer = problem_of_status(status, "x", ID)
    assert (answer.status, answer.type) == (status, f"urn:billing:problem:{kind}")
    assert answer.title


def test_a_validation_says_where_each_fault_is() -> None:
    extra = [
        {"key": "deployments[0].weight", "message": "Expected `int`, got `str`", "source": "body"},
        {"key": "data", "message": "Object missing required field `name`"},
    ]
    assert explained(extra, "x") == (
        "deployments[0].weight: Expected `int`, got `str`; Object missing required field `name`",
        "deployments[0].weight",
    )
    assert explained(None, "no body") == ("no body", None)
    assert explained([], "no body") == ("no body", None)
