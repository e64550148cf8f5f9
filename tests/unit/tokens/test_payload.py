"""Counts are read from what engines send, and from what they should never send, without a crash and without a guess."""

import pytest

from billing.tokens.payload import PromptDetails, Timings, Usage, count, decode, usage_of, usage_of_timings
from billing.tokens.usage import COUNT_MAX, UNKNOWN, Count, Part, Provenance, TokenUsage

NOT_AN_OBJECT = {
    "nothing": b"", "null": b"null", "a number": b"5", "a list": b"[1]", "a word": b'"x"', "half an object": b'{"id":',
    "half a list": b"[1", "the end mark": b"[DONE]", "no JSON": b"hello",
    "bytes that are no text": b"\xff\xfe\x00", "text that is no UTF-8": b'"\xff"', "a trailing comma": b'{"id":"a",}',
    "two objects": b'{"id":"a"}{"id":"b"}',
}  # fmt: skip


@pytest.mark.parametrize("data", NOT_AN_OBJECT.values(), ids=NOT_AN_OBJECT)
def test_what_is_no_object_is_no_reply(data: bytes) -> None:
    assert decode(data) is None


NEVER_A_CRASH = {
    "a wrong type before the text breaks off": b'{"id": 5, "x": ',
    "a wrong type, then nesting without end": b'{"id":5,"x":' + b"[" * 200_000,
    "nesting too deep where choices belong": b'{"choices":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nesting too deep elsewhere": b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a wrong type, then half a surrogate": b'{"id":5,"z":"\\ud800"}',
    "half a surrogate": b'{"id":"\\ud800"}',
    "an id that is no UTF-8": b'{"id":"\xff"}',
    "content that is no UTF-8": b'{"choices":[{"index":0,"delta":{"content":"\xc3"}}]}',
    "a member name that is no UTF-8": b'{"\xff":1}',
    "a count of 5,000 digits": b'{"usage":{"prompt_tokens":' + b"9" * 5_000 + b"}}",
    "a count beyond any float": b'{"usage":{"prompt_tokens":1e400}}',
}


@pytest.mark.parametrize("data", NEVER_A_CRASH.values(), ids=NEVER_A_CRASH)
def test_no_payload_crashes_the_reader(data: bytes) -> None:
    decode(data)


@pytest.mark.parametrize("data", [b'{"id":"\\ud800"}', b'{"id":"\\ud800","model":7}'])
def test_what_is_kept_of_half_a_surrogate_can_be_written_to_a_record(data: bytes) -> None:
    reply = decode(data)
    assert ((reply and reply.id) or "").encode() is not None


BESIDE_COUNTS = {
    "an id that is a number": b'"id":5',
    "a model that is null": b'"model":null',
    "choices that are null": b'"choices":null',
    "choices that are an object": b'"choices":{}',
    "choices of other things": b'"choices":[null,1,"x",[]]',
    "a choice of wrong types": b'"choices":[{"index":"a","delta":[],"finish_reason":3,"text":{}}]',
    "content that is a list": b'"choices":[{"index":0,"delta":{"content":[{"type":"text"}]}}]',
    "timings of text": b'"timings":{"cache_n":"x","prompt_n":null,"predicted_n":[]}',
    "timings that are a list": b'"timings":[]',
    "an error that is an object": b'"error":{"message":"no"}',
    "content that is no UTF-8": b'"choices":[{"index":0,"message":{"content":"\xc3("}}]',
    "half a surrogate in the content": b'"choices":[{"index":0,"message":{"content":"\\ud83d"}}]',
    "a member nested too deep": b'"x":' + b"[" * 5_000 + b"]" * 5_000,
    "a tool call nested too deep": b'"choices":[{"index":0,"message":{"tool_calls":'
    + b'{"a":' * 5_000
    + b"1"
    + b"}" * 5_002
    + b"]",
    "a number of a million digits": b'"x":' + b"1" * 1_000_000,
    "a wrong type and a number of a million digits": b'"id":5,"x":' + b"1" * 1_000_000,
}


