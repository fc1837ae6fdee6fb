"""The step between decision and pointer: does what would be served say what was judged? And the check on what is served.

In: a line and a profile. Out: its parity step; and an outcome that holds the pointer's weights against those that were evaluated.
Asking is ``serving.forms``'s, comparing ``evaluation.parity``'s, moving the pointer ``pointing``'s.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from medvl_lib import images, prompts
from medvl_lib.benchmark import override, promotion
from medvl_lib.benchmark.terms import otherwise
from medvl_lib.chat import Conversation, conversations_path, read_conversations
from medvl_lib.errors import InputMissing, InputRefused
from medvl_lib.evaluation import parity
from medvl_lib.evaluation.fresh import start_server
from medvl_lib.evaluation.parity import Answers, Form, Heard
from medvl_lib.evaluation.predictions import PREDICTIONS, REFERENCES, Prediction, Reference, Variant
from medvl_lib.evaluation.spec import first_asked
from medvl_lib.files import write_json
from medvl_lib.hardware import Profile, numerics
from medvl_lib.lines import Line
from medvl_lib.models.spec import on_its_engine
from medvl_lib.pointer import Served, in_words, pointer_id, read_pointer, read_state
from medvl_lib.provenance import (
    Artifact,
    Fact,
    Outcome,
    Rule,
    Verdict,
    ancestor,
    code_version,
    digest,
    judge,
    library_versions,
    read_artifact,
    resolve,
    write_step,
)
from medvl_lib.route.champion import contenders_of
from medvl_lib.route.data import sign, source
from medvl_lib.route.pointing import ASKED, NOT_COMPARED, comparison_of, comparisons_of, predictions_of, would_be_served
from medvl_lib.route.promoting import answered_as, measured, terms_of
from medvl_lib.serving.served import ServedModel, served_model
from medvl_lib.step import Call, Inputs, Step, Table
from medvl_lib.tables import read_table
from medvl_lib.workspace import Workspace

CIRCUMSTANCES = "circumstances"  # fact of a parity: what its answers depend on
ANSWERING = ("python", "torch", "transformers", "peft", "bitsandbytes", "tokenizers", "pillow", "numpy", "fastapi", "mlx", "mlx-vlm")
"""Libraries that an answer goes through: after an update of one of them the question is open again."""


def parity_step(line: Line, profile: Profile) -> Step:
    """What would be served, asked in every form. Where it runs is part of its identity: that is what is being compared."""
    name = line.name

    def observe(workspace: Workspace, inputs: Inputs) -> str:
        model = would_be_served(workspace, line, inputs[f"promotion/{name}"])
        return json.dumps(circumstances(line, profile, model), sort_keys=True)

    def compare(call: Call) -> Mapping[str, Fact]:
        start_server(profile)
        from medvl_lib.serving.forms import Question, answers

        decided = call.inputs[f"promotion/{name}"]
        predictions = predictions_of(call.workspace, line, decided)
        model = would_be_served(call.workspace, line, decided)
        variant = answered_as(predictions, model.data_version)
        if variant is None:
            raise InputRefused(
                found=f"what is to be served ({model.data_version}) did not answer", where=str(predictions.directory),
                do=f"materialize {name}/predictions again, and what follows from it",
            )  # fmt: skip
        chosen = chosen_pairs(predictions, line)
        asked = Question(
            model=model, base=contenders_of(call.workspace, line, predictions)["base"].weights, line=line, profile=profile,
            workspace=call.workspace, groups=in_groups(call.workspace, line, predictions, chosen),
        )  # fmt: skip
        forms: dict[Form, Answers] = {"evaluated": evaluated(predictions, variant), **answers(asked)}
        facts = parity.write_parity(call.directory, forms, chosen, line.parity)
        return {**facts, "variant": variant, ASKED: model.data_version, CIRCUMSTANCES: call.observed}

    return Step(
        name="parity", owner=name, description=sign(parity.__name__), process="predict",
        reads=(source("promotion", name, promotion.RULES),),
        version=code_version(parity.REVISION, parity.REVISIONS, name, line.parity),
        rules=parity.rules(line.parity, line.gate.min_pairs), write=compare, observe=observe,
        table=Table(file=parity.ANSWERS, model=parity.ComparedAnswer),
    )  # fmt: skip


def circumstances(line: Line, profile: Profile, model: ServedModel) -> dict[str, str]:
    """What an answer depends on, by what it is called where it has become something else."""
    versions, profile = library_versions(), on_its_engine(profile, line.model.family)
    asked = digest([line.evaluation, line.model.max_pixels, prompts.REVISION, images.REVISION, numerics(profile), profile.attention])
    return {
        "weights": model.data_version, "device": profile.device, "prediction_batch": str(profile.prediction_batch),
        "settings": asked, **{library: versions[library] for library in ANSWERING if library in versions},
    }  # fmt: skip


def chosen_pairs(predictions: Artifact, line: Line) -> list[Reference]:
    """The first test pairs by the seeded hash that also chose them for the evaluation."""
    asked = [row for row in read_table(predictions.directory / REFERENCES, Reference) if row.split == "test"]
    return first_asked(asked, replace(line.evaluation, max_pairs_per_dataset=line.parity.max_pairs), lambda row: row.pair_id)


def evaluated(predictions: Artifact, variant: Variant) -> Answers:
    """What a variant said when it was evaluated."""
    rows = read_table(predictions.directory / PREDICTIONS, Prediction)
    return {row.pair_id: Heard(row.answer, row.batch_size) for row in rows if row.variant == variant and row.condition == "as_is"}


def in_groups(workspace: Workspace, line: Line, predictions: Artifact, chosen: Sequence[Reference]) -> list[list[Conversation]]:
    """The chosen conversations as the evaluation asks them: a list for each dataset, in the order of their hashes."""
    path = conversations_path(ancestor(workspace, predictions, "chat", line.name).directory, "test")
    wanted = {row.pair_id for row in chosen}
    found = {item.pair_id: item for item in read_conversations(path) if item.pair_id in wanted}
    datasets = dict.fromkeys(item.dataset for item in found.values())
    return [[found[row.pair_id] for row in chosen if row.dataset == dataset] for dataset in datasets]


# -- what is served ----------------------------------------------------------------------------------------------------
SERVED_RULE = "served_model_is_the_evaluated_model"
SERVED_STEP, POINTER = "served_model", "served.json"
SERVED_REVISION = 1  # first version


def served_sentence(line: Line) -> str:
    """What must be true of what a line serves, and on how many pairs that is looked at."""
    asked = f"on the {line.parity.max_pairs} test pairs, or all where there are fewer, that were asked again"
    return f"What is served is what was evaluated, to the last byte, and says the same where it is served, {asked}."


def judge_served(workspace: Workspace, line: Line, decided: Artifact, compared: Artifact) -> Verdict:
    """Write down what is served after a decision, and judge it: like every other verdict it stays beside what it was said of."""
    pointer = read_pointer(workspace, line.name)

    def write(folder: Path) -> dict[str, Fact]:
        write_json(folder / POINTER, None if pointer is None else asdict(pointer))
        return {"variant": pointer.variant if pointer else "base", "pointer": pointer_id(pointer), "says": in_words(line.name, pointer)}

    version = code_version(SERVED_REVISION, line.name, pointer_id(pointer))
    written = write_step(workspace, SERVED_STEP, line.name, version, [decided, compared], write)
    rule = Rule(name=SERVED_RULE, sentence=served_sentence(line), holds=lambda _: served_model_is_the_evaluated_model(workspace, line))
    [verdict] = judge(workspace, written, [rule])
    return verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evaluated:
    """What an evaluation says of the variant that won it."""

    variant: Variant
    data_version: str | None
    """None where no such variant answered."""
    where: str


def served_model_is_the_evaluated_model(workspace: Workspace, line: Line) -> Outcome:
    """The files that the pointer names are those that its decision's evaluation measured, and their answers were compared since."""
    try:
        model = served_model(workspace, line)
        judged = _evaluation_of(workspace, line, model)
        said = _compared(workspace, line, model)
    except (InputMissing, InputRefused) as error:
        return Outcome(passed=False, found=f"{error.found}; {error.do}", offenders=(error.where,))
    if judged.data_version != model.data_version:
        found = f"{judged.variant} was evaluated as {judged.data_version}, and {model.data_version} is served: {model.sentence}"
        return Outcome(passed=False, found=found, offenders=(judged.where,))
    return Outcome(passed=True, found=f"{model.sentence}; {said}")


