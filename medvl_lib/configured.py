"""The lines and datasets as the settings have them: changed, varied under another name, or left out.

In: the settings, and the values of ``lines`` and ``datasets``. Out: ``Line`` and ``DatasetRun``, complete; or a SettingsError for a name, a
number or a combination that cannot be meant. What a line is when nothing is changed stands in ``lines``; how a table of the file is laid
over a value, in ``overrides``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, get_args

from medvl_lib.benchmark.gate import EVERY, Gate
from medvl_lib.benchmark.slices import ALL
from medvl_lib.chat import LABELS
from medvl_lib.datasets import DATASETS
from medvl_lib.errors import SettingsError
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.spec import EvaluationSpec, FurtherVariant
from medvl_lib.hardware import PROFILES
from medvl_lib.lines import LINES, MODELS, PAGES, Line, tiny, tiny_model, uses_similar_cases
from medvl_lib.models.spec import ModelSpec
from medvl_lib.overrides import nearest_of, override, unknown_key
from medvl_lib.pairs import Dataset
from medvl_lib.settings import Settings, require_known_names
from medvl_lib.training.recipe import MatchRecipe, Recipe, Stage
from medvl_lib.validation import Limits

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRun:
    """A dataset, where its raw files lie, and what its pairs may measure."""

    dataset: Dataset
    raw_folder: Path
    raw_url: str = ""
    """Where they come from, where the folder is their mirror."""
    limits: Limits


def lines_of(settings: Settings) -> tuple[Line, ...]:
    """Every line at the settings' scale, with their datasets and changes; a misspelt name or key is refused with the nearest valid one."""
    require_known_names(settings, datasets=DATASETS, lines=LINES, profiles=PROFILES)
    varied = [replace(LINES[line.like], name=name) for name, line in settings.lines.items() if line.like is not None]
    lines = [*(line for line in LINES.values() if _is_in_use(line, settings)), *varied]
    if not lines:
        known = {name: None for line in LINES.values() for name in line.datasets}
        raise SettingsError(
            found="no dataset of any line is enabled", where=settings.where("datasets"), do=f"enable one of {', '.join(known)}"
        )
    return tuple(_applied(tiny(line) if settings.scale == "tiny" else line, settings) for line in lines)


def dataset_runs(settings: Settings) -> tuple[DatasetRun, ...]:
    """Every dataset that the settings switch on, with its folder and its changes."""
    require_known_names(settings, datasets=DATASETS, lines=LINES, profiles=PROFILES)
    return tuple(
        DatasetRun(
            dataset=_dataset(name, settings), raw_folder=settings.raw_folder(name), raw_url=settings.dataset(name).raw_url,
            limits=override(PAGES, settings.dataset(name).limits, settings.where("datasets", name, "limits")),
        ) for name in settings.enabled_datasets()
    )  # fmt: skip


def _is_in_use(line: Line, settings: Settings) -> bool:
    """Whether a line has a dataset, or is told by the settings which it shall have: without one it is not in the graph."""
    return settings.line(line.name).datasets is not None or any(settings.dataset(name).enabled for name in line.datasets)


def _of_family(model: ModelSpec, changes: Mapping[str, object], scale: str) -> ModelSpec:
    """What a line starts from: another family is another checkpoint, at the line's scale."""
    for family, published in MODELS.items():
        if changes.get("family") == family != model.family:
            return tiny_model(family) if scale == "tiny" else published
    return model


def _among(line: Line, datasets: Sequence[str]) -> Line:
    """The line without its own words on datasets that it does not read."""

    def kept(numbers: Mapping[str, Number]) -> Mapping[str, Number]:
        return {name: number for name, number in numbers.items() if name in datasets}

    def among(stage: Stage) -> Stage:
        recipe = replace(stage.recipe, pairs_per_dataset=kept(stage.recipe.pairs_per_dataset))
        if isinstance(recipe, Recipe):
            recipe = replace(recipe, mixture_weights=kept(recipe.mixture_weights))
        return replace(stage, recipe=recipe)

    return replace(line, stages=tuple(among(stage) for stage in line.stages))