@pytest.mark.parametrize("member", BESIDE_COUNTS.values(), ids=BESIDE_COUNTS)
def test_a_broken_member_never_costs_the_counts_beside_it(member: bytes) -> None:
    reply = decode(b"{" + member + b',"usage":{"prompt_tokens":32,"completion_tokens":53,"total_tokens":85}}')
    assert reply is not None
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (32, 53)


NO_NUMBER = {
    "missing": b"", "null": b'"prompt_tokens":null,', "true": b'"prompt_tokens":true,', "text": b'"prompt_tokens":"many",',
    "text of a fraction": b'"prompt_tokens":"32.5",', "text below 0": b'"prompt_tokens":"-32",', "no text": b'"prompt_tokens":"",',
    "digits of another script": '"prompt_tokens":"٣٢",'.encode(), "endless": b'"prompt_tokens":1e400,',
    "a million digits": b'"prompt_tokens":' + b"1" * 1_000_000 + b",", "a text of a million digits": b'"prompt_tokens":"%b",' % (b"1" * 1_000_000),
    "a fraction": b'"prompt_tokens":32.5,', "a list": b'"prompt_tokens":[32],', "an object": b'"prompt_tokens":{},',
}  # fmt: skip


@pytest.mark.parametrize("member", NO_NUMBER.values(), ids=NO_NUMBER)
def test_what_is_no_number_is_unknown_and_its_neighbour_is_kept(member: bytes) -> None:
    reply = decode(
        b'{"usage":{' + member + b'"completion_tokens":53,"prompt_tokens_details":{"cached_tokens":true}}}'
    )
    assert reply is not None
    assert reply.usage is not None
    usage = usage_of(reply.usage, Provenance.REPORTED)
    assert usage.input == UNKNOWN
    assert usage.cached_input == UNKNOWN
    assert usage.output.value == 53


@pytest.mark.parametrize("number", [b"32.0", b"3.2e1", b'"32"'])
def test_a_whole_number_is_one_however_it_is_written(number: bytes) -> None:
    reply = decode(
        b'{"usage":{"prompt_tokens":%b,"prompt_tokens_details":{"cached_tokens":%b}},"timings":{"prompt_n":%b}}'
        % (number, number, number)
    )
    assert reply is not None
    assert reply.usage == Usage(prompt_tokens=32, prompt_tokens_details=PromptDetails(cached_tokens=32))
    assert reply.timings == Timings(prompt_n=32)


@pytest.mark.parametrize(("prompt", "completion"), [(-1, 5), (5, -1)])
def test_a_count_below_0_hides_no_tokens_in_the_total(prompt: int, completion: int) -> None:
    assert usage_of(Usage(prompt, completion, 15), Provenance.REPORTED).parts == {}
    assert usage_of(Usage(1, 5, 15), Provenance.REPORTED).parts[Part.HIDDEN].value == 9


def test_details_of_a_wrong_type_are_missing_details() -> None:
    reply = decode(
        b'{"usage":{"prompt_tokens":1,"prompt_tokens_details":[],"completion_tokens_details":"x"}}'
    )
    assert reply is not None
    assert reply.usage == Usage(prompt_tokens=1)


@pytest.mark.parametrize(
    "usage", [b"{}", b'{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}', b'{"x":1}']
)
def test_an_empty_usage_says_nothing(usage: bytes) -> None:
    reply = decode(b'{"usage":' + usage + b"}")
    assert reply is not None
    assert reply.usage is not None
    assert reply.usage.empty


@pytest.mark.parametrize("value", [-1, COUNT_MAX + 1, 10**30, None])
def test_a_negative_or_absurd_count_is_unknown(value: int | None) -> None:
    assert count(value, Provenance.REPORTED, "m") == UNKNOWN


@pytest.mark.parametrize("value", [0, 1, COUNT_MAX])
def test_a_sensible_count_keeps_its_provenance(value: int) -> None:
    assert count(value, Provenance.RUNNING, "m") == Count(value, Provenance.RUNNING, "m")


