"""Steps of the data: from a publisher's files to audited conversations.

In: a dataset with its settings, or a line. Out: steps. Reading, judging and splitting themselves belong to the rooms named here.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medvl_lib import (
    audit,
    chat,
    elsewhere,
    images,
    near_duplicates,
    pairs,
    prompts,
    raw_records,
    split,
    tokenization,
    validation,
    vision_tokens,
)
from medvl_lib.benchmark.outlook import outlook
from medvl_lib.configured import DatasetRun
from medvl_lib.datasets import DATASETS, SHOWN_LICENCES
from medvl_lib.examples import Examples
from medvl_lib.images import ImageStore
from medvl_lib.lines import Line
from medvl_lib.models.weights import BASE_RULES
from medvl_lib.provenance import Fact, Rule, code_version
from medvl_lib.step import Call, Source, Step, Table
from medvl_lib.training.choice import every_stage_has_pairs
from medvl_lib.workspace import Workspace


def dataset_steps(run: DatasetRun) -> tuple[Step, ...]:
    """Raw records, what is known of the subjects from other tables (where the dataset has it), pairs and validated pairs."""
    dataset, name = run.dataset, run.dataset.name

    def seen(workspace: Workspace) -> tuple[raw_records.RawFile, ...]:
        cure = (
            f"put the publisher's files there (`medvl fetch {name}` does, or says how), name their folder in [datasets.{name}] raw_path, "
            f"or run `medvl sample-data {name}`"
        )
        return raw_records.observe(run.raw_folder, workspace.observed("raw_records", name), cure=cure)

    def current(workspace: Workspace) -> str:
        """What the raw files are now; those behind a URL are brought first."""
        if run.raw_url:
            elsewhere.mirror(run.raw_url, run.raw_folder)
        return raw_records.contents(seen(workspace))

    def observe(call: Call) -> Mapping[str, Fact]:
        facts = raw_records.write_manifest(call.directory, seen(call.workspace))
        raw_records.require_unchanged(call.directory, seen(call.workspace), run.raw_folder, name)
        return facts

    def unmoved(call: Call, write: Callable[[], Mapping[str, Fact]]) -> Mapping[str, Fact]:
        """Write from the raw folder, which is what was observed, before and after."""
        manifest = call.read("raw_records", name)
        raw_records.require_unchanged(manifest, seen(call.workspace), run.raw_folder, name)
        facts = write()
        raw_records.require_unchanged(manifest, seen(call.workspace), run.raw_folder, name)
        return facts

    def read(call: Call) -> Mapping[str, Fact]:
        known = dataset.context
        readings = dataset.read(run.raw_folder) if known is None else known.read(run.raw_folder, call.read(known.step, name))
        return unmoved(call, lambda: pairs.write_pairs(call.directory, readings, ImageStore(call.workspace.images), call.report))

    def validate(call: Call) -> Mapping[str, Fact]:
        store = ImageStore(call.workspace.images)
        return validation.write_validated(call.directory, call.read("pairs", name), store, dataset, run.limits, call.report)

    raw_rules = raw_records.rules(run.raw_folder, dataset.is_read)
    raw = source("raw_records", name, raw_rules)
    known = () if dataset.context is None else (context_step(run, dataset.context, raw, unmoved),)
    return (
        Step(
            name="raw_records", owner=name, description=f"{dataset.title}. {sign(raw_records.__name__)}", reads=(),
            version=code_version(raw_records.REVISION, name), rules=raw_rules,
            observe=lambda workspace, _: current(workspace),
            write=observe,
            table=Table(file=raw_records.MANIFEST, model=raw_records.RawFile),
        ),
        *known,
        Step(
            name="pairs", owner=name, description=sign(dataset.read.__module__),
            reads=(raw, *(source(step.name, name, step.rules) for step in known)),
            version=code_version(pairs.REVISION, name, dataset.revision, dataset.literals), rules=pairs.RULES, write=read,
            table=Table(file=pairs.PAIRS, model=pairs.Pair),
        ),
        Step(
            name="validated_pairs", owner=name, description=sign(validation.__name__), reads=(source("pairs", name, pairs.RULES),),
            version=code_version(validation.REVISION, images.REVISION, name, run.limits), rules=validation.rules(dataset), write=validate,
            table=Table(file=pairs.PAIRS, model=pairs.Pair),
        ),
    )  # fmt: skip


def context_step(
    run: DatasetRun, context: pairs.Context, raw: Source, unmoved: Callable[[Call, Callable[[], Mapping[str, Fact]]], Mapping[str, Fact]]
) -> Step:
    """What is known of a dataset's subjects from other tables, judged before any pair is made with it."""
    return Step(
        name=context.step, owner=run.dataset.name, description=context.description.strip(), reads=(raw,),
        version=code_version(context.revision, run.dataset.name, run.dataset.revision, context.literals),
        rules=context.rules(run.raw_folder), table=context.table,
        write=lambda call: unmoved(call, lambda: context.write(run.raw_folder, call.directory)),
    )  # fmt: skip


