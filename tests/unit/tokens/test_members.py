"""A body is read one level deep, and what is wrong with a member is said by its name."""

import msgspec
import pytest

from billing.errors import InvalidInput
from billing.tokens.members import (
    END_USER_LENGTH_MAX,
    MEMBERS_MAX,
    an_object,
    check_spelling,
    count_of,
    end_user_of,
    flag,
    items_of,
    members_of,
    model_of,
    output_max,
    shown,
    start,
    text_of,
    whole_number,
    with_members,
)
from billing.tokens.usage import COUNT_MAX

MEMBERS = members_of(
    b'{"model":"m","stream":true,"n":2,"none":null,"options":{"a":1},"list":[1,"x"],"user":"u","text":"secret prompt"}'
)


def test_what_a_member_holds_stays_as_it_was_written() -> None:
    members = members_of(b'{"a": 1.50, "b" : {"x": [1,  2]}}')
    assert bytes(members["b"]) == b'{"x": [1,  2]}'
    assert with_members(members, {}) == b'{"a":1.50,"b":{"x": [1,  2]}}'


def test_members_are_written_anew_added_and_taken_out() -> None:
    members = members_of(b'{"a":1,"b":2}')
    assert msgspec.json.decode(with_members(members, {"a": None, "b": 3, "c": {"d": True}})) == {
        "b": 3,
        "c": {"d": True},
    }


def test_a_name_that_stands_twice_is_read_and_written_once() -> None:
    assert with_members(members_of(b'{"n":1,"n":2}'), {}) == b'{"n":2}'


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "is not JSON"),
        (b"[]", "must be a JSON object"),
        (b"\xff", "is not JSON"),
        (b'{"a":' + b"[" * 100_000, "is not JSON"),
        (msgspec.json.encode({str(number): 1 for number in range(MEMBERS_MAX + 1)}), "more than 200"),
    ],
)
def test_what_is_no_body_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        members_of(body)


def test_reading() -> None:
    assert model_of(MEMBERS) == "m"
    assert flag(MEMBERS, "stream") is True
    assert flag(MEMBERS, "none", unsaid=True) is True
    assert flag(MEMBERS, "absent") is False
    assert (whole_number(MEMBERS, "n"), whole_number(MEMBERS, "none")) == (2, None)
    assert (an_object(MEMBERS, "options"), an_object(MEMBERS, "absent")) == ({"a": 1}, {})
    assert [bytes(item) for item in items_of(MEMBERS, "list")] == [b"1", b'"x"']
    assert items_of(MEMBERS, "absent") == []
    assert text_of(MEMBERS, "user") == "u"


@pytest.mark.parametrize("read", [flag, whole_number, an_object, items_of])
def test_a_member_of_another_type_is_refused_by_name_and_never_repeated(read: object) -> None:
    with pytest.raises(InvalidInput, match="text must be") as refusal:
        read(MEMBERS, "text")  # type: ignore[operator]  # each takes these
    assert refusal.value.param == "text"
    assert "secret" not in str(refusal.value)


def test_a_model_may_be_left_out_where_the_dialect_lets_it() -> None:
    assert model_of(members_of(b"{}"), required=False) == ""
    assert model_of(members_of(b'{"model":null}'), required=False) == ""
    with pytest.raises(InvalidInput, match="you must provide a model"):
        model_of(members_of(b"{}"))


@pytest.mark.parametrize(
    ("written", "tokens"),
    [
        ("5", 5),
        ("0", 0),
        ("-1", None),
        ("null", None),
        ('"5"', None),
        ("1.5", None),
        (str(COUNT_MAX + 1), None),
    ],
)
def test_what_is_no_count_says_nothing(written: str, tokens: int | None) -> None:
    members = members_of(b'{"max_tokens":%b,"other":3}' % written.encode())
    assert count_of(members, "max_tokens") == tokens
    says_nothing = written == "null"
    assert output_max(members, "max_tokens", "other") == (
        3 if says_nothing else None if tokens is None else max(tokens, 3)
    )
    assert output_max(members, "absent") is None


@pytest.mark.parametrize("text", ["u" * (END_USER_LENGTH_MAX + 1), "a\nb", "\x9b"])
def test_an_end_user_is_a_short_identifier(text: str) -> None:
    with pytest.raises(InvalidInput, match="user"):
        end_user_of(text)
    assert (end_user_of(None), end_user_of(""), end_user_of("ann")) == (None, None, "ann")


def test_a_kind_is_shown_and_no_text() -> None:
    assert shown(msgspec.Raw(b'"secret"')) == "a string"
    assert shown(msgspec.Raw(b"12345")) == "12345"
    assert start(msgspec.Raw(b"[1,2]"), 1) == b"["


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"model":"cheap","MODEL":"dear"}', "write model in lower case"),
        (b'{"model":"m","Stream":true}', "write stream in lower case"),
        (
            b'{"model":"m","\xc5\xbftream":true}',
            "write stream in lower case",
        ),  # a long s, which Go folds to s
        (b'{"model":"m","STREAM_OPTIONS":{"include_usage":false}}', "write stream_options in lower case"),
        (
            b'{"model":"m","stream_options":{"Include_Usage":false}}',
            r"write stream_options\.include_usage in lower case",
        ),
        (b'{"model":"m","options":{"Num_Predict":-1}}', r"write options\.num_predict in lower case"),
    ],
)
def test_another_spelling_of_what_is_metered_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        check_spelling(members_of(body))


def test_other_names_may_be_written_as_they_like() -> None:
    check_spelling(
        members_of(b'{"model":"m","topK":3,"stream_options":null,"options":{"Seed":1},"X":{"Model":1}}')
    )