def _evaluation_of(workspace: Workspace, line: Line, model: ServedModel) -> _Evaluated:
    """What was measured of the variant that is served, in the evaluation that its pointer's decision names."""
    if model.pointer is None:
        decided = resolve(workspace, "promotion", line.name, promotion.RULES)
    else:
        decided = decision_of(workspace, model.pointer)
    predictions = predictions_of(workspace, line, decided)
    versions = {row.variant: row.weights_data_version for row in measured(predictions)}
    return _Evaluated(variant=model.variant, data_version=versions.get(model.variant), where=str(predictions.directory))


def decision_of(workspace: Workspace, pointer: Served) -> Artifact:
    """The gate's decision that a pointer rests on: the one that it names, or the one that a person overrode."""
    named = read_artifact(workspace.directory(pointer.decision_step, pointer.line, pointer.decision))
    return ancestor(workspace, named, "promotion", pointer.line) if named.step == override.STEP else named


def decided_otherwise(workspace: Workspace, line: Line, model: ServedModel) -> str:
    """A sentence where what is served was decided under other settings than the line has now; empty where it was not, or nobody knows."""
    decided = decision_on(workspace, line, model)
    return "" if decided is None else otherwise(decided.directory, terms_of(line))


def decision_on(workspace: Workspace, line: Line, model: ServedModel) -> Artifact | None:
    """The gate's decision that what is served rests on; None where nothing was decided yet, or the decision is gone."""
    try:
        return decision_of(workspace, model.pointer) if model.pointer else resolve(workspace, "promotion", line.name, promotion.RULES)
    except InputMissing:
        return None


