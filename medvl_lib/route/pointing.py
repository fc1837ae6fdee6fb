"""Pointing: what a line serves because of a decision, the gate's or a person's.

In: a decision's directory; or a variant, a name and a reason; or a name and a reason to go back. Out: the served pointer, moved under a
lock, and a sentence that says what is served from now on. A rollback holds the pointer until a person releases it: what is promoted
meanwhile is not served, and what was withdrawn never again by the same decision. Deciding is ``promoting``'s; what a
server does with the pointer is serving's.
"""

import datetime as dt
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from medvl_lib.benchmark import override, promotion, rollback
from medvl_lib.benchmark.promotion import Decision, winner_of
from medvl_lib.errors import InputMissing, InputRefused
from medvl_lib.evaluation import parity
from medvl_lib.evaluation.predictions import Variant
from medvl_lib.files import read_json
from medvl_lib.lines import Line
from medvl_lib.pointer import (
    Contender,
    Hold,
    Served,
    State,
    move_pointer,
    pointer_lock,
    read_pointer,
    read_state,
    told,
    write_state,
)
from medvl_lib.provenance import (
    PROVENANCE,
    Artifact,
    ancestor,
    code_version,
    judge,
    made_from,
    read_artifact,
    require_intact,
    require_verdicts,
    resolve,
    write_step,
)
from medvl_lib.route.champion import contenders_of
from medvl_lib.route.encoding import INDEX
from medvl_lib.route.promoting import CHAMPION
from medvl_lib.serving.served import ServedModel, named_by, served_model
from medvl_lib.workspace import Workspace

ASKED = "data_version"  # fact of a parity: identity of the weights and adapter that were asked
SIGNED = "--by NAME --reason TEXT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What came of a decision."""

    served: Served | None
    """What is served from now on; None when nothing changed."""
    sentence: str


def would_be_served(workspace: Workspace, line: Line, decided: Artifact) -> ServedModel:
    """What is served after a decision: its winner, or what is served now where it has none, or does not move the pointer (any more)."""
    proposal = _proposal(workspace, line, decided)
    stays = proposal is None or proposal.is_stale or read_state(workspace, line.name).hold is not None
    return served_model(workspace, line) if proposal is None or stays else named_by(workspace, proposal.served)


class _Proposal(NamedTuple):
    """What a decision wants to be served."""

    served: Served
    reason: str
    is_stale: bool
    """Whether the pointer has moved since, to something that the winner was never held against; or the winner was withdrawn."""
    is_withdrawn: bool
    """Whether a person took the winner back."""


def _proposal(workspace: Workspace, line: Line, decided: Artifact) -> _Proposal | None:
    """What a decision wants to be served; None where it promoted nothing."""
    winner = winner_of(promotion.read_decisions(decided.directory))
    if winner is None:
        return None
    predictions = predictions_of(workspace, line, decided)
    found = contenders_of(workspace, line, predictions)
    served, state = _served(line, winner, found[winner.challenger], decided, predictions), read_state(workspace, line.name)
    now = found["base"].data_version if state.served is None else state.served.data_version
    is_withdrawn = served.data_version in state.withdrawn
    return _Proposal(
        served=served, reason=winner.reasons[0], is_withdrawn=is_withdrawn,
        is_stale=is_withdrawn or now not in {decided.facts[CHAMPION], served.data_version},
    )  # fmt: skip


def serve(workspace: Workspace, line: Line, decided: Artifact, compared: Artifact) -> Moved:
    """Move the pointer when the gate promoted something: to the very weights that were evaluated, found by provenance.

    ``compared`` is the parity of these weights, which has passed: what is served says what was judged. Raises InputRefused for another one.

    Under a lock, and only while the pointer still names what the winner was judged against: of two decisions made beside each other the
    second has beaten a champion that is no longer served. What was withdrawn is not served again by any decision of the gate.
    """
    with pointer_lock(workspace, line.name):
        proposal = _proposal(workspace, line, decided)
        if proposal is None:
            first = promotion.read_decisions(decided.directory)[0]
            return Moved(served=None, sentence=f"{first.verdict}: {first.reasons[0]}; {what_is_served(workspace, line)}")
        served = proposal.served
        if proposal.is_withdrawn:
            again = f"medvl override {line.name} {served.variant}, where a person wants it"
            withdrawn = f"{served.variant} was promoted by {served.decision}, and was withdrawn before: the gate does not serve it again"
            return Moved(served=None, sentence=f"{withdrawn} ({again}); {what_is_served(workspace, line)}")
        if read_state(workspace, line.name).hold is not None:
            held = f"{served.variant} was promoted, and is not served: the pointer is held (medvl release {line.name})"
            return Moved(served=None, sentence=f"{held}; {what_is_served(workspace, line)}")
        if proposal.is_stale:
            stale = f"{served.variant} was promoted, but against another champion than is served now; predict again"
            return Moved(served=None, sentence=f"{stale}; {what_is_served(workspace, line)}")
        if compared.facts[ASKED] != served.data_version or made_from(compared).get(decided.key) != decided.data_version:
            what = compared.facts[ASKED] if compared.facts[ASKED] != served.data_version else "it, after another decision,"
            raise InputRefused(
                found=f"{served.variant} of data version {served.data_version} was promoted, and {what} was compared",
                where=str(compared.directory), do=f"materialize {line.name}/parity again",
            )  # fmt: skip
        pointer = read_pointer(workspace, line.name)
        is_new = (pointer is None or pointer.data_version != served.data_version) and move_pointer(workspace, served)
    return Moved(
        served=served if is_new else None, sentence=f"promote: {proposal.reason}; {what_is_served(workspace, line)}"
    )  # fmt: skip