def test_the_counts_of_vllm_with_details() -> None:
    reply = decode(
        b'{"usage":{"prompt_tokens":32,"total_tokens":85,"completion_tokens":53,"prompt_tokens_details":'
        b'{"cached_tokens":16,"created_cache_tokens":8},"completion_tokens_details":{"reasoning_tokens":20}}}'
    )
    assert reply is not None
    assert reply.usage is not None
    assert usage_of(reply.usage, Provenance.REPORTED) == TokenUsage(
        input=Count(32, Provenance.REPORTED, "usage.prompt_tokens"),
        cached_input=Count(16, Provenance.REPORTED, "usage.prompt_tokens_details.cached_tokens"),
        cache_write=Count(8, Provenance.REPORTED, "usage.prompt_tokens_details.cache_write_tokens"),
        output=Count(53, Provenance.REPORTED, "usage.completion_tokens"),
        reasoning=Count(20, Provenance.REPORTED, "usage.completion_tokens_details.reasoning_tokens"),
    )


def test_openais_name_of_written_tokens_goes_before_vllms_and_a_reported_zero_counts() -> None:
    reply = decode(
        b'{"usage":{"prompt_tokens":9,"prompt_tokens_details":{"cache_write_tokens":0,"created_cache_tokens":5}}}'
    )
    assert reply is not None
    assert reply.usage is not None
    assert usage_of(reply.usage, Provenance.REPORTED).cache_write.value == 0


def test_an_embeddings_reply_has_an_output_of_zero() -> None:
    assert usage_of(Usage(prompt_tokens=6, total_tokens=6), Provenance.REPORTED).output.value == 0


def test_an_output_that_is_missing_is_not_zero() -> None:
    assert usage_of(Usage(prompt_tokens=6), Provenance.REPORTED).output == UNKNOWN
    assert usage_of(Usage(prompt_tokens=6, total_tokens=9), Provenance.REPORTED).output == UNKNOWN


TIMINGS = {
    "all": (Timings(cache_n=31, prompt_n=1, predicted_n=53), (32, 31, 53)),
    "an old build without cache_n": (Timings(prompt_n=32, predicted_n=53), (32, None, 53)),
    "no prompt count": (Timings(cache_n=31, predicted_n=53), (None, 31, 53)),
    "nothing": (Timings(), (None, None, None)),
    "the prompt is being read": (Timings(cache_n=31, prompt_n=0, predicted_n=0), (31, 31, 0)),
    "a negative rest": (Timings(cache_n=31, prompt_n=-1, predicted_n=53), (None, 31, 53)),
    "a negative cache": (Timings(cache_n=-1, prompt_n=32, predicted_n=53), (32, None, 53)),
    "negative": (Timings(cache_n=-1, prompt_n=-1, predicted_n=-1), (None, None, None)),
}


@pytest.mark.parametrize(("timings", "expected"), TIMINGS.values(), ids=TIMINGS)
def test_the_counts_of_timings(timings: Timings, expected: tuple[int | None, ...]) -> None:
    usage = usage_of_timings(timings)
    assert (usage.input.value, usage.cached_input.value, usage.output.value) == expected
    assert usage.reasoning == usage.cache_write == UNKNOWN
    known = [part for part in (usage.input, usage.cached_input, usage.output) if part.value is not None]
    assert {part.provenance for part in known} <= {Provenance.RUNNING}


def test_a_byte_order_mark_costs_no_counts() -> None:
    reply = decode(b'\xef\xbb\xbf{"usage":{"prompt_tokens":3,"completion_tokens":4}}')
    assert reply is not None
    assert reply.usage == Usage(prompt_tokens=3, completion_tokens=4)


def test_a_bare_line_end_in_a_text_costs_no_counts() -> None:
    reply = decode(b'{"choices":[{"text":"a\nb"}],"usage":{"prompt_tokens":3,"completion_tokens":4}}')
    assert reply is not None
    assert reply.usage == Usage(prompt_tokens=3, completion_tokens=4)
