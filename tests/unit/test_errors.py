import inspect

import pytest

from billing import errors
from billing.errors import BillingError, InvalidInput, SpoolFull, Unavailable

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, BillingError)]


def test_each_error_has_a_kind_of_its_own() -> None:
    kinds = [cls.kind for cls in CLASSES]
    assert len(set(kinds)) == len(CLASSES)
    assert all(kind.replace("_", "").isalpha() and kind.islower() for kind in kinds)


def test_each_error_says_what_it_means() -> None:
    assert all(cls.__doc__ for cls in CLASSES)


def test_invalid_input_names_the_field_in_the_callers_words() -> None:
    assert InvalidInput("must be a string", "messages[0].role").param == "messages[0].role"
    assert InvalidInput("not JSON").param is None


def test_a_full_spool_is_a_way_of_being_unavailable() -> None:
    with pytest.raises(Unavailable, match="no room"):
        raise SpoolFull("no room")
