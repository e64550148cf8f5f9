"""An event as it is sent: what is taken, what is refused and where, and what makes two events the same."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.clock import to_datetime
from billing.errors import InvalidInput
from billing.metering.external.event import (
    AGE_MAX_DAYS,
    EXTENSIONS_MAX,
    FUTURE_MAX_S,
    ID_BYTES_MAX,
    SOURCE_BYTES_MAX,
    ExternalEvent,
    payload_hash,
    read_event,
    usage_id_bytes,
)
from tests.events_kit import NOW, event
from tests.invoice_kit import at

TENANT, OTHER = UUID(int=1), UUID(int=2)


def read(**changes: Any) -> ExternalEvent:
    return read_event(event() | changes, "", at(NOW))


def refused(changes: dict[str, Any], *absent: str) -> tuple[str, str | None]:
    sent = {name: value for name, value in (event() | changes).items() if name not in absent}
    with pytest.raises(InvalidInput) as caught:
        read_event(sent, "[3]", at(NOW))
    return str(caught.value), caught.value.param


def test_an_event_says_who_used_what_and_when() -> None:
    found = read()
    assert (found.tenant, found.source, found.id) == ("acme", "/trainers/job-17", "step-1")
    assert (found.at_us, found.data.training) == (at("2026-11-24T10:00:00Z"), 4_096)
    assert repr(found) == "<ExternalEvent '/trainers/job-17' 'step-1' of acme>"


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-24t10:00:00z",
        "2026-11-24T15:30:00+05:30",
        "2026-11-24T10:00:00.000000Z",
        "2026-11-24T10:00:00.0000001Z",
    ],
)
def test_one_instant_is_written_in_many_ways(time: str) -> None:
    assert read(time=time).at_us == at("2026-11-24T10:00:00Z")


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type", "time", "subject", "data"])
def test_what_is_required_is_missed_by_name(name: str) -> None:
    assert refused({}, name) == refused({name: None})
    reason, param = refused({}, name)
    assert (param, reason.startswith(f"[3].{name}: missing; write for example ")) == (f"[3].{name}", True)


@pytest.mark.parametrize(
    ("changes", "param", "sentence"),
    [
        ({"specversion": "0.3"}, "specversion", "'0.3' is not known; it must be 1.0"),
        ({"specversion": 1.0}, "specversion", "must be text, got a number"),
        ({"type": "billing.usage.v2"}, "type", "it must be billing.usage.v1"),
        ({"id": 7}, "id", "must be text, got a number"),
        ({"id": " "}, "id", "printable text and not empty"),
        ({"id": "a\x00"}, "id", "printable text and not empty"),
        ({"source": "a\u202eb"}, "source", "printable text and not empty"),
        ({"source": "é" * (SOURCE_BYTES_MAX // 2) + "x"}, "source", "at most 512 bytes, got 513"),
        ({"id": "x" * (ID_BYTES_MAX + 1)}, "id", "at most 256 bytes, got 257"),
        ({"subject": "Acme Inc."}, "subject", "is not a slug"),
        ({"datacontenttype": "application/xml"}, "datacontenttype", "data must be application/json"),
        ({"datacontenttype": 7}, "datacontenttype", "data must be application/json"),
        ({"time": "yesterday"}, "time", "is not an instant of RFC 3339"),
        ({"time": "2026-11-24"}, "time", "is not an instant of RFC 3339"),
        ({"time": "2026-11-24T10:00:00"}, "time", "is not an instant of RFC 3339"),
        ({"time": "20261124T100000Z"}, "time", "is not an instant of RFC 3339"),
        ({"time": "٢٠٢٦-11-24T10:00:00Z"}, "time", "is not an instant of RFC 3339"),
        ({"time": "2026-13-24T10:00:00Z"}, "time", "is not an instant of RFC 3339"),
        ({"time": "2026-11-24T10:00:60Z"}, "time", "is not an instant of RFC 3339"),
        ({"time": "1970-01-01T00:00:00Z"}, "time", "lies outside the years 2000 to 2200"),
        ({"time": 1_795_514_400}, "time", "must be text, got a number"),
        ({"data": "x"}, "data", "must be an object, got text"),
        ({"data": {"model": "m", "outptu": 5}}, "data.outptu", "unknown"),
        ({"output": 5}, "output", "belongs inside data"),
        ({"data_base64": "e30="}, "data_base64", "send JSON as data"),
        ({"Model": "x"}, "Model", "unknown, and no extension attribute of CloudEvents"),
        ({"trace": {"a": 1}}, "trace", "unknown, and no extension attribute of CloudEvents"),
        ({"x" * 65: "y"}, "x" * 65, "unknown"),
    ],
)
def test_what_is_refused_is_named_by_its_path(changes: dict[str, Any], param: str, sentence: str) -> None:
    reason, found = refused(changes)
    assert found == f"[3].{param}"
    assert sentence in reason
    assert len(reason) < 400


def test_how_old_and_how_far_ahead_an_event_may_be() -> None:
    now = to_datetime(at(NOW))
    for distance, is_taken in (
        (timedelta(seconds=FUTURE_MAX_S), True),
        (timedelta(seconds=FUTURE_MAX_S, microseconds=1), False),
        (-timedelta(days=AGE_MAX_DAYS), True),
        (-timedelta(days=AGE_MAX_DAYS, microseconds=1), False),
    ):
        time = (now + distance).isoformat()
        if is_taken:
            assert to_datetime(read(time=time).at_us) == now + distance
        else:
            assert refused({"time": time})[1] == "[3].time"


def test_attributes_of_others_are_ignored_and_bounded() -> None:
    others = {
        "traceparent": "00-1",
        "partitionkey": 7,
        "sampled": True,
        "dataschema": "https://x",
        "none": None,
    }
    assert read(**others) == read()
    reason, param = refused({f"x{number}": 1 for number in range(EXTENSIONS_MAX + 1)})
    assert (param, "at most 32 extension attributes, got 33" in reason) == ("[3]", True)


@pytest.mark.parametrize("value", [None, 7, "x", [], True])
def test_an_event_is_an_object(value: object) -> None:
    for where, param in (("[3]", "[3]"), ("", None)):
        with pytest.raises(InvalidInput, match="an event is an object, got") as caught:
            read_event(value, where, at(NOW))
        assert caught.value.param == param


def test_the_same_said_in_another_way_is_the_same_payload() -> None:
    sent = event(training=5, tags={"a": "1", "b": "2"})
    turned = {name: sent[name] for name in reversed(sent)} | {
        "time": "2026-11-24T11:00:00+01:00",
        "traceparent": "x",
    }
    turned["data"] = {
        "tags": {"b": "2", "a": "1"}, "training": 5, "operation": "training", "model": "golden", "output": None,
    }  # fmt: skip
    first, second = (read_event(json.loads(json.dumps(each)), "", at(NOW)) for each in (sent, turned))
    assert payload_hash(first) == payload_hash(second)
    assert len(payload_hash(first)) == 16


@pytest.mark.parametrize(
    "changes",
    [
        {"time": "2026-11-24T10:00:00.000001Z"},
        {"data": {"model": "golden", "training": 4_097}},
        {"data": {"model": "silver", "training": 4_096}},
        {"data": {"model": "golden", "gpu_second": 4_096}},
        {"data": {"model": "golden", "training": 4_096, "estimated": True}},
        {"data": {"model": "golden", "training": 4_096, "project": "lab"}},
        {"data": {"model": "golden", "training": 4_096, "image": 0}},
    ],
)
def test_something_else_is_another_payload(changes: dict[str, Any]) -> None:
    assert payload_hash(read(**changes)) != payload_hash(read())


def test_the_bytes_of_a_usage_id_follow_from_the_name_alone() -> None:
    assert len(usage_id_bytes(read(), TENANT)) == 10
    assert usage_id_bytes(read(data={"model": "x", "training": 1}), TENANT) == usage_id_bytes(read(), TENANT)
    # Moving a sign from one part to the other makes another name.
    others = [(read(), OTHER), (read(id="2"), TENANT), (read(source="/trainers/job-17s", id="tep-1"), TENANT)]
    assert len({usage_id_bytes(each, tenant) for each, tenant in [(read(), TENANT), *others]}) == 4


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from([*event(), "other"]) | st.text(max_size=8), JSON, max_size=4),
    JSON | st.none(),
)
def test_whatever_is_sent_is_taken_or_refused_with_a_path(changes: dict[str, Any], data: Any) -> None:
    inside = event() | {"data": event()["data"] | changes}
    for sent in (event() | changes, event() | {"data": data}, inside, data):
        assert (param_of_refusal(sent) or "[3]").startswith("[3]")


def param_of_refusal(sent: Any) -> str | None:
    """The path that a refusal names, which each has; None when the event is taken."""
    try:
        payload_hash(read_event(sent, "[3]", at(NOW)))
    except InvalidInput as fault:
        return str(fault.param)
    return None