def source(step: str, name: str, rules: Sequence[Rule]) -> Source:
    """An input and the verdicts that it must have."""
    return Source(step=step, name=name, rules=tuple(rules))


def sign(module: str) -> str:
    """A room's sign on the door, which the UI shows."""
    return (sys.modules[module].__doc__ or "").strip()


def _validated(line: Line) -> tuple[Source, ...]:
    budgets = line.rejected_share_budgets
    datasets = [replace(DATASETS[name], rejected_share_budget=budgets[name]) for name in line.datasets]
    return tuple(source("validated_pairs", dataset.name, validation.rules(dataset)) for dataset in datasets)


def data_steps(line: Line) -> tuple[Step, ...]:
    """The split of a line's validated pairs, what stands in it nearly twice, and the conversations."""
    name = line.name

    def validated(call: Call) -> dict[str, Path]:
        return {dataset: call.read("validated_pairs", dataset) for dataset in line.datasets}

    return (
        Step(
            name="split", owner=name, description=sign(split.__name__), reads=_validated(line),
            version=code_version(split.REVISION, name, line.datasets, line.split), rules=split.RULES,
            write=lambda call: split.write_split(call.directory, validated(call), line.split),
            table=Table(file=split.SPLIT, model=split.SplitRow),
        ),
        Step(
            name="near_duplicates", owner=name, description=sign(near_duplicates.__name__),
            reads=(source("split", name, split.RULES), *_validated(line)),
            version=code_version(near_duplicates.REVISION, images.REVISION, name, line.datasets, near_duplicates.LITERALS),
            rules=near_duplicates.RULES,
            write=lambda call: near_duplicates.write_near_duplicates(
                call.directory, call.read("split", name), validated(call), ImageStore(call.workspace.images)),
            table=Table(file=near_duplicates.NEAR_DUPLICATES, model=near_duplicates.NearDuplicate),
        ),
        Step(
            name="chat", owner=name, description=sign(chat.__name__), reads=(source("split", name, split.RULES), *_validated(line)),
            version=code_version(chat.REVISION, name, line.datasets),
            rules=(*chat.RULES, every_stage_has_pairs(line.answering), outlook(line.gate, line.evaluation)),
            write=lambda call: chat.write_chat(call.directory, call.read("split", name), validated(call)),
        ),
    )  # fmt: skip


def audit_step(line: Line) -> Step:
    """What the line's model will really see of the conversations."""
    name = line.name
    return Step(
        name="audit", owner=name, description=sign(audit.__name__),
        reads=(source("chat", name, chat.RULES), source("base_model", name, BASE_RULES)),
        version=code_version(
            audit.REVISION, tokenization.REVISION, prompts.REVISION, vision_tokens.REVISION, images.REVISION, name, line.audit,
            line.model.max_pixels,
        ), rules=audit.RULES,
        write=lambda call: audit.write_audit(
            call.directory, call.read("chat", name), call.read("base_model", name), ImageStore(call.workspace.images), line.audit,
            max_pixels=line.model.max_pixels, report=call.report),
        table=Table(file=audit.AUDIT, model=audit.AuditRow),
        examples=Examples(
            file=audit.EXAMPLES, model=audit.AuditExample, shown_licences=SHOWN_LICENCES),
    )  # fmt: skip
