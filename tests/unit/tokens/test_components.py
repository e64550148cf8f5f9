import itertools

import msgspec
import pytest

from billing.tokens.components import Component, Components, components
from billing.tokens.usage import NOTHING_USED, UNKNOWN, Count, Part, Provenance, TokenUsage


def used(*values: int | None) -> TokenUsage:
    """Usage of input, cached input, cache write, output and reasoning."""
    return TokenUsage(*(UNKNOWN if v is None else Count(v, Provenance.REPORTED, "usage") for v in values))


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (used(18, 0, None, 53, 20), Components(18, 0, 0, 33, 20)),
        (used(100, 60, 30, 10, 4), Components(10, 60, 30, 6, 4)),
        (used(100, None, None, 10, None), Components(100, 0, 0, 10, 0)),
        (used(None, 5, 5, None, 5), Components()),
        (used(None, None, None, 7, None), Components(answer_output=7)),
        (NOTHING_USED, Components()),
        (TokenUsage(), Components()),
    ],
)
def test_an_unknown_part_stays_inside_its_whole(usage: TokenUsage, expected: Components) -> None:
    assert components(usage) == expected


def test_written_tokens_give_way_when_an_engine_contradicts_itself() -> None:
    assert components(used(10, 8, 8, 0, 0)) == Components(0, 8, 2, 0, 0)
    assert components(used(10, 12, 8, 3, 9)) == Components(0, 10, 0, 0, 3)


def test_components_are_disjoint_and_add_up_to_what_was_reported() -> None:
    for values in itertools.product((None, 0, 1, 5), repeat=5):
        made = components(used(*values))
        assert made.total == (values[0] or 0) + (values[3] or 0)
        assert all(made.get(component) >= 0 for component in Component)


def test_each_component_is_asked_for_by_its_word() -> None:
    made = Components(*range(1, 17))
    assert [made.get(component) for component in Component] == list(range(1, 17))
    assert sum(made.get(component) for component in Component if component.is_tokens) == made.total
    assert made.total == made.input + made.output + made.training


def test_units_are_no_tokens() -> None:
    words = [component.value for component in Component if not component.is_tokens]
    assert words == ["image", "second", "gpu_second", "character", "search"]
    assert Components(image=1, second=2, gpu_second=3, character=4, search=5).total == 0
    assert not Component.TRAINING.is_served


def part(**values: int) -> dict[Part, Count]:
    return {Part(word): Count(value, Provenance.REPORTED, "usage") for word, value in values.items()}


def test_one_multimodal_reply_becomes_disjoint_components_that_add_up_to_the_engines_total() -> None:
    """Text, image, audio and video in; text, audio and reasoning out."""
    usage = msgspec.structs.replace(
        used(1_000, 200, 50, 300, 120),
        parts=part(audio_input=90, image_input=256, video_input=400, audio_output=60),
    )
    made = components(usage)
    assert made == Components(
        uncached_input=4, cached_input=200, cache_write=50, audio_input=90, image_input=256, video_input=400,
        answer_output=120, reasoning=120, audio_output=60,
    )  # fmt: skip
    assert made.total == 1_300


def test_kinds_give_way_to_what_was_cached_and_to_reasoning() -> None:
    usage = msgspec.structs.replace(
        used(100, 90, None, 10, 8), parts=part(audio_input=40, image_input=40, audio_output=5)
    )
    assert components(usage) == Components(0, 90, 0, 0, 8, audio_input=10, audio_output=2)


def test_what_stands_beside_the_tokens_is_taken_as_it_is() -> None:
    usage = TokenUsage(parts=part(second=7, image=2, character=30, search=1, training=1_000, hidden=62))
    assert components(usage) == Components(second=7, image=2, character=30, search=1, training=1_000)


def test_parts_never_make_components_that_do_not_add_up() -> None:
    kinds = ("audio_input", "image_input", "video_input", "audio_output", "image_output")
    for values in itertools.product((0, 3, 10), repeat=5):
        usage = msgspec.structs.replace(
            used(10, 4, 2, 10, 4), parts=part(**dict(zip(kinds, values, strict=True)))
        )
        made = components(usage)
        assert (made.input, made.output) == (10, 10)
        assert all(made.get(component) >= 0 for component in Component)
