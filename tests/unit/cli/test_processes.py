from typing import Any

import pytest

from billing.cli.processes import addresses_of, settings_of
from billing.errors import InvalidInput, Misconfigured
from billing.settings import Durability, Settings


def test_the_gateway_s_options_become_its_settings() -> None:
    made = settings_of(Settings(), workers=4, host="0.0.0.0", port=9000, durability="after_reply")  # noqa: S104 - an option's value
    gateway = made.gateway
    assert (gateway.workers, gateway.host, gateway.port) == (4, "0.0.0.0", 9000)  # noqa: S104 - the same
    assert gateway.durability is Durability.AFTER_REPLY


def test_options_that_make_no_sense_are_refused_before_anything_starts() -> None:
    with pytest.raises(
        Misconfigured, match="workers must be 1 to 64, got 0; port must be 0 to 65535, got 70000"
    ):
        settings_of(Settings(), workers=0, host="::1", port=70_000, durability="before_reply")


def test_addresses_of_model_servers_are_taken_once_each_and_checked_before_anything_starts() -> None:
    assert addresses_of(["http://gpu-7:8000/", "http://gpu-7:8000"]) == ["http://gpu-7:8000"]
    with pytest.raises(InvalidInput, match="--backend: leave out the final /v1"):
        addresses_of(["http://gpu-7:8000/v1"])
    with pytest.raises(InvalidInput, match="--backend: at most 16 addresses, got 17"):
        addresses_of([f"http://gpu-{number}:8000" for number in range(17)])


def test_the_options_of_limits_become_their_settings() -> None:
    options: dict[str, Any] = {"workers": 1, "host": "::1", "port": 0, "durability": "before_reply"}
    limits = settings_of(Settings(), **options, replicas_max=64, limits_timeout_ms=20).limits
    assert (limits.replicas_max, limits.timeout_s) == (64, 0.02)
    with pytest.raises(Misconfigured, match="replicas_max must be 1 to 100,000, got 0"):
        settings_of(Settings(), **options, replicas_max=0)
