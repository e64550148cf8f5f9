"""A target of the best priority, by weight, by the id's own randomness."""

from collections import Counter
from random import Random
from uuid import UUID

import pytest

from billing.directory.caller import Backend, Deployment, Target
from billing.errors import Unavailable
from billing.gateway.routing import choose
from billing.ids import uuid7

MODEL_ID = UUID(int=1)


def target(number: int, weight: int = 1, priority: int = 0) -> Target:
    backend = Backend(
        UUID(int=number), f"gpu-{number}", "http://x", "vllm", None, None, archived=False, version=1
    )
    place = Deployment(
        UUID(int=number), MODEL_ID, backend.id, "m", weight, priority, archived=False, version=1
    )
    return Target(place, backend)


def draws(targets: tuple[Target, ...], count: int = 4_000) -> Counter[str]:
    random = Random(7)
    ids = (uuid7(1_795_500_000_000_000, random.randbytes(10)) for _ in range(count))
    return Counter(choose(targets, usage_id, "tiny").backend.name for usage_id in ids)


def test_nothing_that_serves_is_said_with_the_models_name() -> None:
    with pytest.raises(Unavailable, match="no backend serves the model `tiny`"):
        choose((), UUID(int=0), "tiny")


def test_the_only_target_is_chosen() -> None:
    assert choose((target(1),), UUID(int=5), "tiny") == target(1)


def test_a_worse_priority_is_never_drawn() -> None:
    assert set(draws((target(1), target(2), target(3, weight=1_000, priority=1)))) == {"gpu-1", "gpu-2"}


def test_draws_follow_the_weights() -> None:
    drawn = draws((target(1, weight=3), target(2, weight=1)))
    assert 2_850 <= drawn["gpu-1"] <= 3_150
    assert drawn.total() == 4_000


def test_the_same_id_always_goes_to_the_same_target() -> None:
    targets = (target(1), target(2), target(3))
    assert len({choose(targets, UUID(int=12345), "tiny").backend.name for _ in range(10)}) == 1


@pytest.mark.parametrize(
    ("ticket", "name"),
    [(0, "gpu-1"), (1, "gpu-1"), (2, "gpu-2"), (3, "gpu-3"), (4, "gpu-3"), (5, "gpu-3"), (6, "gpu-1")],
)
def test_tickets_fall_into_half_open_ranges(ticket: int, name: str) -> None:
    targets = (target(1, weight=2), target(2, weight=1), target(3, weight=3))
    assert choose(targets, UUID(int=ticket), "tiny").backend.name == name


def test_the_clock_inside_an_id_does_not_choose() -> None:
    targets = tuple(target(number) for number in range(1, 9))
    chosen = {
        choose(targets, uuid7(second * 1_000_000, b"0123456789"), "tiny").backend.name for second in range(50)
    }
    assert len(chosen) == 1
