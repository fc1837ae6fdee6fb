"""A training that dies in its middle, as a process does whose machine goes away: what a checkpoint has to make good."""

from collections.abc import Callable


class Killed(Exception):
    """What ends it."""


def kill_after(step: int) -> Callable[[dict], None]:
    """A report that ends the training as soon as it hears of ``step``."""

    def report(facts: dict) -> None:
        if facts["step"] == step:
            raise Killed

    return report
