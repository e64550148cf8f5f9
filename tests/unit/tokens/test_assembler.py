"""What every assembler must be able to say is its port: each dialect's own is one."""

import pytest

from billing.tokens.assembler import STATUS_OK, Assembler
from billing.tokens.dialects.openai_responses_assembler import ResponsesAssembler
from billing.tokens.dialects.openai_text_assembler import TextAssembler
from billing.tokens.engines import LLAMA_CPP
from billing.tokens.operation import Operation


def test_an_assembler_is_an_idea_until_a_dialect_has_made_it() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Assembler()  # type: ignore[abstract]  # that is what is tested


@pytest.mark.parametrize(
    "made",
    [TextAssembler(LLAMA_CPP, Operation.CHAT), ResponsesAssembler()],
    ids=lambda made: type(made).__name__,
)
def test_nothing_has_come_yet(made: Assembler) -> None:
    assert (made.size(), made.status(), made.whole) == (0, STATUS_OK, False)
    made.feed(b"no event")
    made.feed(b"\xff")
    assert not made.whole