def serve_anyway(workspace: Workspace, line: Line, variant: Variant, *, by: str, reason: str) -> Moved:
    """Serve a variant of the current evaluation because a person says so: recorded first, with name and reason, then the pointer moves.

    Raises InputRefused for a variant that did not answer, for an empty name or reason, and while the pointer is held.
    """
    _require_released(workspace, line)
    decided = resolve(workspace, "promotion", line.name, promotion.RULES)
    predictions = predictions_of(workspace, line, decided)
    found = contenders_of(workspace, line, predictions)
    if variant not in found:
        raise InputRefused(
            found=f"{variant} is not among what answered: {', '.join(found)}", where=f"the current evaluation of {line.name}",
            do="name one of them, or ask for it in the line's evaluation and materialize again",
        )  # fmt: skip
    decision = override.overridden(promotion.read_decisions(decided.directory), variant, by=by, reason=reason)
    version = code_version(override.REVISION, override.REVISIONS, line.name, variant, decision.decided_by, decision.reasons[0])
    written = write_step(workspace, override.STEP, line.name, version, [decided], lambda folder: override.write_override(folder, decision))
    judge(workspace, written, override.RULES)
    served = replace(_served(line, decision, found[variant], written, predictions), decision_step=override.STEP)
    with pointer_lock(workspace, line.name):
        is_new = move_pointer(workspace, served)
    said = f"decided by {decision.decided_by}: {decision.reasons[0]}; {decision.reasons[1]}"
    said = f"{said}; {what_is_served(workspace, line)}"
    return Moved(
        served=served if is_new else None, sentence=said if _is_compared(workspace, line) else f"{said}; {_to_be_compared(line)}"
    )  # fmt: skip


def what_is_served(workspace: Workspace, line: Line) -> str:
    """A sentence that names what a line serves; never nothing: before the first promotion it is the base model as it is."""
    return told(workspace, line.name)


def roll_back(workspace: Workspace, line: Line, *, by: str, reason: str) -> Moved:
    """Serve again what was served before, and hold the pointer there until it is released: recorded first, with name and reason.

    Raises InputRefused without a name or a reason, where nothing was ever promoted, while a rollback holds the pointer already (what was
    served before is then what was withdrawn), and where the files of what was served before are not what they were.
    """
    with pointer_lock(workspace, line.name):
        state = read_state(workspace, line.name)
        if state.hold is not None:
            raise InputRefused(
                found=f"a rollback by {state.hold.by} holds the pointer since {state.hold.since}: {state.hold.reason}",
                where=str(workspace.served(line.name)),
                do=f"medvl release {line.name} {SIGNED}, and then medvl override {line.name} VARIANT {SIGNED}",
            )  # fmt: skip
        if state.served is None and state.previous is None:
            raise InputRefused(
                found="nothing was ever promoted: there is nothing to go back from", where=str(workspace.served(line.name)),
                do=f"serve another variant by `medvl override {line.name}`",
            )  # fmt: skip
        if state.previous is not None and state.previous.data_version in state.withdrawn:
            raise InputRefused(
                found=f"what was served before ({state.previous.variant}, {state.previous.data_version}) was withdrawn",
                where=str(workspace.served(line.name)), do=f"say what is to be served: medvl override {line.name} VARIANT {SIGNED}",
            )  # fmt: skip
        if state.previous is not None:
            named_by(workspace, state.previous)  # whole, and what was evaluated: or else it stays where it is
        record = _recorded(workspace, line, "rollback", state, by=by, reason=reason)
        since = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        hold = Hold(by=override.visible(by), reason=override.visible(reason), since=since, record=record.fingerprint)
        taken_back = () if state.served is None else (state.served.data_version,)
        withdrawn = tuple(dict.fromkeys((*state.withdrawn, *taken_back)))
        write_state(workspace, line.name, State(served=state.previous, previous=state.served, hold=hold, withdrawn=withdrawn))
    said = f"rolled back by {hold.by}; {what_is_served(workspace, line)}"
    if not _is_compared(workspace, line):  # the base model was served before anything was compared, too
        said = f"{said}; {NOT_COMPARED if state.previous is None else _to_be_compared(line)}"
    return Moved(served=state.previous, sentence=said)


