"""The machine's clock and randomness, handed as collaborators to everything that needs an instant or an id."""

import os
import pwd
import time
from uuid import UUID

from billing.ids import RANDOM_BYTES, uuid7

_NANOSECONDS_PER_MICROSECOND = 1_000


def now_us() -> int:
    """The present instant in microseconds since the epoch."""
    return time.time_ns() // _NANOSECONDS_PER_MICROSECOND


def monotonic_us() -> int:
    """Microseconds on a clock that is never set back; only differences mean anything."""
    return time.monotonic_ns() // _NANOSECONDS_PER_MICROSECOND


def new_id() -> UUID:
    """A UUIDv7 of the present instant."""
    return uuid7(now_us(), os.urandom(RANDOM_BYTES))


def random_bytes(length: int) -> bytes:
    """Bytes fit for keys."""
    return os.urandom(length)


def user_name() -> str:
    """Who runs this process, for the audit log: the name of its user, or the number of one without a name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
