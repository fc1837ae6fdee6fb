"""Steps of the weights: the base model, its 4-bit form, and the adapter of each stage.

In: a line and a profile. Out: steps that run in heavy processes. Torch is imported when one of them writes, never when the graph loads.
"""

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

from medvl_lib import audit, chat, images, models, prompts, raw_records, retrieved_cases, training
from medvl_lib.errors import MedVLError
from medvl_lib.evaluation import handover
from medvl_lib.evaluation.spec import FurtherVariant
from medvl_lib.hardware import Profile, numerics
from medvl_lib.images import ImageStore
from medvl_lib.lines import Line
from medvl_lib.models import shipped
from medvl_lib.models import spec as model_spec
from medvl_lib.models.spec import ModelSpec
from medvl_lib.models.weights import AFFINE4_RULES, BASE_RULES, FOUR_BITS, INT8_RULES, MERGED_RULES, NF4_RULES, Quantization
from medvl_lib.plan.memory import Length, Planner, longest
from medvl_lib.provenance import Fact, Rule, code_version
from medvl_lib.ranks import ranks_here
from medvl_lib.route.data import sign, source
from medvl_lib.step import Call, Inputs, Source, Step, Table
from medvl_lib.training import overfit
from medvl_lib.training import recipe as training_recipe
from medvl_lib.training import rules as training_rules
from medvl_lib.training.checkpoints import held_alone
from medvl_lib.training.recipe import Stage
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep
from medvl_lib.workspace import Workspace

CASES = "retrieved_cases"  # the step whose cases stand before a line's questions
PACKED_RULES: Mapping[Quantization, tuple[Rule, ...]] = {"nf4": NF4_RULES, "affine4": AFFINE4_RULES, "int8": INT8_RULES}
FURTHER_RULES: Mapping[FurtherVariant, tuple[Rule, ...]] = {"int8": INT8_RULES, "merged": MERGED_RULES}


def model_steps(line: Line, profile: Profile) -> tuple[Step, ...]:
    """The base model, its 4-bit form where the profile has one, and the further forms that the evaluation asks for.

    Raises MedVLError where it asks for a form that the profile's engine does not have.
    """
    name, spec, identity = line.name, line.model, _identity(line.model)

    def quantized(form: Quantization) -> Step:
        def write(call: Call) -> Mapping[str, Fact]:
            from medvl_lib.models.preparing import write_quantized

            return write_quantized(call.directory, call.read("base_model", name), form, spec, profile)

        return Step(
            name=f"{form}_model", owner=name, description=sign(models.__name__), process="prepare",
            reads=(source("base_model", name, BASE_RULES),),
            version=code_version(model_spec.REVISION, name, identity, model_spec.SKIP_MODULES[spec.family], numerics(profile)),
            rules=PACKED_RULES[form], write=write,
        )  # fmt: skip

    base, four_bits = base_step(line, "base_model", spec), FOUR_BITS.get(profile.quantization)
    int8 = (quantized("int8"),) if "int8" in line.evaluation.further_variants else ()
    if four_bits != "nf4":
        if int8:
            raise MedVLError(
                found=f"further_variants names int8 on the profile {profile.name}, whose engine has no eight bits",
                where=f"the evaluation of the line {name}", do="take it out, or run on a profile with bitsandbytes (cpu, cuda, gb10)",
            )  # fmt: skip
        return (base,) if four_bits is None else (base, quantized(four_bits))
    return (base, quantized(four_bits), *int8)


def further_models(line: Line) -> tuple[Source, ...]:
    """The models that only answer."""
    return tuple(source(f"{form}_model", line.name, FURTHER_RULES[form]) for form in line.evaluation.further_variants)


def merged_steps(line: Line, profile: Profile) -> tuple[Step, ...]:
    """The last stage's adapter added into the base weights, where the evaluation asks for it."""
    name, last = line.name, line.stages[-1]

    def write(call: Call) -> Mapping[str, Fact]:
        from medvl_lib.models.merging import write_merged

        return write_merged(call.directory, call.read("base_model", name), call.read(last.name, name), line.model, profile)

    step = Step(
        name="merged_model", owner=name, description=sign(models.__name__), process="predict",
        reads=(source("base_model", name, BASE_RULES), source(last.name, name, stage_rules(last))),
        version=code_version(model_spec.MERGE_REVISION, name, numerics(profile)), rules=MERGED_RULES, write=write,
    )  # fmt: skip
    return (step,) if "merged" in line.evaluation.further_variants else ()


def base_step(line: Line, step: str, spec: ModelSpec) -> Step:
    """Weights as they come, under a step's name: the line's, or those that a stage of it has for itself."""

    def write(call: Call) -> Mapping[str, Fact]:
        from medvl_lib.models.preparing import write_base

        return write_base(call.directory, spec, call.workspace.downloads(spec.hub_id, spec.revision), call.report)

    return Step(
        name=step, owner=line.name, description=sign(models.__name__), reads=(), process="prepare",
        version=code_version(model_spec.REVISION, line.name, _identity(spec)), rules=BASE_RULES, write=write,
        observe=_observed(line, step, spec),
    )  # fmt: skip


def _identity(spec: ModelSpec) -> Mapping[str, object]:
    """What names weights: a path is a place, and the contents are observed; where they are converted, also how."""
    layout = {"layout": model_spec.LAYOUT_REVISIONS[spec.family]} if spec.family in model_spec.LAYOUT_REVISIONS else {}
    return dataclasses.asdict(spec) | {"path": ""} | layout


