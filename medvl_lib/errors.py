"""The one shape of a refusal: what was found, where, and what to do about it.

In: nothing. Out: ``MedVLError`` and the few kinds that a caller tells apart. Messages quote ids, paths and settings,
never a patient's text.
"""

from collections.abc import Callable
from functools import partial


class MedVLError(Exception):
    """Something a person can mend: ``found`` (the offending value), ``where`` (file, id or key) and ``do`` (the cure)."""

    is_passing = False
    """Whether the same may well succeed when it is simply tried again."""

    def __init__(self, *, found: str, where: str, do: str) -> None:
        self.found = found
        self.where = where
        self.do = do
        super().__init__(found, where, do)

    def __reduce__(self) -> tuple[Callable[[], "MedVLError"], tuple[()]]:
        """How it crosses from one process to another: an exception is made anew there, from its arguments in order otherwise."""
        return partial(type(self), found=self.found, where=self.where, do=self.do), ()

    def __str__(self) -> str:
        return f"found: {self.found}\n  where: {self.where}\n  do:    {self.do}"


class SettingsError(MedVLError):
    """``dagster_project.toml`` says something that cannot be meant."""


class InputMissing(MedVLError):
    """A step was started before the thing it reads exists."""


class InputRefused(MedVLError):
    """An input exists, but no passing verdict allows a step to read it."""


class WriteFailed(MedVLError):
    """The disk did not take what was written; nothing half-written was kept."""


class HeavyStepFailed(MedVLError):
    """A heavy process ended badly, or ended well and reported nothing."""


class Killed(HeavyStepFailed):
    """A heavy process was ended by a signal: what it had done so far stands in its checkpoints, and is gone on from."""

    is_passing = True


class InUse(MedVLError):
    """Another process is using it, here or on another machine."""

    is_passing = True


class Unreachable(MedVLError):
    """Something elsewhere did not answer, or broke off: what has come so far is kept."""

    is_passing = True
