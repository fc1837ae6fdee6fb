"""Pointing: what a line serves because of a decision, the gate's or a person's.

In: a decision's directory; or a variant, a name and a reason. Out: the served pointer, moved under a lock, and a sentence that says what is
served from now on. Deciding is ``promoting``'s; what a server does with the pointer is serving's.
"""

from dataclasses import dataclass, replace

from filelock import FileLock

from medvl_lib.benchmark import override, promotion
from medvl_lib.benchmark.promotion import Decision, winner_of
from medvl_lib.errors import InputRefused
from medvl_lib.evaluation.predictions import Variant
from medvl_lib.lines import Line
from medvl_lib.pointer import Served, move_pointer, read_pointer
from medvl_lib.provenance import Artifact, ancestor, code_version, judge, resolve, write_step
from medvl_lib.route.champion import Contender, contenders_of
from medvl_lib.route.promoting import CHAMPION
from medvl_lib.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What came of a decision."""

    served: Served | None
    """What is served from now on; None when nothing changed."""
    sentence: str


def serve(workspace: Workspace, line: Line, decided: Artifact) -> Moved:
    """Move the pointer when the gate promoted something: to the very weights that were evaluated, found by provenance.

    Under a lock, and only while the pointer still names what the winner was judged against: of two decisions made beside each other the
    second has beaten a champion that is no longer served.
    """
    decisions = promotion.read_decisions(decided.directory)
    winner, first = winner_of(decisions), decisions[0]
    if winner is None:
        return Moved(served=None, sentence=f"{first.verdict}: {first.reasons[0]}; {what_is_served(workspace, line)}")
    found = contenders_of(workspace, line, _predictions(workspace, line, decided))
    served = _served(line, winner, found[winner.challenger], decided)
    with FileLock(_lock(workspace, line)):
        pointer = read_pointer(workspace, line.name)
        now = found["base"].data_version if pointer is None else pointer.data_version
        if now not in {decided.facts[CHAMPION], served.data_version}:
            stale = f"{winner.challenger} was promoted, but against another champion than is served now; predict again"
            return Moved(served=None, sentence=f"{stale}; {what_is_served(workspace, line)}")
        is_new = (pointer is None or pointer.data_version != served.data_version) and move_pointer(workspace, served)
    return Moved(
        served=served if is_new else None, sentence=f"promote: {winner.reasons[0]}; {what_is_served(workspace, line)}"
    )  # fmt: skip


def serve_anyway(workspace: Workspace, line: Line, variant: Variant, *, by: str, reason: str) -> Moved:
    """Serve a variant of the current evaluation because a person says so: recorded first, with name and reason, then the pointer moves.

    Raises InputRefused for a variant that did not answer, and for an empty name or reason.
    """
    decided = resolve(workspace, "promotion", line.name, promotion.RULES)
    found = contenders_of(workspace, line, _predictions(workspace, line, decided))
    if variant not in found:
        raise InputRefused(
            found=f"{variant} is not among what answered: {', '.join(found)}", where=f"the current evaluation of {line.name}",
            do="name one of them, or ask for it in the line's evaluation and materialize again",
        )  # fmt: skip
    decision = override.overridden(promotion.read_decisions(decided.directory), variant, by=by, reason=reason)
    version = code_version(override.REVISION, override.REVISIONS, line.name, variant, by, reason)
    written = write_step(workspace, override.STEP, line.name, version, [decided], lambda folder: override.write_override(folder, decision))
    judge(workspace, written, override.RULES)
    served = replace(_served(line, decision, found[variant], written), decision_step=override.STEP)
    with FileLock(_lock(workspace, line)):
        is_new = move_pointer(workspace, served)
    return Moved(
        served=served if is_new else None, sentence=f"decided by {by}: {reason}; {what_is_served(workspace, line)}"
    )  # fmt: skip


def what_is_served(workspace: Workspace, line: Line) -> str:
    """A sentence that names what a line serves; never nothing: before the first promotion it is the base model as it is."""
    pointer = read_pointer(workspace, line.name)
    if pointer is None:
        return f"{line.name} serves the base model as it is: nothing was promoted yet"
    parts = [f"{pointer.weights_step} {pointer.weights_fingerprint}"]
    parts += [f"{pointer.adapter_step} {pointer.adapter_fingerprint}"] if pointer.adapter_step else []
    return f"{line.name} serves {pointer.variant} ({', '.join(parts)}) by {pointer.decision_step} {pointer.decision}"


def _predictions(workspace: Workspace, line: Line, decided: Artifact) -> Artifact:
    return ancestor(workspace, ancestor(workspace, decided, "scores", line.name), "predictions", line.name)


def _served(line: Line, decision: Decision, contender: Contender, decided: Artifact) -> Served:
    adapter = contender.adapter
    return Served(
        line=line.name, variant=decision.challenger, weights_step=contender.weights.step,
        weights_fingerprint=contender.weights.fingerprint, adapter_step=adapter and adapter.step,
        adapter_fingerprint=adapter and adapter.fingerprint, data_version=contender.data_version, decision_step=decided.step,
        decision=decided.fingerprint,
    )  # fmt: skip


def _lock(workspace: Workspace, line: Line) -> str:
    lock = workspace.lock(f"served-{line.name}")
    lock.parent.mkdir(parents=True, exist_ok=True)
    return str(lock)