def _compared(workspace: Workspace, line: Line, model: ServedModel) -> str:
    """By how much the forms of what is served differ; raises InputRefused where others were compared, or the comparison failed."""
    found = comparison_of(workspace, line, model)
    scores = list(read_table(found.directory / parity.SCORES, parity.ComparedScore))
    rows = read_table(found.directory / parity.COMPARISONS, parity.Comparison)
    return "; ".join(parity.sentence(row, [score for score in scores if score.form == row.form]) for row in rows)


def require_compared(workspace: Workspace, line: Line, profile: Profile, model: ServedModel) -> str:
    """A sentence on how what is about to be served was compared with what was judged; raises InputRefused where it was not.

    Refused are other weights than the evaluation's, and other settings, libraries or devices than the comparison's: then nobody knows
    whether the same is said. The base model of a line that was never evaluated is served, and the sentence says so; and so is the one that
    somebody went back to, which answered before anything was promoted, unless a comparison found that it answers otherwise.
    """
    if model.pointer is None and not workspace.current("promotion", line.name).is_file():
        return "it was never evaluated"
    if model.pointer is None and read_state(workspace, line.name).previous is not None and not comparisons_of(workspace, line, model):
        return f"{NOT_COMPARED}: what was promoted was taken back"
    found = served_model_is_the_evaluated_model(workspace, line)
    do = f"materialize {line.name}/parity and {line.name}/served_model, or serve it --unchecked"
    if not found.passed:
        raise InputRefused(found=found.found, where=", ".join(found.offenders), do=do)
    compared = comparison_of(workspace, line, model)
    then, now = json.loads(str(compared.facts[CIRCUMSTANCES])), circumstances(line, profile, model)
    changed = [f"{name} is {now.get(name, 'absent')}" for name in {**then, **now} if now.get(name) != then.get(name)]
    if changed:
        raise InputRefused(found=f"other circumstances than its answers were compared in: {', '.join(changed)}",
                           where=str(compared.directory), do=do)  # fmt: skip
    return found.found.removeprefix(f"{model.sentence}; ")
