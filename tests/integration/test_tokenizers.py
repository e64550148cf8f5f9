"""Text is counted as the model itself would count it, off the event loop, and a missing vocabulary costs a count only."""

import logging
from pathlib import Path

import fastokens
import pytest
from tokenizers import Tokenizer, models, normalizers

from billing.errors import Misconfigured
from billing.infra.golden.model import GOLDEN, build_model, tokenizer_path
from billing.infra.tokenizers import TEXT_LENGTH_MAX, LocalTokenizers, load

TEXTS = [
    "", "Hello there", " r1 r2 r3 a1 a2", "<think>not a token here</think>", "naïve café 书房 🙂", "a\n\n  b\t\tc", "x" * 5_000,
    "<|im_start|>user", "1234567890 3.14", "\u0000\u001b[0m",
]  # fmt: skip


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The golden model's ``tokenizer.json``."""
    path = tmp_path_factory.mktemp("golden") / "golden.gguf"
    build_model(path, GOLDEN)
    return str(tokenizer_path(path))


async def test_counts_are_those_of_the_tokenizers_library(vocabulary: str) -> None:
    tokenizers, oracle = LocalTokenizers(), Tokenizer.from_file(vocabulary)
    for text in TEXTS:
        expected = len(oracle.encode(text, add_special_tokens=False).ids)
        assert await tokenizers.count(vocabulary, text) == expected, text
    assert tokenizers.failures == 0
    tokenizers.close()


async def test_a_vocabulary_that_the_fast_library_refuses_is_counted_by_the_right_one(tmp_path: Path) -> None:
    made = Tokenizer(models.BPE({"a": 0, "f": 1, "i": 2, "fi": 3}, [("f", "i")]))
    made.normalizer = normalizers.NFKC()
    path = str(tmp_path / "nfkc.json")
    made.save(path)
    with pytest.raises(ValueError, match="normalizer"):
        fastokens.Tokenizer.from_file(path)
    tokenizers = LocalTokenizers()
    assert await tokenizers.count(path, "\ufb01a") == 2  # the ligature is its two letters, one token
    tokenizers.close()


async def test_a_vocabulary_by_name() -> None:
    tokenizers = LocalTokenizers()
    assert await tokenizers.count("o200k_base", "Hello there, friend") == 4
    assert repr(tokenizers) == "<LocalTokenizers 1 loaded, failures=0>"
    tokenizers.close()


@pytest.mark.parametrize("name", ["nobody's", "/nowhere/tokenizer.json", ""])
async def test_a_vocabulary_that_is_not_there_is_said_once_and_counted(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Misconfigured, match="tokenizer"):
        load(name)
    tokenizers = LocalTokenizers()
    with caplog.at_level(logging.WARNING):
        assert await tokenizers.count(name, "a") is None
        assert await tokenizers.count(name, "a") is None
    assert (len(caplog.records), tokenizers.failures) == (1, 2)
    tokenizers.close()


async def test_a_text_that_is_too_long_is_not_counted() -> None:
    tokenizers = LocalTokenizers()
    assert await tokenizers.count("o200k_base", "a" * (TEXT_LENGTH_MAX + 1)) is None
    assert tokenizers.failures == 1
    tokenizers.close()


async def test_a_file_that_is_no_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("[]")
    with pytest.raises(Misconfigured, match=r"tokenizer.json"):
        load(str(tmp_path / "tokenizer.json"))
