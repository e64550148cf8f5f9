"""What a request may use: as far as experience tells, and at worst."""

import msgspec


class Need(msgspec.Struct, frozen=True):
    """Tokens that a request is expected to use at most, those that it can use at worst, and for which end user.

    ``output_most`` None: nobody knows how long the answer may become. ``end_user`` empty: the request names none.
    ``is_guess``: nothing was learned yet of such answers. ``answers``: how many it asks for; ``output_member``: the member that says how long each may become.
    """

    input: int
    output: int
    input_most: int
    output_most: int | None
    end_user: str = ""
    answers: int = 1
    output_member: str = "max_tokens"
    is_guess: bool = False

    @property
    def total(self) -> int:
        """Input and output that are expected at most."""
        return self.input + self.output

    @property
    def total_most(self) -> int | None:
        """Input and output at worst; None where that is not known."""
        return None if self.output_most is None else self.input_most + self.output_most


NONE = Need(0, 0, 0, 0)
"""Of what uses no tokens, for nobody."""
