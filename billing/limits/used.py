"""How many tokens a request has used, by side, as limits charge it."""

from enum import IntEnum

import msgspec


class Side(IntEnum):
    """Which tokens of a request a bucket counts. The numbers stand in the scripts."""

    BOTH = 0
    INPUT = 1
    OUTPUT = 2
    NEITHER = 3
    """It counts requests."""


class Used(msgspec.Struct, frozen=True):
    """Tokens of one request; None where nobody knows how many: then what was reserved for them is charged."""

    input: float | None = None
    output: float | None = None

    def of(self, side: Side) -> float | None:
        """What a bucket of a side counts of it; None where nobody knows."""
        if side is Side.OUTPUT:
            return self.output
        if side is Side.INPUT:
            return self.input
        if side is Side.NEITHER:
            return 0.0
        return None if self.input is None or self.output is None else self.input + self.output


UNKNOWN = Used()
NOTHING = Used(0.0, 0.0)


def beyond(used: Used, charged: Used) -> tuple[Used, Used]:
    """What is to be charged of a request that runs beside what was, and what was charged then.

    A count that is not told, or that is smaller than one told before, charges nothing.
    """
    before_input, before_output = charged.input or 0.0, charged.output or 0.0
    input_ = max(before_input, used.input or 0.0)
    output = max(before_output, used.output or 0.0)
    return Used(input_ - before_input, output - before_output), Used(input_, output)
