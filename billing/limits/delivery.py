"""How posts reach the store: each at once where that can be, and what was left over in batches, so that admissions pass."""

from billing.limits.outbox import Kind, Outbox, Post
from billing.limits.ports import Store

FLUSH_POSTS_MAX = 500
"""Posts left over that are under way together; the next ones go when these are answered."""


class Delivery:
    """Keeps posts in an outbox of ``posts_max`` and sends them; never waits, never raises."""

    def __init__(self, store: Store, posts_max: int) -> None:
        self._store = store
        self._outbox = Outbox(posts_max)
        self._batch: set[int] = set()
        self._is_any_taken = False

    def __repr__(self) -> str:
        return repr(self._outbox)

    def __len__(self) -> int:
        return len(self._outbox)

    @property
    def given_up(self) -> dict[Kind, int]:
        """How many posts of each kind were dropped because there were too many."""
        return self._outbox.given_up

    def has_grant(self, usage_id: bytes) -> bool:
        """Whether the store is still to be told of an id."""
        return self._outbox.has_grant(usage_id)

    def keep(self, post: Post) -> None:
        """Keep a post for the next ``flush``: grants, which go right after the store was looked at."""
        self._outbox.add(post)

    def post(self, post: Post) -> None:
        """Keep a post, and send it now if that can be."""
        ticket = self._outbox.add(post)
        if self._store.connected and self._outbox.may_send(ticket):
            self._send(ticket, post)

    def flush(self) -> None:
        """Send what is left over, oldest first, each once.

        A batch of which the store took nothing ends it: the next flush goes on behind that batch, so that posts which a
        lost server of a cluster cannot take neither hold up the others nor are sent over and over.
        """
        if self._batch:
            return  # its answers are still to come, and lead on
        if not self._send_batch():
            self._outbox.begin_round()
            self._send_batch()

    def hold(self) -> None:
        """Send nothing that is left over until the next ``flush``: the store may have lost its memory."""
        self._outbox.end_round()

    def _send_batch(self) -> bool:
        batch = self._outbox.batch(FLUSH_POSTS_MAX)
        self._is_any_taken = False
        self._batch = {ticket for ticket, _ in batch}
        for ticket, post in batch:
            self._send(ticket, post)
        return bool(batch)

    def _send(self, ticket: int, post: Post) -> None:
        self._outbox.sent(ticket)
        self._store.send(post, lambda is_taken: self._answered(ticket, is_taken=is_taken))

    def _answered(self, ticket: int, *, is_taken: bool) -> None:
        following = self._outbox.answered(ticket, is_taken=is_taken)
        if following is not None and following[1].kind is not Kind.GRANT and self._store.connected:
            self._send(*following)
        if self._batch and ticket in self._batch:
            self._batch.discard(ticket)
            self._is_any_taken = self._is_any_taken or is_taken
            if not self._batch and self._is_any_taken and self._store.connected:
                self._send_batch()
