"""Text is counted at the backend or here, within a time limit; whatever fails costs a count and nothing else."""

import asyncio

import pytest

from billing.directory.caller import Model
from billing.errors import UpstreamUnreachable
from billing.gateway.tokenizer import TEXT_BYTES_MAX, Tokenizers, Vocabularies
from billing.infra.tokenizers import LocalTokenizers
from billing.tokens.engines import LLAMA_CPP, TGI, VLLM, Tokenize
from tests.gateway.fake_client import Journal
from tests.gateway.fakes import FakeReply, FakeUpstream, json_reply, snapshot

TIMEOUT_S = 0.2


class FakeVocabularies:
    """Counts characters; ``slow`` takes longer than anybody waits."""

    async def count(self, name: str, text: str) -> int | None:
        if name == "slow":
            await asyncio.sleep(60)
        if name == "broken":
            raise ValueError("half a character")
        return len(text) if name == "letters" else None


def tokenizers(
    *answers: FakeReply | Exception, vocabularies: Vocabularies | None = None
) -> tuple[Tokenizers, Journal]:
    journal = Journal()
    made = Tokenizers(
        FakeUpstream(journal, *answers), vocabularies or FakeVocabularies(), timeout_s=TIMEOUT_S
    )
    return made, journal


def how(engine: object) -> Tokenize:
    found = getattr(engine, "tokenize", None)
    assert isinstance(found, Tokenize)
    return found


MODEL: Model = snapshot().model("tiny")
[TARGET] = snapshot(credential="sk-engine").targets(MODEL)
REPLIES = {
    "llama.cpp lists": (LLAMA_CPP, b'{"tokens":[1,2,3]}', b'{"content":"hm"}'),
    "vLLM counts": (VLLM, b'{"count":3,"tokens":[1]}', b'{"prompt":"hm","model":"weights"}'),
    "TGI is a list": (TGI, b'[{"id":1},{"id":2},{"id":3}]', b'{"inputs":"hm"}'),
}


@pytest.mark.parametrize(("engine", "reply", "sent"), REPLIES.values(), ids=REPLIES)
async def test_each_engine_is_asked_in_its_own_way(engine: object, reply: bytes, sent: bytes) -> None:
    counting, journal = tokenizers(json_reply(reply))
    assert await counting.count(TARGET, how(engine), "hm") == 3
    [asked] = journal.values("send")
    assert (asked.body, counting.failures) == (sent, 0)
    assert b"authorization: Bearer sk-engine" in asked.head
    assert journal.names[-1] == "released"


@pytest.mark.parametrize(
    "answer", [UpstreamUnreachable("nobody"), json_reply(b'{"error":1}'), json_reply(b"x"), json_reply(b"")]
)
async def test_a_backend_that_does_not_answer_well_is_counted_as_a_failure(
    answer: FakeReply | Exception,
) -> None:
    counting, _ = tokenizers(answer)
    assert await counting.count(TARGET, how(LLAMA_CPP), "hm") is None
    assert (counting.failures, repr(counting)) == (1, "<Tokenizers failures=1>")


async def test_a_text_that_is_too_long_is_not_sent() -> None:
    counting, journal = tokenizers()
    assert await counting.count(TARGET, how(LLAMA_CPP), "a" * TEXT_BYTES_MAX) is None
    assert (journal.names, counting.failures) == ([], 1)


@pytest.mark.parametrize(
    ("vocabulary", "tokens", "failures"), [("letters", 2, 0), ("none", None, 1), ("broken", None, 1), ("slow", None, 1)]
)  # fmt: skip
async def test_here_a_text_is_counted_in_time_or_not_at_all(
    vocabulary: str, tokens: int | None, failures: int
) -> None:
    counting, _ = tokenizers()
    async with asyncio.timeout(10):
        assert await counting.count_here(vocabulary, "hm") == tokens
    assert counting.failures == failures


async def test_vocabularies_that_have_ended_count_nothing() -> None:
    ended = LocalTokenizers()
    ended.close()
    counting, _ = tokenizers(vocabularies=ended)
    assert await counting.count_here("o200k_base", "hm") is None


async def test_a_built_in_vocabulary_counts_here() -> None:
    vocabularies = LocalTokenizers()
    counting = Tokenizers(FakeUpstream(Journal()), vocabularies, timeout_s=30)
    assert await counting.count_here("o200k_base", "Hello there, friend") == 4
    vocabularies.close()
