"""What must reach the store: in order for each id, again until it was taken, and never without end."""

from uuid import UUID

from billing.limits.outbox import Kind, Outbox, Post


def post(name: bytes, kind: Kind = Kind.SETTLE) -> Post:
    return Post(kind, UUID(int=1), name)


def test_a_post_waits_until_it_is_taken() -> None:
    outbox = Outbox(9)
    ticket = outbox.add(post(b"a"))
    assert outbox.may_send(ticket)
    outbox.sent(ticket)
    assert not outbox.may_send(ticket)
    assert outbox.waiting() == []
    assert outbox.answered(ticket, is_taken=False) is None
    assert outbox.waiting() == [(ticket, post(b"a"))]
    outbox.sent(ticket)
    outbox.answered(ticket, is_taken=True)
    assert (len(outbox), outbox.waiting()) == (0, [])
    assert outbox.answered(ticket, is_taken=True) is None


def test_posts_of_one_id_go_one_after_the_other() -> None:
    outbox = Outbox(9)
    granted, settled, other = (outbox.add(each) for each in (post(b"a", Kind.GRANT), post(b"a"), post(b"b")))
    assert [ticket for ticket, _ in outbox.waiting()] == [granted, other]
    assert (outbox.has_grant(b"a"), outbox.has_grant(b"b"), outbox.has_grant(b"c")) == (True, False, False)
    outbox.sent(granted)
    assert not outbox.may_send(settled)
    assert outbox.answered(granted, is_taken=True) == (settled, post(b"a"))
    assert outbox.may_send(settled)


def test_beyond_its_bound_the_oldest_is_given_up_and_counted() -> None:
    outbox = Outbox(2)
    tickets = [outbox.add(post(b"%d" % number)) for number in range(4)]
    assert [ticket for ticket, _ in outbox.waiting()] == tickets[2:]
    assert not outbox.may_send(tickets[0])
    assert repr(outbox) == "<Outbox 2 posts, 0 under way, 2 given up>"
    outbox.answered(tickets[0], is_taken=True)
    assert len(outbox) == 2
