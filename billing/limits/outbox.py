"""What must reach the store and need not be waited for: kept in order until the store has taken it."""

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from uuid import UUID

import msgspec

from billing.limits.bucket import Ask
from billing.limits.used import NOTHING, UNKNOWN, Used


class Kind(StrEnum):
    """What a post does."""

    SETTLE = "settle"
    RELEASE = "release"
    """Free what an admission of unknown outcome may hold, without charging it."""
    GRANT = "grant"
    """Make known what was admitted elsewhere."""


_RELEASE = Kind.RELEASE  # a member is looked up slowly, on the hot path


class Post(msgspec.Struct, frozen=True):
    """One message to the store about a usage id (or another id that is used once). Sent twice, it does no more."""

    kind: Kind
    tenant_id: UUID
    id: bytes
    used: Used = UNKNOWN
    memory_us: int = 0
    """How long the store remembers that the id has ended, so that nothing revives it."""
    lease_us: int = 0
    asks: tuple[Ask, ...] = ()
    charged: Used = NOTHING
    """Of a grant: what was charged of the request already."""


class Outbox:
    """Posts that were not taken yet, by the ticket each got; those of one id are sent one after the other.

    Two commands need not be run in the order in which they were sent: one whose script the server has forgotten is sent
    again. Beyond ``posts_max`` the oldest release is given up, or where there is none the oldest post, and counted. A
    release that is given up frees late what perhaps nobody holds; a settlement that is given up is charged in full when
    its lease ends: the limit holds, and the caller pays for our trouble.
    """

    def __init__(self, posts_max: int) -> None:
        self._posts_max = posts_max
        self._posts: dict[int, Post] = {}
        self._releases: dict[int, None] = {}
        self._of_id: dict[bytes, list[int]] = {}
        self._under_way: set[int] = set()
        self._round: Iterator[int] = iter(())
        self._last = 0
        self.given_up: Counter[Kind] = Counter()
        """Posts that were dropped because there were too many."""

    def __repr__(self) -> str:
        given_up = self.given_up.total()
        return f"<Outbox {len(self._posts)} posts, {len(self._under_way)} under way, {given_up} given up>"

    def __len__(self) -> int:
        return len(self._posts)

    def add(self, post: Post) -> int:
        """Keep a post; its ticket. A release that comes when only other posts are left to give up is not kept."""
        self._last += 1
        self._posts[self._last] = post
        self._of_id.setdefault(post.id, []).append(self._last)
        if post.kind is _RELEASE:
            self._releases[self._last] = None
        if len(self._posts) > self._posts_max:
            victim = next(iter(self._releases or self._posts))
            self.given_up[self._posts[victim].kind] += 1
            self._remove(victim)
        return self._last

    def begin_round(self) -> None:
        """Let ``batch`` come to each post that is kept now, once."""
        self._round = iter(list(self._posts))

    def end_round(self) -> None:
        """Let ``batch`` find nothing until the next round begins."""
        self._round = iter(())

    def batch(self, posts_max: int) -> list[tuple[int, Post]]:
        """The next posts of this round that may be sent, oldest first; none when it is over."""
        found: list[tuple[int, Post]] = []
        for ticket in self._round:
            if self.may_send(ticket):
                found.append((ticket, self._posts[ticket]))
                if len(found) == posts_max:
                    break
        return found

    def may_send(self, ticket: int) -> bool:
        """Whether a post is not under way, and no earlier one of its id is left."""
        post = self._posts.get(ticket)
        return post is not None and ticket not in self._under_way and self._of_id[post.id][0] == ticket

    def has_grant(self, usage_id: bytes) -> bool:
        """Whether the store is still to be told of an id."""
        return any(self._posts[ticket].kind is Kind.GRANT for ticket in self._of_id.get(usage_id, ()))

    def sent(self, ticket: int) -> None:
        """A post is under way."""
        self._under_way.add(ticket)

    def answered(self, ticket: int, *, is_taken: bool) -> tuple[int, Post] | None:
        """The store has taken a post, or nobody knows: then it waits to be sent again. What may be sent next of its id."""
        self._under_way.discard(ticket)
        post = self._posts.get(ticket)
        if post is None or not is_taken:
            return None
        self._remove(ticket)
        following = self._of_id.get(post.id)
        return (following[0], self._posts[following[0]]) if following else None

    def _remove(self, ticket: int) -> None:
        post = self._posts.pop(ticket)
        if post.kind is _RELEASE:
            del self._releases[ticket]
        self._under_way.discard(ticket)
        tickets = self._of_id[post.id]
        tickets.remove(ticket)
        if not tickets:
            del self._of_id[post.id]
