"""What must reach the store: in order for each id, again until it was taken, and never without end."""

from uuid import UUID

from billing.limits.outbox import Kind, Outbox, Post


def post(name: bytes, kind: Kind = Kind.SETTLE) -> Post:
    return Post(kind, UUID(int=1), name)


def waiting(outbox: Outbox, posts_max: int = 9) -> list[tuple[int, Post]]:
    outbox.begin_round()
    return outbox.batch(posts_max)


def test_a_post_waits_until_it_is_taken() -> None:
    outbox = Outbox(9)
    ticket = outbox.add(post(b"a"))
    assert outbox.may_send(ticket)
    outbox.sent(ticket)
    assert not outbox.may_send(ticket)
    assert waiting(outbox) == []
    assert outbox.answered(ticket, is_taken=False) is None
    assert waiting(outbox) == [(ticket, post(b"a"))]
    outbox.sent(ticket)
    outbox.answered(ticket, is_taken=True)
    assert (len(outbox), waiting(outbox)) == (0, [])
    assert outbox.answered(ticket, is_taken=True) is None


def test_posts_of_one_id_go_one_after_the_other() -> None:
    outbox = Outbox(9)
    granted, settled, other = (outbox.add(each) for each in (post(b"a", Kind.GRANT), post(b"a"), post(b"b")))
    assert [ticket for ticket, _ in waiting(outbox)] == [granted, other]
    assert (outbox.has_grant(b"a"), outbox.has_grant(b"b"), outbox.has_grant(b"c")) == (True, False, False)
    outbox.sent(granted)
    assert not outbox.may_send(settled)
    assert outbox.answered(granted, is_taken=True) == (settled, post(b"a"))
    assert outbox.may_send(settled)


def test_beyond_its_bound_the_oldest_is_given_up_and_counted() -> None:
    outbox = Outbox(2)
    tickets = [outbox.add(post(b"%d" % number)) for number in range(4)]
    assert [ticket for ticket, _ in waiting(outbox)] == tickets[2:]
    assert not outbox.may_send(tickets[0])
    assert repr(outbox) == "<Outbox 2 posts, 0 under way, 2 given up>"
    outbox.answered(tickets[0], is_taken=True)
    assert len(outbox) == 2


def test_releases_are_given_up_before_any_settlement() -> None:
    outbox = Outbox(3)
    kinds = (Kind.SETTLE, Kind.RELEASE, Kind.SETTLE, Kind.RELEASE, Kind.SETTLE, Kind.RELEASE)
    tickets = [outbox.add(post(b"%d" % number, kind)) for number, kind in enumerate(kinds)]
    assert [ticket for ticket, _ in waiting(outbox)] == tickets[::2]
    assert outbox.given_up == {Kind.RELEASE: 3}
    assert not outbox.may_send(tickets[5])  # nothing but settlements was left, so it was not kept itself
    outbox.add(post(b"more"))
    assert outbox.given_up == {Kind.RELEASE: 3, Kind.SETTLE: 1}


def test_a_round_comes_to_each_post_once_in_batches() -> None:
    outbox = Outbox(9)
    tickets = [outbox.add(post(b"%d" % number)) for number in range(5)]
    assert [ticket for ticket, _ in waiting(outbox, 2)] == tickets[:2]
    outbox.add(post(b"later"))
    outbox.answered(tickets[2], is_taken=True)
    assert [ticket for ticket, _ in outbox.batch(9)] == tickets[3:]
    assert outbox.batch(9) == []
    assert len(waiting(outbox, 1)) == 1
    outbox.end_round()
    assert outbox.batch(9) == []
