"""A step that is under way: what it says of itself stands in the run, and what may pass by itself is tried again.

In: what a step reports, and what it raises. Out: log lines and observations, thinned; Dagster's request to try again. How a heavy process
is started and listened to is ``heavy``'s. See https://docs.dagster.io/guides/operate/run-executors/run-retries.
"""

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import dagster as dg

from medvl_lib.errors import MedVLError
from medvl_lib.provenance import Fact

MOST_RETRIES = 2  # memory that ran out twice runs out a third time
RETRY_SECONDS = 10.0  # for whoever took the memory to let it go, or a line to come back
OBSERVATION_SECONDS = 15.0  # the event log never shrinks: one point of the curve every quarter of a minute


class Progress:
    """Passes on what a step says of itself: logged, and observed of its asset, once in ``OBSERVATION_SECONDS``."""

    def __init__(self, context: dg.AssetExecutionContext, key: dg.AssetKey, *, is_quiet_at_first: bool = False) -> None:
        """A step that is often done in a moment is quiet at first, and then says nothing at all."""
        self._context = context
        self._key = key
        self._said_at = time.monotonic() if is_quiet_at_first else -OBSERVATION_SECONDS

    def tell(self, facts: Mapping[str, Fact]) -> None:
        """Log and observe it, if it is time."""
        now = time.monotonic()
        if now - self._said_at < OBSERVATION_SECONDS:
            return
        self._said_at = now
        self._context.log.info(", ".join(f"{name} {_short(value)}" for name, value in facts.items()))
        self._context.log_event(dg.AssetObservation(asset_key=self._key, metadata=dict(facts)))


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@contextmanager
def tried_again(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> Generator[None, None, None]:
    """Ask Dagster to try again what may pass by itself: a killed process, a line that broke off. Every other error is left as it is."""
    try:
        yield
    except MedVLError as error:
        if not error.is_passing:
            raise
        context.log.warning(str(error))
        raise dg.RetryRequested(max_retries=MOST_RETRIES, seconds_to_wait=RETRY_SECONDS) from error
