"""A step: what one place on the route reads, writes and promises, as a value. The graph and the heavy processes run the same ones.

In: the values of a dataset or a line. Out: an artifact. Which steps there are stands in ``route``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from medvl_lib.errors import HeavyStepFailed
from medvl_lib.examples import Examples
from medvl_lib.exhibits import Exhibit
from medvl_lib.parts import Part, missing, write_part
from medvl_lib.progress import Report, silent
from medvl_lib.provenance import (
    Artifact,
    Fact,
    Rule,
    digest,
    fingerprint,
    require_one_of_each,
    resolve,
    reusable,
    write_step,
)
from medvl_lib.workspace import Workspace

Inputs = Mapping[str, Artifact]
"""``step/name`` -> the artifact that this run reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Parts of a step that are to be done, and how."""

    step: str
    fingerprint: str
    left: Sequence[Part]
    do: Callable[[Part], None]
    """Does one in this process; other processes do it by ``do_part``."""


Hands = Callable[[Parts, Report], None]
"""Sees to it that every part is done, here or elsewhere."""


def one_after_the_other(parts: Parts, report: Report) -> None:
    """Do each part in this process."""
    for part in parts.left:
        parts.do(part)
        report({"part": part.number + 1, "num_parts": part.of})


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An input of a step, and the verdicts it must have."""

    step: str
    name: str
    rules: tuple[Rule, ...]

    @property
    def key(self) -> str:
        """``step/name``."""
        return f"{self.step}/{self.name}"


def _never(parts: Sequence[Part]) -> list[Path]:
    raise ValueError(f"{len(parts)} parts of a step that is called by hand")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a step is given when it runs."""

    directory: Path
    """Where to write: empty, and temporary."""
    fingerprint: str
    """The name that the directory will have."""
    observed: str
    """What the step's ``observe`` said when its name was made; empty where it observes nothing."""
    workspace: Workspace
    inputs: Inputs
    report: Report
    finish: Callable[[Sequence[Part]], list[Path]] = _never
    """Has the parts of a step done that are not there yet; returns the directory of each. They are gone when the step has been judged."""

    def read(self, step: str, name: str) -> Path:
        """The directory of an input."""
        return self.inputs[f"{step}/{name}"].directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table that a step writes: what the UI shows as its columns and counts as its rows."""

    file: str
    model: type


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One place on the route, for one dataset or line."""

    name: str
    """Asset name: ``split``."""
    owner: str
    """The dataset or line."""
    description: str
    """What the UI says: the room's module docstring."""
    version: str
    """Code version: everything literal that changes what is written."""
    reads: tuple[Source, ...]
    rules: tuple[Rule, ...]
    """What must be true of the written directory."""
    write: Callable[[Call], Mapping[str, Fact]]
    table: Table | None = None
    examples: Examples | None = None
    """Rows that the UI shows, as far as the data cards allow it."""
    exhibits: tuple[Exhibit, ...] = ()
    """Tables, pictures and places that the UI shows, whatever the dataset."""
    part: Callable[[Call, Part], None] | None = None
    """Does one part of the step's work, where ``write`` may have it done in parts."""
    process: str | None = None
    """The heavy process that runs it (``prepare``, ``train``, ``predict``); None: the run's own."""
    is_walked_together: bool = False
    """Whether the processes of a launcher do it together (a training does); else the leader alone does it."""
    observe: Callable[[Workspace, Inputs], str] | None = None
    """Identity that stands in no artifact and is read when the step starts: raw files, the served pointer."""

    @property
    def key(self) -> str:
        """``step/owner``: what others call it."""
        return f"{self.name}/{self.owner}"


class _Identity(NamedTuple):
    version: str
    inputs: dict[str, Artifact]
    observed: str


def _identity(workspace: Workspace, step: Step) -> _Identity:
    inputs = {source.key: resolve(workspace, source.step, source.name, source.rules) for source in step.reads}
    require_one_of_each(workspace, inputs.values())
    if step.observe is None:
        return _Identity(step.version, inputs, "")
    observed = step.observe(workspace, inputs)
    return _Identity(digest([step.version, observed]), inputs, observed)


def reuse_step(workspace: Workspace, step: Step) -> Artifact | None:
    """What the step would write, if it stands there whole already."""
    identity = _identity(workspace, step)
    return reusable(workspace, step.name, step.owner, identity.version, list(identity.inputs.values()))


def run_step(workspace: Workspace, step: Step, report: Report = silent, hands: Hands = one_after_the_other) -> Artifact:
    """Resolve the inputs once, then write the directory or report the one that stands there."""
    identity = _identity(workspace, step)

    def write(directory: Path) -> Mapping[str, Fact]:
        return step.write(_call(workspace, step, identity, directory, report, hands))

    return write_step(workspace, step.name, step.owner, identity.version, list(identity.inputs.values()), write)


def walk_along(workspace: Workspace, step: Step, directory: Path) -> None:
    """Compute what another process writes, together with it, and keep nothing; ``directory`` is empty, and thrown away afterwards."""
    step.write(_call(workspace, step, _identity(workspace, step), directory, silent, one_after_the_other))


def do_part(workspace: Workspace, step: Step, part: Part, mark: str) -> None:
    """Do one part of what another process writes as ``mark``; raises HeavyStepFailed where the same inputs are not in use here."""
    call = _call(workspace, step, _identity(workspace, step), Path(), silent, one_after_the_other)
    if call.fingerprint != mark:
        raise HeavyStepFailed(
            found=f"part {part.name} of {step.key} would be of {call.fingerprint}, and {mark} is being written", where=str(workspace.root),
            do="something upstream was materialized meanwhile: start the run again",
        )  # fmt: skip
    _do_here(step, call, part)


def _do_here(step: Step, call: Call, part: Part) -> None:
    if step.part is None:
        raise ValueError(f"{step.key} is not done in parts")
    do = step.part
    write_part(call.workspace.parts(step.name, step.owner, call.fingerprint), part, lambda place: do(replace(call, directory=place), part))


def _call(workspace: Workspace, step: Step, identity: _Identity, directory: Path, report: Report, hands: Hands) -> Call:
    mark = fingerprint(identity.version, list(identity.inputs.values()))
    folder = workspace.parts(step.name, step.owner, mark)
    call = Call(
        directory=directory, fingerprint=mark, observed=identity.observed, workspace=workspace, inputs=identity.inputs, report=report
    )

    def finish(parts: Sequence[Part]) -> list[Path]:
        if left := missing(folder, parts):
            hands(Parts(step=step.name, fingerprint=mark, left=left, do=lambda part: _do_here(step, call, part)), report)
        if still := missing(folder, parts):
            raise HeavyStepFailed(
                found=f"{len(still)} of {len(parts)} parts are not there, such as {still[0].name}", where=str(folder),
                do="materialize again: the parts that are there are kept",
            )  # fmt: skip
        return [folder / part.name for part in parts]

    return replace(call, finish=finish)