def _applied(line: Line, settings: Settings) -> Line:
    """The line with the settings' changes; raises SettingsError for what cannot be meant of it."""
    changes = settings.line(line.name)
    datasets = _datasets(line, settings)
    line = _among(line, datasets)

    def where(part: str) -> str:
        return settings.where("lines", line.name, part)

    evaluation = override(line.evaluation, changes.evaluation, where("evaluation"))
    _require_among(evaluation.datasets, line, datasets, f"{where('evaluation')}, datasets")
    gate = override(line.gate, changes.gate, where("gate"))
    _require_among(gate.datasets, line, evaluation.datasets or datasets, f"{where('gate')}, datasets")
    _require_answering(gate, evaluation, where("gate"))
    _require_labels(gate, where("gate"))
    stages = _stages(line, settings)
    for stage in stages:
        _require_recipe_among(stage.recipe, line, datasets, where("recipe" if isinstance(stage.recipe, Recipe) else "encoder"))
    if line.encoder is None:
        _require_no_similar_cases(line, evaluation, gate, stages, settings)
    return replace(
        line,
        datasets=datasets,
        rejected_share_budgets={name: _dataset(name, settings).rejected_share_budget for name in datasets},
        model=_model(line, settings),
        split=override(line.split, changes.split, where("split")),
        audit=override(line.audit, changes.audit, where("audit")),
        evaluation=evaluation,
        gate=gate,
        parity=override(line.parity, changes.parity, where("parity")),
        stages=stages,
    )


def _model(line: Line, settings: Settings) -> ModelSpec:
    """What the line starts from; raises SettingsError for a model that never answers."""
    changes, where = settings.line(line.name).model, settings.where("lines", line.name, "model")
    model = override(_of_family(line.model, changes, settings.scale), changes, where)
    if model.family not in MODELS:
        raise SettingsError(found=f"family = {model.family!r}, which never answers", where=where, do=f"name one of {', '.join(MODELS)}")
    return _resolved(model, settings)


def _require_recipe_among(recipe: Recipe | MatchRecipe, line: Line, datasets: Sequence[str], table: str) -> None:
    """Refuse a recipe that gives numbers to a dataset that the line does not read."""
    _require_among(recipe.pairs_per_dataset, line, datasets, f"{table}, pairs_per_dataset")
    if isinstance(recipe, Recipe):
        _require_among(recipe.mixture_weights, line, datasets, f"{table}, mixture_weights")


def _require_no_similar_cases(line: Line, evaluation: EvaluationSpec, gate: Gate, stages: Sequence[Stage], settings: Settings) -> None:
    """Refuse similar cases, and a guardrail on finding them, in a line that has no encoder."""
    if uses_similar_cases(evaluation, stages):
        raise SettingsError(
            found=f"similar cases before questions of the line {line.name}, which has no encoder to find them",
            where=settings.where("lines", line.name, "evaluation"),
            do="take retrieved_cases out of controls and with_retrieved_cases out of the recipe, or choose a line that has an encoder",
        )
    if gate.recall_guardrails:
        raise SettingsError(
            found=f"recall_guardrails of the line {line.name}, which has no encoder", where=settings.where("lines", line.name, "gate"),
            do="take them out, or choose a line that has an encoder",
        )  # fmt: skip


def _resolved(model: ModelSpec, settings: Settings) -> ModelSpec:
    """A checkpoint's path as the file means it."""
    return replace(model, path=str((settings.path.parent / model.path).resolve())) if model.path else model