def _observed(line: Line, step: str, spec: ModelSpec) -> Callable[[Workspace, Inputs], str] | None:
    """The contents of weights that no literal names: the shipped small ones, or those of a directory."""
    if spec.source == "tiny":
        return lambda workspace, _: shipped.identity(spec.family)
    if spec.source == "hub":
        return None  # the revision names them
    cure = f"point path in the settings of the line {line.name} at a checkpoint in the hub's layout, or set source = 'hub'"
    return lambda workspace, _: raw_records.contents(raw_records.observe(Path(spec.path), workspace.observed(step, line.name), cure=cure))


def trained_on(line: Line, profile: Profile) -> Source:
    """The weights that adapters are trained on: in four bits where the profile has them."""
    form = FOUR_BITS.get(profile.quantization)
    return source("base_model", line.name, BASE_RULES) if form is None else source(f"{form}_model", line.name, PACKED_RULES[form])


def stage_steps(line: Line, profile: Profile) -> tuple[Step, ...]:
    """The rehearsal on a few pairs, then one step per stage that answers, each reading the adapter of the one before.

    A stage that goes on from another is a process of its own: it begins when the one before has been judged, in the graph too.
    """
    first = line.answering[0]
    steps = [_stage_step(line, profile, overfit.overfit_stage(first), (), overfit.RULES, overfit.__name__, overfit.REVISION)]
    before: tuple[Source, ...] = ()
    for stage in line.answering:
        process = f"train_{stage.name}" if before else "train"
        steps.append(_stage_step(line, profile, stage, before, stage_rules(stage), training.__name__, process=process))
        before = (source(stage.name, line.name, stage_rules(stage)),)
    return tuple(steps)


def stage_rules(stage: Stage) -> tuple[Rule, ...]:
    """What must be true of a stage that answers: what must be of every one, and what it has to show before the next one."""
    return (*training_rules.RULES, *handover.rules(stage.handover))


def _stage_step(
    line: Line, profile: Profile, stage: Stage, before: tuple[Source, ...], rules: tuple[Rule, ...], room: str, *more: int,
    process: str = "train",
) -> Step:  # fmt: skip
    """A step that learns to answer, signed by its room; ``more`` are revisions that it alone has."""
    name = line.name
    revisions = (prompts.REVISION, images.REVISION, *more, *(() if stage.handover is None else (handover.REVISION,)))
    version = code_version(training_recipe.REVISION, revisions, name, stage.identity, numerics(profile), line.model.max_pixels)
    reads = (source("chat", name, chat.RULES), source("audit", name, audit.RULES))
    if isinstance(stage.recipe, training_recipe.Recipe) and stage.recipe.with_retrieved_cases:
        reads = (*reads, source(CASES, name, retrieved_cases.RULES))
    return train_step(
        line, profile, stage, line.model, trained_on(line, profile), reads=reads, before=before, rules=rules, room=room, version=version,
        process=process,
    )  # fmt: skip


def train_step(
    line: Line, profile: Profile, stage: Stage, spec: ModelSpec, weights: Source, *, reads: tuple[Source, ...], rules: tuple[Rule, ...],
    room: str, version: str, before: tuple[Source, ...] = (), process: str = "train",
) -> Step:  # fmt: skip
    """A step that trains a stage, whatever its objective: from a base model and conversations, perhaps on the adapter before it."""
    name = line.name

    def write(call: Call) -> Mapping[str, Fact]:
        checkpoints = call.workspace.checkpoints(stage.name, name, call.fingerprint)
        lock = call.workspace.lock(f"training-{stage.name}-{name}-{call.fingerprint}")
        with held_alone(checkpoints, lock) if ranks_here().leads else nullcontext():
            return trained(call, checkpoints)

    def trained(call: Call, checkpoints: Path) -> Mapping[str, Fact]:
        from medvl_lib.training.route import train

        stored, chat_directory, start = ImageStore(call.workspace.images), call.read("chat", name), call.read(weights.step, name)
        planned = planned_training(call, line, stage, spec, profile, start)
        facts = train(
            call.directory, stage=stage, spec=spec, weights=start, chat=chat_directory,
            images=stored, profile=planned, previous=call.read(before[0].step, name) if before else None,
            checkpoints=checkpoints, report=call.report,
            cases=call.read(CASES, name) if f"{CASES}/{name}" in call.inputs else None,
        )  # fmt: skip
        if stage.handover is None or not ranks_here().leads:
            return facts
        batch = profile.prediction_batch if planned is profile else min(profile.prediction_batch, planned.training_batch)
        return {**facts, **handover.write_answers(
            call.directory, stage=stage, spec=spec, weights=start, chat=chat_directory, images=stored,
            profile=dataclasses.replace(profile, prediction_batch=batch),  # where fewer pairs fit in training, no more are asked at once
        )}  # fmt: skip

    return Step(
        name=stage.name, owner=name, description=sign(room), reads=(*reads, weights, *before), process=process, version=version,
        rules=rules, write=write, table=Table(file=TRAINING_STEPS, model=TrainingStep), is_walked_together=True,
    )  # fmt: skip


def planned_training(call: Call, line: Line, stage: Stage, spec: ModelSpec, profile: Profile, weights: Path) -> Profile:
    """The profile with as many pairs at a time as have room, before a model is loaded; raises MedVLError with the numbers for none."""
    length = Length(0, 1, spec.max_pixels)
    if isinstance(stage.recipe, training_recipe.Recipe):
        bound = line.audit.max_tokens if stage.recipe.with_retrieved_cases else 0
        length = longest(call.read("audit", line.name), ("train", "validation"), bound)
    plan = Planner(stage, spec, profile, length, weights).fitting()
    call.report({"planned_bytes": round(plan.total_bytes), "pairs_at_a_time": plan.micro_batch})
    return profile if plan.micro_batch >= min(profile.training_batch, stage.recipe.effective_batch) else dataclasses.replace(
        profile, training_batch=plan.micro_batch
    )  # fmt: skip
