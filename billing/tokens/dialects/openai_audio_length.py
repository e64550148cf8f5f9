"""How long an audio file says it is: for replies that say neither tokens nor seconds (pure).

WAV (RIFF, RF64), FLAC and Ogg (Opus, Vorbis) say it in a few bytes at a known place. It is the caller's word, which an
engine need not go by: an estimate. Of other formats nothing is known.
"""

import struct

WAV_CHUNKS_MAX = 64
OGG_TAIL_BYTES_MAX = 65_536 + 512
"""A page of Ogg is at most 65,307 bytes: the last one begins within these."""
OPUS_RATE_HZ = 48_000
HOURS_MAX_S = 100 * 3600
"""No request carries more; a file that says so is broken."""

_PCM_BLOCK_BYTES_MAX = 4096
_WAV_UNCOMPRESSED = {1, 3, 6, 7, 0xFFFE}
"""PCM, float, A-law, µ-law and the extensible form: a block is one sample of each channel."""


def seconds_of(file: memoryview) -> int | None:
    """Whole seconds of audio, a fraction counted whole; None when the file does not say."""
    head = bytes(file[:12])
    if head[:4] in {b"RIFF", b"RF64"} and head[8:] == b"WAVE":
        ticks, rate = _wav(file)
    elif head[:4] == b"fLaC":
        ticks, rate = _flac(file)
    elif head[:4] == b"OggS":
        ticks, rate = _ogg(file)
    else:
        return None
    if ticks <= 0 or rate <= 0:
        return None
    whole = -(-ticks // rate)
    return whole if whole <= HOURS_MAX_S else None


def _wav(file: memoryview) -> tuple[int, int]:
    """Samples and samples a second. A length beyond the file's end, as a stream's, is cut to the file."""
    at, rate, block = 12, 0, 0
    for _ in range(WAV_CHUNKS_MAX):
        if at + 8 > len(file):
            break
        name, size = struct.unpack_from("<4sI", file, at)
        at += 8
        if name == b"fmt " and size >= 16 and at + 16 <= len(file):  # noqa: PLR2004 - the least format chunk
            kind, _, rate, _, block, _ = struct.unpack_from("<HHIIHH", file, at)
            block = block if kind in _WAV_UNCOMPRESSED else 0
        if name == b"data":
            length = min(size, len(file) - at)
            return (length // block, rate) if 0 < block <= _PCM_BLOCK_BYTES_MAX else (0, 0)
        at += size + size % 2
    return 0, 0


def _flac(file: memoryview) -> tuple[int, int]:
    """The first block is STREAMINFO: 20 bits of rate, 8 of layout, 36 of samples from its tenth byte on."""
    if len(file) < 26 or file[4] & 0x7F != 0:  # noqa: PLR2004 - the end of those bits
        return 0, 0
    bits = int.from_bytes(file[18:26], "big")
    return bits & (2**36 - 1), bits >> 44


def _ogg(file: memoryview) -> tuple[int, int]:
    """The last page's position, in samples of the rate that the first page names."""
    start = bytes(file[: 27 + 255 + 64])
    rate = before = 0
    if (at := start.find(b"OpusHead")) > 0 and at + 12 <= len(start):
        rate = OPUS_RATE_HZ
        (before,) = struct.unpack_from("<H", start, at + 10)
    elif (at := start.find(b"\x01vorbis")) > 0 and at + 16 <= len(start):
        (rate,) = struct.unpack_from("<I", start, at + 12)
    tail = bytes(file[-OGG_TAIL_BYTES_MAX:])
    last = tail.rfind(b"OggS\x00")
    if last < 0 or last + 14 > len(tail):
        return 0, 0
    (position,) = struct.unpack_from("<q", tail, last + 6)
    return position - before, rate
