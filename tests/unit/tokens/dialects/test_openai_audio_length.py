"""An audio file's length is read where its format says it in few bytes, and unknown elsewhere."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.tokens.dialects.openai_audio_length import HOURS_MAX_S, seconds_of


def wav(
    length: int,
    *,
    rate: int = 8000,
    block: int = 2,
    kind: int = 1,
    said: int | None = None,
    extra: bytes = b"",
) -> bytes:
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, 1, rate, rate * block, block, 8 * block)
    return (
        b"RIFF\0\0\0\0WAVE"
        + extra
        + form
        + struct.pack("<4sI", b"data", length if said is None else said)
        + bytes(length)
    )


def flac(samples: int, rate: int) -> bytes:
    return b"fLaC\0\0\0\x22" + bytes(10) + (rate << 44 | 1 << 40 | samples).to_bytes(8, "big") + bytes(16)


def page(position: int, payload: bytes = b"") -> bytes:
    return b"OggS\0" + b"\0" + struct.pack("<qIIIB", position, 1, 0, 0, 1) + bytes([len(payload)]) + payload


OPUS = page(0, b"OpusHead\x01\x01" + struct.pack("<HI", 312, 16000))
VORBIS = page(0, b"\x01vorbis" + struct.pack("<IBI", 0, 1, 44100))


@pytest.mark.parametrize(
    ("file", "seconds"),
    [
        (wav(16_000), 1),
        (wav(16_002), 2),
        (wav(8000, block=1, kind=7), 1),
        (wav(16_000, said=0xFFFFFFFF), 1),
        (b"RF64" + wav(32_000)[4:], 2),
        (wav(16_000, extra=b"LIST" + struct.pack("<I", 3) + b"abc\0"), 1),
        (flac(96_001, 48_000), 3),
        (OPUS + page(48_000 * 2 + 312), 2),
        (VORBIS + page(44_100 * 3), 3),
    ],
)
def test_lengths(file: bytes, seconds: int) -> None:
    assert seconds_of(memoryview(file)) == seconds


@pytest.mark.parametrize(
    "file",
    [
        b"", b"ID3\x04 some mp3", b"RIFF\0\0\0\0AVI ", wav(0), wav(100, rate=0), wav(100, block=0), wav(100, kind=2), wav(100)[:30],
        b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 99, flac(0, 8000), flac(8000, 0), flac(8, 8)[:20], b"OggS", OPUS, VORBIS + page(-1),
        page(0, b"Speex") + page(99), flac(2**35, 1), OPUS + b"OggS\0",
    ],
)  # fmt: skip
def test_what_a_file_does_not_say_is_unknown(file: bytes) -> None:
    assert seconds_of(memoryview(file)) is None


@given(st.sampled_from([b"RIFF\0\0\0\0WAVE", b"fLaC", b"OggS\0", OPUS, wav(10)]), st.binary(max_size=120))
def test_no_file_breaks_it(start: bytes, rest: bytes) -> None:
    got = seconds_of(memoryview(start + rest))
    assert got is None or 0 < got <= HOURS_MAX_S
