"""The sign-in of a browser: a cookie that says until when, sealed with a key that is made of the admin token's hash.

No session is stored. A new admin token seals with another key, so it signs everybody out. Pure: time is an argument.
"""

import hmac
import re
from hashlib import sha256

from billing.clock import MICROSECONDS_PER_SECOND

COOKIE = "billing_session"
_PURPOSE = b"billing dashboard session v1"
_VALUE = re.compile(r"(?P<expires_s>[0-9]{1,12})\.(?P<seal>[0-9a-f]{64})")
_PLACE = re.compile(r"/(?:requests/[0-9a-fA-F-]{36}|invoices/[A-Za-z0-9][A-Za-z0-9._-]{0,79})?")
SAME_ORIGIN = "same-origin"
_OWN_SITE = {None, SAME_ORIGIN, "none"}


def issue(token_hash: str, now_us: int, lasts_s: int) -> str:
    """The value of a cookie that signs a browser in for so many seconds."""
    expires_s = now_us // MICROSECONDS_PER_SECOND + lasts_s
    return f"{expires_s}.{_seal(token_hash, expires_s)}"


def is_valid(value: str | None, token_hash: str, now_us: int) -> bool:
    """Whether a cookie's value was issued here for the present admin token and has not expired."""
    found = _VALUE.fullmatch(value or "")
    if found is None:
        return False
    expires_s = int(found["expires_s"])
    is_sealed = hmac.compare_digest(found["seal"], _seal(token_hash, expires_s))
    return is_sealed and now_us < expires_s * MICROSECONDS_PER_SECOND


def place_of(text: str | None) -> str:
    """Where to go after signing in: a page of ours, or the first one; never another server's."""
    return text if text and _PLACE.fullmatch(text) else "/"


def is_own(origin: str | None, fetch_site: str | None, host: str | None) -> bool:
    """Whether a form came from a page of ours, as far as a browser says; other programs say nothing and may.

    ``fetch_site`` is the browser's own comparison with the address that it sees. It is enough where it says "the same":
    a proxy before us may send another ``host``.
    """
    if fetch_site not in _OWN_SITE:
        return False
    return (
        fetch_site == SAME_ORIGIN
        or origin is None
        or (host is not None and origin.partition("://")[2] == host)
    )


def _seal(token_hash: str, expires_s: int) -> str:
    key = hmac.digest(token_hash.encode(), _PURPOSE, "sha256")
    return hmac.new(key, str(expires_s).encode(), sha256).hexdigest()
