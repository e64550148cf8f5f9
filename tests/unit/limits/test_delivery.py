"""What is left over goes in batches, each post once in a round, and a store that takes nothing is not pressed."""

from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

import pytest

from billing.limits.delivery import FLUSH_POSTS_MAX, Delivery
from billing.limits.outbox import Kind, Post
from billing.limits.ports import Store

TENANT = UUID(int=1)


class Recipient:
    """A store that is sent posts and answers when it is told to."""

    def __init__(self) -> None:
        self.connected = False
        self.under_way: list[tuple[Post, Callable[[bool], None]]] = []

    def send(self, post: Post, done: Callable[[bool], None]) -> None:
        self.under_way.append((post, done))

    def answer(self, *, is_taken: bool) -> list[bytes]:
        """Answer everything under way; what it was."""
        answered, self.under_way = self.under_way, []
        for _, done in answered:
            done(is_taken)
        return [post.id for post, _ in answered]


@pytest.fixture
def recipient() -> Recipient:
    return Recipient()


@pytest.fixture
def delivery(recipient: Recipient) -> Delivery:
    return Delivery(cast("Store", recipient), posts_max=5_000)


def post(number: int, kind: Kind = Kind.SETTLE, **fields: Any) -> Post:
    return Post(kind, TENANT, b"%d" % number, **fields)


def leave_over(delivery: Delivery, recipient: Recipient, count: int) -> list[bytes]:
    """Posts from the time when the store was away, which it is no more."""
    for number in range(count):
        delivery.post(post(number))
    recipient.connected = True
    return [b"%d" % number for number in range(count)]


def test_a_post_goes_at_once_where_it_can(delivery: Delivery, recipient: Recipient) -> None:
    recipient.connected = True
    delivery.post(post(1))
    assert recipient.answer(is_taken=True) == [b"1"]
    assert len(delivery) == 0


def test_what_is_left_over_goes_in_batches_that_lead_on(delivery: Delivery, recipient: Recipient) -> None:
    ids = leave_over(delivery, recipient, 2 * FLUSH_POSTS_MAX + 3)
    delivery.flush()
    delivery.flush()  # while a batch is under way
    sizes, sent = [], []
    while recipient.under_way:
        sent += recipient.answer(is_taken=True)
        sizes.append(len(sent))
    assert sizes == [FLUSH_POSTS_MAX, 2 * FLUSH_POSTS_MAX, 2 * FLUSH_POSTS_MAX + 3]
    assert (sent, len(delivery)) == (ids, 0)


def test_a_store_that_takes_nothing_is_sent_one_batch_a_flush_and_another_each_time(
    delivery: Delivery, recipient: Recipient
) -> None:
    ids = leave_over(delivery, recipient, 2 * FLUSH_POSTS_MAX)
    for expected in (ids[:FLUSH_POSTS_MAX], ids[FLUSH_POSTS_MAX:], ids[:FLUSH_POSTS_MAX]):
        delivery.flush()
        assert recipient.answer(is_taken=False) == expected
        assert recipient.under_way == []
    assert len(delivery) == len(ids)


def test_a_store_that_may_have_lost_its_memory_is_sent_nothing_more_until_the_next_flush(
    delivery: Delivery, recipient: Recipient
) -> None:
    leave_over(delivery, recipient, FLUSH_POSTS_MAX + 1)
    delivery.flush()
    delivery.hold()
    recipient.answer(is_taken=True)
    assert recipient.under_way == []
    delivery.flush()
    assert recipient.answer(is_taken=True) == [b"%d" % FLUSH_POSTS_MAX]


def test_grants_wait_for_a_flush_and_settlements_for_their_grant(
    delivery: Delivery, recipient: Recipient
) -> None:
    recipient.connected = True
    delivery.keep(post(1, Kind.GRANT))
    delivery.post(post(1))
    assert (recipient.under_way, delivery.has_grant(b"1")) == ([], True)
    delivery.flush()
    assert recipient.answer(is_taken=True) == [b"1"]
    assert [each.kind for each, _ in recipient.under_way] == [Kind.SETTLE]
    assert repr(delivery) == "<Outbox 1 posts, 1 under way, 0 given up>"


def test_what_was_given_up_is_told_by_kind(recipient: Recipient) -> None:
    delivery = Delivery(cast("Store", recipient), posts_max=1)
    for number in range(3):
        delivery.post(post(number))
    assert delivery.given_up == {Kind.SETTLE: 2}
