"""Admission on a store in memory, at a time that the test makes up."""

import pytest

from billing.limits.admission import Admission
from billing.settings import LimitsSettings
from tests.limits_kit import FakeStore, Time

SETTINGS = LimitsSettings(replicas_max=5, queue_max=3, renewal_interval_s=10.0)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store(time: Time) -> FakeStore:
    return FakeStore(time)


@pytest.fixture
def admission(store: FakeStore, time: Time) -> Admission:
    return Admission(store, time, time, SETTINGS)
