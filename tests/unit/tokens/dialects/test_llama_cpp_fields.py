"""Of a final object a client sees the fields it asked for, in its order, and never those that only metering asked for."""

import msgspec
import pytest

from billing.tokens.dialects.llama_cpp_fields import COUNT_FIELDS, View, decode_members, with_setting

ADDED = b'"index":0,"stop":true,"tokens_predicted":3,"tokens_evaluated":4,"timings/cache_n":1'
SETTINGS = b'{"seed":1,"stream":true,"timings_per_token":true,"lora":[]}'


def final(fields: tuple[str, ...], data: bytes, *, stream: bool = False, timed: bool = False) -> bytes:
    return msgspec.json.encode(View(fields, timed).of_final(decode_members(data), stream=stream))


@pytest.mark.parametrize(
    ("fields", "own"),
    [
        (("content",), b'"content":"x"'),
        (("timings/predicted_n", "content"), b'"timings/predicted_n":3,"content":"x"'),
        (("timings",), b'"timings":{"cache_n":1}'),
        (("nothing",), b""),
        (("caf\u00e9",), '"caf\u00e9":1'.encode()),
    ],
)
def test_what_was_added_is_taken_out_again(fields: tuple[str, ...], own: bytes) -> None:
    assert final(fields, b"{" + b",".join(filter(None, [own, ADDED])) + b"}") == b"{" + own + b"}"


def test_a_count_that_the_client_asked_for_stays() -> None:
    assert final(("stop", "tokens_predicted"), b"{" + ADDED + b"}") == b'{"stop":true,"tokens_predicted":3}'


def test_an_engine_that_reduces_nothing_has_nothing_taken_out() -> None:
    whole = b'{"index":0,"content":"x","stop":true,"tokens_predicted":3,"tokens_evaluated":4,"prompt":"y"}'
    assert final(("content",), whole) == whole


def test_the_counts_are_asked_for_after_the_clients_own_fields() -> None:
    assert View(("stop", "content")).upstream_fields() == [
        "stop", "content", "index", "tokens_predicted", "tokens_evaluated", "timings/cache_n",
    ]  # fmt: skip
    assert set(COUNT_FIELDS) <= set(View(("x",)).upstream_fields())


def test_the_settings_are_echoed_as_the_client_sent_them() -> None:
    data = b'{"generation_settings":%b,"stop":true}' % SETTINGS
    untimed = data.replace(b'"timings_per_token":true', b'"timings_per_token":false')
    assert final((), data, stream=True) == untimed
    assert final((), data, stream=True, timed=True) == data
    assert final((), data, stream=False) == data


def test_one_setting_that_was_asked_for_is_echoed_so_too() -> None:
    name = "generation_settings/timings_per_token"
    assert (
        final((name,), b'{"%b":true,"stop":true}' % name.encode(), stream=True)
        == b'{"%b":false}' % name.encode()
    )


@pytest.mark.parametrize("settings", [b"null", b"5", b"[]", b"{}", b'{"seed":1}'])
def test_settings_of_another_shape_stay(settings: bytes) -> None:
    assert with_setting(msgspec.Raw(settings), "stream", msgspec.Raw(b"false")) == msgspec.Raw(settings)


def test_a_partial_event_loses_timings_only() -> None:
    members = decode_members(b'{"content":"x","timings":{"cache_n":1},"tokens_predicted":3}')
    assert (
        msgspec.json.encode(View(("content",)).of_partial(dict(members)))
        == b'{"content":"x","tokens_predicted":3}'
    )
    assert View(timed=True).of_partial(dict(members)) == members