def _stages(line: Line, settings: Settings) -> tuple[Stage, ...]:
    """The stages with the settings' numbers: ``recipe`` for those that answer, ``encoder`` and ``encoder_model`` for what matches."""
    changes = settings.line(line.name)
    if line.encoder is None and (changes.encoder or changes.encoder_model):
        raise SettingsError(
            found=f"the line {line.name} has no encoder", where=settings.where("lines", line.name),
            do="take [encoder] and [encoder_model] out, or choose a line that has one",
        )  # fmt: skip

    def changed(stage: Stage) -> Stage:
        if isinstance(stage.recipe, Recipe):
            return replace(stage, recipe=override(stage.recipe, changes.recipe, settings.where("lines", line.name, "recipe")))
        recipe = override(stage.recipe, changes.encoder, settings.where("lines", line.name, "encoder"))
        where = settings.where("lines", line.name, "encoder_model")
        model = None if stage.model is None else _resolved(override(stage.model, changes.encoder_model, where), settings)
        if model is not None and model.family in MODELS:
            raise SettingsError(found=f"family = {model.family!r}, which answers", where=where, do="name an encoder: siglip")
        return replace(stage, recipe=recipe, model=model)

    return tuple(changed(stage) for stage in line.stages)


def _require_among(names: Iterable[str], line: Line, datasets: Sequence[str], where: str) -> None:
    """Refuse a dataset that the line does not know, and one that it knows and does not read as things are."""
    for name in names:
        if name not in line.datasets:
            raise unknown_key(name, line.datasets, where)
        if name not in datasets:
            do = f"enable it in [datasets.{name}], or take out what names it"
            raise SettingsError(found=f"{name}, which the line {line.name} does not read as the settings are", where=where, do=do)


def _require_answering(gate: Gate, evaluation: EvaluationSpec, where: str) -> None:
    """Refuse a candidate that nobody asks: int8 and merged answer only where the evaluation names them."""
    for candidate in gate.candidates:
        if candidate.variant in get_args(FurtherVariant) and candidate.variant not in evaluation.further_variants:
            raise SettingsError(
                found=f"candidates name {candidate.variant}, which never answers", where=where,
                do=f"let it answer: further_variants = {[*evaluation.further_variants, candidate.variant]} in the line's evaluation; or "
                "take it out of the candidates",
            )  # fmt: skip


def _require_labels(gate: Gate, where: str) -> None:
    """Refuse a guardrail on a label that no pair is ever reported by; whether some pair has its value the data say, at ``chat``."""
    for rail in gate.guardrails:
        label, _, value = rail.slice.partition("=")
        own = METRICS[rail.metric].parts
        if own and label in {name.partition("=")[0] for name in own}:
            if value != EVERY and rail.slice not in own:
                found = f"slice = {rail.slice!r}, which {rail.metric} has no number of"
                raise SettingsError(found=found, where=f"{where}, guardrails", do=nearest_of(rail.slice, own))
        elif rail.slice != ALL and label not in LABELS:
            raise SettingsError(
                found=f"slice = {rail.slice!r}: {label!r} is no label of pairs", where=f"{where}, guardrails", do=nearest_of(label, LABELS)
            )


def _datasets(line: Line, settings: Settings) -> tuple[str, ...]:
    """What a line reads: what the settings choose of its datasets, as far as these are enabled."""
    chosen = settings.line(line.name).datasets
    if chosen is not None:
        _require_among(chosen, line, line.datasets, f"{settings.where('lines', line.name)}, datasets")
    datasets = tuple(name for name in line.datasets if (chosen is None or name in chosen) and settings.dataset(name).enabled)
    if not datasets:
        raise SettingsError(
            found=f"no dataset of the line {line.name} is enabled",
            where=settings.where("datasets") if chosen else settings.where("lines", line.name),
            do=f"enable one of {', '.join(chosen or line.datasets)}",
        )
    return datasets


def _dataset(name: str, settings: Settings) -> Dataset:
    """A dataset with the settings' budget."""
    budget = settings.dataset(name).rejected_share_budget
    return DATASETS[name] if budget is None else replace(DATASETS[name], rejected_share_budget=budget)