def release(workspace: Workspace, line: Line, *, by: str, reason: str) -> Moved:
    """Let the pointer go that was held: it stays where it is until something is promoted. Raises InputRefused where nobody holds it."""
    with pointer_lock(workspace, line.name):
        state = read_state(workspace, line.name)
        if state.hold is None:
            raise InputRefused(
                found="the pointer is not held", where=str(workspace.served(line.name)), do=f"nothing: {what_is_served(workspace, line)}"
            )
        _recorded(workspace, line, "release", state, by=by, reason=reason)
        write_state(workspace, line.name, replace(state, hold=None))
    again = (
        f"what was promoted meanwhile is served after {line.name}/parity and {line.name}/served_model were materialized; "
        f"what was withdrawn is served again by a person alone (medvl override {line.name})"
    )
    return Moved(served=None, sentence=f"released by {override.visible(by)}; {what_is_served(workspace, line)}; {again}")


def comparison_of(workspace: Workspace, line: Line, model: ServedModel) -> Artifact:
    """The comparison of what is served: the current one; or, where that is of something else, the newest that was made of it.

    Raises InputMissing or InputRefused where there is none, or it failed.
    """
    rules = parity.rules(line.parity, line.gate.min_pairs)
    current = resolve(workspace, "parity", line.name, rules)
    if current.facts[ASKED] == model.data_version:
        return current
    own = comparisons_of(workspace, line, model)
    if own:
        require_verdicts(own[-1], rules)
        require_intact(own[-1])
        return own[-1]
    raise InputRefused(
        found=f"answers of {current.facts[ASKED]} were compared, and {model.data_version} is served", where=str(current.directory),
        do=f"materialize {line.name}/parity",
    )  # fmt: skip


def comparisons_of(workspace: Workspace, line: Line, model: ServedModel) -> list[Artifact]:
    """Every comparison of these weights, whatever came of it, the newest last."""
    paths = sorted(workspace.step("parity", line.name).glob(f"[!.]*/{PROVENANCE}"), key=_finished_at)
    return [found for path in paths if (found := read_artifact(path.parent)).facts[ASKED] == model.data_version]


def _finished_at(provenance: Path) -> tuple[str, int]:
    """To the second as it was written down, and closer as the disk knows it."""
    return str(read_json(provenance)["finished_at"]), provenance.stat().st_mtime_ns


def _is_compared(workspace: Workspace, line: Line) -> bool:
    try:
        comparison_of(workspace, line, served_model(workspace, line))
    except (InputMissing, InputRefused):
        return False
    return True


NOT_COMPARED = "its answers were not compared with those that were evaluated"


def _to_be_compared(line: Line) -> str:
    """What a person has to do before a server takes what nobody compared."""
    launch = f"dg launch --assets '{line.name}/parity,{line.name}/served_model'"
    return f'before `medvl serve {line.name}` its answers have to be compared: DAGSTER_HOME="$(python -m medvl_assets.instance)" {launch}'


def _recorded(workspace: Workspace, line: Line, action: rollback.Action, state: State, *, by: str, reason: str) -> Artifact:
    """A person's word on the pointer, as a directory of its own, published with the decisions."""
    to = state.previous if action == "rollback" else state.served
    row = rollback.Rollback(
        line=line.name, action=action, decided_by=override.visible(by), reason=override.visible(reason),
        from_variant=_variant(state.served), from_data_version=_version(state.served), to_variant=_variant(to),
        to_data_version=_version(to),
    )  # fmt: skip
    now = dt.datetime.now(dt.UTC).isoformat()  # each is a deed of its own, and never reused
    version = code_version(rollback.REVISION, rollback.SCHEMA_VERSION, row, now)
    written = write_step(workspace, rollback.STEP, line.name, version, [], lambda folder: rollback.write_rollback(folder, row))
    judge(workspace, written, rollback.RULES)
    return written


def _variant(pointer: Served | None) -> Variant:
    return "base" if pointer is None else pointer.variant


def _version(pointer: Served | None) -> str:
    return "" if pointer is None else pointer.data_version


def _require_released(workspace: Workspace, line: Line) -> None:
    if (hold := read_state(workspace, line.name).hold) is not None:
        raise InputRefused(
            found=f"the pointer is held by {hold.by} since {hold.since}: {hold.reason}", where=str(workspace.served(line.name)),
            do=f"medvl release {line.name} {SIGNED}, and then again",
        )  # fmt: skip


def predictions_of(workspace: Workspace, line: Line, decided: Artifact) -> Artifact:
    """The answers that a decision was made on."""
    return ancestor(workspace, ancestor(workspace, decided, "scores", line.name), "predictions", line.name)


def _served(line: Line, decision: Decision, contender: Contender, decided: Artifact, predictions: Artifact) -> Served:
    adapter, encoder = contender.adapter, line.encoder
    return Served(
        line=line.name, variant=decision.challenger, weights_step=contender.weights.step,
        weights_fingerprint=contender.weights.fingerprint, adapter_step=adapter and adapter.step,
        adapter_fingerprint=adapter and adapter.fingerprint, data_version=contender.data_version, decision_step=decided.step,
        decision=decided.fingerprint,
        encoder_fingerprint=encoder and predictions.inputs.get(f"{encoder.name}/{line.name}"),
        index_fingerprint=encoder and predictions.inputs.get(f"{INDEX}/{line.name}"),
    )  # fmt: skip
