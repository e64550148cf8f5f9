"""What a request is expected to use at most, learned from those that ended: bounds that fit waste nothing of a limit.

A client's ``max_tokens`` says little: most answers are far shorter, and to reserve it keeps others out. Of the last
``REMEMBERED`` answers that a tenant got from a model all but one were no longer than the bound
(docs/decisions/0012-learned-bounds.md has what that costs beside other choices). What an answer uses beyond its bound is a
debt of the bucket (``bucket.py``), so a bound that is too small never admits more in the long run.
"""

from bisect import bisect_left, insort
from collections import deque
from typing import Any
from uuid import UUID

REMEMBERED = 64
"""Requests that a bound is learned from: the last ones."""
SHARE = 0.98
"""Of those, how many were within it."""
SEEN_MIN = 8
"""Requests that must have ended before a bound is learned."""
KEPT_MAX = 20_000
"""Pairs of tenant and model, or models, of which this is remembered; beyond them it is learned anew."""


class Recent:
    """The last values of something, and what most of them did not exceed."""

    __slots__ = ("_in_order", "_newest_last", "bound")

    def __init__(self) -> None:
        self._newest_last: deque[float] = deque()
        self._in_order: list[float] = []
        self.bound: float | None = None
        """None until ``SEEN_MIN`` values were seen."""

    def __repr__(self) -> str:
        return f"<Recent {len(self._in_order)} values, mostly up to {self.bound}>"

    def add(self, value: float) -> None:
        """See one more."""
        if len(self._newest_last) == REMEMBERED:
            oldest = self._newest_last.popleft()
            del self._in_order[bisect_left(self._in_order, oldest)]
        self._newest_last.append(value)
        insort(self._in_order, value)
        count = len(self._in_order)
        if count >= SEEN_MIN:
            self.bound = self._in_order[-1 - int(count * (1 - SHARE))]


class Expectation:
    """What one worker has learned of its tenants and models. ``unsaid_tokens``: expected of an answer before that."""

    def __init__(self, unsaid_tokens: int, bytes_per_token: int) -> None:
        self._unsaid_tokens = unsaid_tokens
        self._bytes_per_token = bytes_per_token
        self._answers: dict[tuple[UUID, str], Recent] = {}
        self._prompts: dict[str, Recent] = {}

    def __repr__(self) -> str:
        return f"<Expectation of {len(self._answers)} tenants' models, {len(self._prompts)} models>"

    def output(self, tenant_id: UUID, model: str, said: int | None) -> int:
        """Tokens that one answer is expected to have at most; ``said`` by the client, which it cannot exceed."""
        recent = self._answers.get((tenant_id, model))
        learned = self._unsaid_tokens if recent is None or recent.bound is None else int(recent.bound)
        return learned if said is None else min(said, learned)

    def is_guess(self, tenant_id: UUID, model: str) -> bool:
        """Whether nothing was learned of a tenant's answers from a model yet."""
        recent = self._answers.get((tenant_id, model))
        return recent is None or recent.bound is None

    def input(self, model: str, prompt_bytes: int) -> int:
        """Tokens that a prompt of so many bytes is expected to hold at most."""
        recent = self._prompts.get(model)
        if recent is None or recent.bound is None:
            return max(1, prompt_bytes // self._bytes_per_token)
        return max(1, int(prompt_bytes * recent.bound))

    def learn(
        self,
        tenant_id: UUID,
        model: str,
        *,
        prompt_bytes: int,
        answers: int,
        input_tokens: int | None,
        output_tokens: int | None,
    ) -> None:
        """See what a request that ended has used; None for what nobody counted."""
        if output_tokens is not None:
            _of(self._answers, (tenant_id, model)).add(-(-output_tokens // max(1, answers)))
        if input_tokens is not None and prompt_bytes > 0:
            _of(self._prompts, model).add(input_tokens / prompt_bytes)


def _of(kept: dict[Any, Recent], key: Any) -> Recent:
    recent = kept.get(key)
    if recent is None:
        if len(kept) >= KEPT_MAX:
            kept.clear()
        recent = kept[key] = Recent()
    return recent
