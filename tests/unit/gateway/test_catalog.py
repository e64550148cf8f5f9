"""The models a caller may ask for, as OpenAI's clients read them."""

import msgspec
import pytest

from billing.errors import NotFound
from billing.gateway.catalog import catalog
from billing.gateway.routes import CatalogRoute
from tests.gateway.fakes import APART, CALLER, KEY, NOW_US, FakeDirectory, snapshot

CARD = {"id": "tiny", "object": "model", "created": NOW_US // 1_000_000, "owned_by": "gateway"}


def directory(*, served: bool = True) -> FakeDirectory:
    return FakeDirectory({KEY: CALLER}, snapshot(served=served))


def shown(of: FakeDirectory, asked: CatalogRoute) -> bytes:
    return catalog(of, asked, CALLER, NOW_US)


def test_a_model_says_what_its_caller_pays_for_it() -> None:
    priced = FakeDirectory({KEY: CALLER}, snapshot(rates=APART))
    (card,) = msgspec.json.decode(shown(priced, CatalogRoute("/v1/models")))["data"]
    assert card["pricing"]["currency"] == "USD"
    assert {word for rate in card["pricing"]["rates"] for word in rate["components"]} >= {
        "uncached_input",
        "reasoning",
    }


def test_the_list_holds_what_something_serves() -> None:
    assert msgspec.json.decode(shown(directory(), CatalogRoute("/v1/models"))) == {
        "object": "list",
        "data": [CARD],
    }
    assert msgspec.json.decode(shown(directory(served=False), CatalogRoute("/v1/models"))) == {
        "object": "list",
        "data": [],
    }


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_one_model_is_found_by_its_name_and_its_alias(name: str) -> None:
    assert msgspec.json.decode(shown(directory(), CatalogRoute("/v1/models", name))) == CARD


@pytest.mark.parametrize(("name", "served"), [("other", True), ("tiny", False)])
def test_a_model_that_nothing_serves_does_not_exist(name: str, served: bool) -> None:
    with pytest.raises(NotFound, match=f"The model `{name}` does not exist") as fault:
        shown(directory(served=served), CatalogRoute("/v1/models", name))
    assert fault.value.param == "model"
