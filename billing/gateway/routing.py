"""Which backend answers a call (pure: state in, choice out)."""

from uuid import UUID

from billing.directory.caller import Target
from billing.errors import Unavailable


def choose(targets: tuple[Target, ...], usage_id: UUID, model: str) -> Target:
    """One target of the best priority, drawn by weight from the id's own randomness.

    Raises ``Unavailable`` when nothing serves the model.
    """
    if not targets:
        raise Unavailable(f"no backend serves the model `{model}` at the moment")
    if len(targets) == 1:
        return targets[0]
    best = [target for target in targets if target.deployment.priority == targets[0].deployment.priority]
    ticket = (usage_id.int & 0xFFFF_FFFF_FFFF) % sum(target.deployment.weight for target in best)
    for target in best:
        ticket -= target.deployment.weight
        if ticket < 0:
            return target
    raise AssertionError("the weights add up to more than any ticket")
