"""The lines as values: the table of contents of MedVL.

In: nothing, or the settings that change a line's numbers or vary a line under a name of its own. Out: ``Line``, complete. The lines
differ in values alone; nothing on the route asks which one it is running. How a step works stands in its room, in which order in
``route``.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar, get_args

from medvl_lib.audit import AuditSpec
from medvl_lib.benchmark.gate import EVERY, Gate, Guardrail, RecallGuardrail
from medvl_lib.benchmark.goals import StretchGoal
from medvl_lib.benchmark.slices import ALL
from medvl_lib.chat import LABELS
from medvl_lib.datasets import DATASETS, clinical_documents
from medvl_lib.datasets.descriptions import DESCRIBE, STAGE
from medvl_lib.datasets.mimic_cxr_texts import IMPRESSION_REQUEST
from medvl_lib.errors import SettingsError
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.parity import ParitySpec
from medvl_lib.evaluation.spec import EvaluationSpec, FurtherVariant
from medvl_lib.hardware import PROFILES
from medvl_lib.models.spec import LANGUAGE_TARGETS, TOWER_TARGETS, Family, ModelSpec
from medvl_lib.pairs import Dataset
from medvl_lib.retrieval import DIRECTIONS
from medvl_lib.settings import Settings, nearest_of, override, require_known_names, unknown_key
from medvl_lib.split import SplitSpec
from medvl_lib.training.recipe import PACE, UPDATE, Handover, MatchRecipe, Recipe, Stage
from medvl_lib.validation import Limits

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A model product: datasets, model, stages, and the rules by which it is judged."""

    name: str
    datasets: tuple[str, ...]
    """Datasets that it is trained and tested on, by name."""
    rejected_share_budgets: Mapping[str, float]
    """What share of each dataset's rows may have been left out: not identity, but what their verdicts must say."""
    split: SplitSpec
    model: ModelSpec
    audit: AuditSpec
    stages: tuple[Stage, ...]
    """Trained in this order: perhaps an encoder first, then what answers, each from the one before."""
    evaluation: EvaluationSpec
    gate: Gate
    parity: ParitySpec
    """How many pairs are asked again in the forms in which the line may be served, and how alike the answers must be."""
    extraction_request: str
    """What ``/extract`` asks: a question that the line is trained on. Not identity: nothing that is written depends on it."""
    stretch_goals: tuple[StretchGoal, ...] = ()
    """Figures that somebody hoped for, shown beside what was measured. Not identity: nothing decides by them."""

    def __post_init__(self) -> None:
        """Refuse a line that answers nothing, encoders that do not come first or are several (a line has one index), cases without one."""
        if self.retrieves and self.encoder is None:
            raise ValueError("similar cases before a question (retrieved_cases) need an encoder that finds them, and no stage is one")
        objectives = [stage.objective for stage in self.stages]
        if "match" in objectives[1:] or not self.answering:
            raise ValueError(f"stages with the objectives {objectives}: one that matches may come first, and at least one must answer")
        _require_one_training(self.answering)

    @property
    def encoder(self) -> Stage | None:
        """The stage that matches pictures and texts; None where there is none."""
        return next((stage for stage in self.stages if stage.objective == "match"), None)

    @property
    def retrieves(self) -> bool:
        """Whether similar training cases stand before questions of it, in a condition of its evaluation or in training."""
        return _retrieves(self.evaluation, self.stages)

    @property
    def answering(self) -> tuple[Stage, ...]:
        """The stages that learn to answer: each goes on with the adapter of the one before."""
        return tuple(stage for stage in self.stages if stage.objective != "match")


def _require_one_training(stages: Sequence[Stage]) -> None:
    """Refuse stages that go on from one another and do not share the steps of one recipe, or hand nothing over."""
    names = [stage.name for stage in stages]
    shares = 0.0
    for stage in stages:
        if not math.isclose(stage.share_before, shares, abs_tol=1e-9):
            raise ValueError(f"share_before = {stage.share_before:g} of {stage.name}: the stages before it have {shares:g} of the steps")
        shares += stage.share_of_steps
    if not math.isclose(shares, 1.0):
        raise ValueError(f"share_of_steps of {', '.join(names)} add up to {shares:g}: the line's steps are shared out among them, so to 1")
    first, *others = stages
    for stage in others:
        unlike = [name for name in (*PACE, *UPDATE) if getattr(stage.recipe, name) != getattr(first.recipe, name)]
        if unlike:
            raise ValueError(f"{first.name} and {stage.name} differ in {', '.join(unlike)}: one goes on with the other's weights and steps")
    if without := [stage.name for stage in stages[:-1] if stage.handover is None]:
        raise ValueError(f"{', '.join(without)}: another stage goes on from it, so name in handover what it has to show before")


def _retrieves(evaluation: EvaluationSpec, stages: Sequence[Stage]) -> bool:
    learns = (stage.recipe.with_retrieved_cases for stage in stages if isinstance(stage.recipe, Recipe))
    return "retrieved_cases" in evaluation.controls or any(learns)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRun:
    """A dataset, where its raw files lie, and what its pairs may measure."""

    dataset: Dataset
    raw_folder: Path
    raw_url: str = ""
    """Where they come from, where the folder is their mirror."""
    limits: Limits


PAGES = Limits(
    min_request_characters=1, max_request_characters=2000, min_response_characters=1, max_response_characters=8000, max_images=8,
    min_image_side_pixels=28,  # one image token
    max_image_side_pixels=10_000, max_aspect_ratio=20.0, max_frames=1,
)  # fmt: skip
"""What a page of a document and its transcription may measure; a dataset's own bounds stand in the settings."""

MODELS: Mapping[Family, ModelSpec] = {
    "qwen2_5_vl": ModelSpec(
        family="qwen2_5_vl", source="hub", hub_id="Qwen/Qwen2.5-VL-7B-Instruct",
        revision="cc594898137f460bfe9f0759e9844b3ce807cfb5",
        seed=0, path="", max_pixels=1280 * 28 * 28,  # 1,280 image tokens: a page of A4 stays legible, memory stays bounded
    ),
    "mllama": ModelSpec(  # its licence excludes people and companies in the European Union
        family="mllama", source="hub", hub_id="meta-llama/Llama-3.2-11B-Vision-Instruct",
        revision="9eb2daaa8597bf192a8b0e73f848f3a102794df5",
        seed=0, path="", max_pixels=4 * 560 * 560,  # its four tiles
    ),
    "llava_med": ModelSpec(  # for research only; in its publisher's layout, which is converted when the base model is prepared
        family="llava_med", source="hub", hub_id="microsoft/llava-med-v1.5-mistral-7b",
        revision="91bb16c122001ddc9cf1fd36ce1dae09448943a2",
        seed=0, path="", max_pixels=336 * 336,  # the square of its vision tower
    ),
}  # fmt: skip
"""The published checkpoint of each family: what a line starts from that is set to the family."""

DOCUMENT_DATASETS = ("clinical_documents", "mtsamples", "pathvqa", "pubmedvision")
DOCUMENTS = Line(
    name="documents",
    datasets=DOCUMENT_DATASETS,
    rejected_share_budgets={name: DATASETS[name].rejected_share_budget for name in DOCUMENT_DATASETS},
    split=SplitSpec(seed=42, validation_share=0.1, test_share=0.1),  # 80/10/10, seed 42, as in the requirement documents
    model=MODELS["qwen2_5_vl"],
    audit=AuditSpec(max_tokens=4096, min_glyph_height_pixels=6.0),
    stages=(
        Stage(
            name="adapter", objective="generate",
            recipe=Recipe(
                learning_rate=2e-4, num_epochs=2, max_steps=0, effective_batch=16, warmup_share=0.03, weight_decay=0.0,
                max_gradient_norm=1.0, lora_rank=64, lora_alpha=128, lora_dropout=0.05, lora_targets=LANGUAGE_TARGETS, seed=42,
                pairs_per_dataset={}, mixture_weights={},
                max_training_pairs=1000, max_validation_pairs=100, validations_per_epoch=4,
            ),
        ),
    ),
    evaluation=EvaluationSpec(
        splits=("test", "benchmark"), max_pairs_per_dataset=0, max_answer_tokens=512, controls=("blank_image",), seed=42, datasets=(),
        further_variants=(),
    ),
    gate=Gate(),
    parity=ParitySpec(),
    extraction_request=clinical_documents.REQUEST,
)  # fmt: skip

ENCODER = Stage(
    name="encoder", objective="match",
    recipe=MatchRecipe(  # the requirement documents' numbers; where theirs differ from one another, the first of them
        learning_rate=1e-4, num_epochs=2, max_steps=0, effective_batch=64, warmup_share=0.1, weight_decay=0.01, adam_beta1=0.9,
        adam_beta2=0.95, max_gradient_norm=1.0,
        lora_rank=0,  # every weight: the encoder is small
        lora_alpha=16, lora_dropout=0.0, lora_targets=TOWER_TARGETS, seed=42, pairs_per_dataset={}, max_training_pairs=0,
        max_validation_pairs=500, validations_per_epoch=4,
    ),
    model=ModelSpec(
        family="siglip", source="hub", hub_id="google/siglip-base-patch16-224", revision="7fd15f0689c79d79e38b1c2e2e2370a7bf2761ed",
        seed=0, path="", max_pixels=224 * 224,
    ),
)  # fmt: skip
"""An encoder of pictures and texts, as the first stage of a line: what is similar to a picture among the cases that it trains on."""

IMAGING_DATASETS = ("knee_xray", "pad_ufes_20", "slake", "custom_reports", "roco")
IMAGING = Line(
    name="imaging",
    datasets=IMAGING_DATASETS,
    rejected_share_budgets={name: DATASETS[name].rejected_share_budget for name in IMAGING_DATASETS},
    split=SplitSpec(seed=42, validation_share=0.05, test_share=0.05),  # the requirement documents' 95/5 has no test set
    model=MODELS["mllama"],
    audit=AuditSpec(max_tokens=512, min_glyph_height_pixels=0.0),
    stages=(
        ENCODER,
        Stage(
            name="decoder", objective="generate",
            recipe=Recipe(
                learning_rate=2e-4, num_epochs=1, max_steps=0, effective_batch=4, warmup_share=0.1, weight_decay=0.01,
                max_gradient_norm=1.0, lora_rank=16, lora_alpha=32, lora_dropout=0.05, lora_targets=LANGUAGE_TARGETS, seed=42,
                # the requirement documents' rows; roco, which they have none of, gets as many as the skin lesions
                pairs_per_dataset={"knee_xray": 1500, "pad_ufes_20": 400, "slake": 300, "custom_reports": 200, "roco": 400},
                mixture_weights={},
                max_training_pairs=0, max_validation_pairs=100, validations_per_epoch=4,
            ),
        ),
    ),
    evaluation=EvaluationSpec(
        splits=("test",), max_pairs_per_dataset=300, max_answer_tokens=256,
        controls=("blank_image", "shuffled_image", "retrieved_cases"), seed=42, datasets=(), further_variants=(), num_retrieved_cases=3,
    ),
    gate=Gate(
        primary_metric="class_agreement",
        recall_guardrails=tuple(  # the first one found, which is what a look at one case shows, and the first five
            RecallGuardrail(direction=direction, cutoff=cutoff, margin=0.05) for cutoff in (1, 5) for direction in DIRECTIONS
        ),
        max_failed_share=0.05,  # the guardrail of the language: answers in another one than asked, and empty or unreadable ones
    ),
    parity=ParitySpec(),
    extraction_request=DESCRIBE["en"],
)  # fmt: skip

CURRICULUM = Recipe(  # the requirement document's numbers; where it has none, those of the documents line
    learning_rate=2e-4, num_epochs=3, max_steps=0,
    effective_batch=8,  # "4-8, with accumulation"
    warmup_share=0.03, weight_decay=0.0, max_gradient_norm=1.0,
    # 30-60 M trainable parameters, counted: 30,277,632 on Qwen2.5-VL-7B; on LLaVA-Med 31,457,280, and 20,979,712 of its projector
    lora_rank=12, lora_alpha=24, lora_dropout=0.05,
    lora_targets=LANGUAGE_TARGETS, seed=42, pairs_per_dataset={}, mixture_weights={}, max_training_pairs=0, max_validation_pairs=100,
    validations_per_epoch=4,
    fully_trained=("multi_modal_projector",), fully_trained_rate=2e-5,  # as the document trains it; the rate is that of LLaVA's authors
    max_training_images=10_003,  # as many as the requirement document's authors had
    max_images_per_group=20,  # one patient of MIMIC-CXR has 174 studies
)  # fmt: skip
"""How both stages of the radiology line are trained."""

RADIOLOGY = Line(
    name="radiology",
    datasets=("mimic_cxr",),
    rejected_share_budgets={"mimic_cxr": DATASETS["mimic_cxr"].rejected_share_budget},
    split=SplitSpec(  # the document's 90/10 has no test set; of the publisher's split, whose validation set is 0.8 %, the test set is kept
        seed=42, validation_share=0.1, test_share=0.1, kept_publisher_splits=("test", "benchmark"),
    ),
    model=MODELS["llava_med"],  # with MODELS["qwen2_5_vl"] fully_trained=() and fully_trained_rate=0.0 in CURRICULUM: it has no such module
    audit=AuditSpec(max_tokens=4096, min_glyph_height_pixels=0.0),
    stages=(
        Stage(
            name="impression", objective="generate", recipe=CURRICULUM, pairs={STAGE: "impression"}, share_of_steps=0.35,
            handover=Handover(),
        ),
        Stage(
            name="reasoning", objective="generate", recipe=CURRICULUM, pairs={STAGE: "reasoning"}, share_of_steps=0.65, share_before=0.35,
        ),
    ),
    evaluation=EvaluationSpec(
        splits=("test",), max_pairs_per_dataset=0, max_answer_tokens=512, controls=("blank_image", "shuffled_image"), seed=42, datasets=(),
        further_variants=(),
    ),
    gate=Gate(
        primary_metric="chexpert_rule_f1_micro",  # 13 labels, without No Finding
        guardrails=(
            Guardrail(metric="bleu_4", margin=2.0, slice=f"{STAGE}=impression"),
            Guardrail(metric="rouge_l", margin=0.05, slice=f"{STAGE}=impression"),
            Guardrail(metric="fact_recall", margin=0.05, slice=f"{STAGE}=reasoning"),
            Guardrail(metric="unsupported_statement_rate", margin=0.05, slice=f"{STAGE}=reasoning"),
            Guardrail(metric="icd_category_f1", margin=0.05, slice=f"{STAGE}=reasoning"),
        ),
    ),
    parity=ParitySpec(),
    extraction_request=IMPRESSION_REQUEST,
    stretch_goals=(
        StretchGoal(wanted="Stage A loss < 2.0", stage="impression", below=2.0),
        StretchGoal(wanted="Stage B loss < 1.5", stage="reasoning", below=1.5),
        StretchGoal(wanted="BLEU score > 0.3", metric="bleu_4", above=30.0),
        StretchGoal(wanted="CheXpert F1 > 0.7", metric="chexpert_rule_f1_micro", above=0.7),
    ),
)  # fmt: skip

LINES: Mapping[str, Line] = {line.name: line for line in (DOCUMENTS, IMAGING, RADIOLOGY)}

TINY_MODELS: Mapping[Family, tuple[str, int]] = {
    "qwen2_5_vl": ("medvl/tiny-qwen2.5-vl", 256 * 28 * 28),
    "mllama": ("medvl/tiny-llama-3.2-vision", 4 * 112 * 112),
    "llava_med": ("medvl/tiny-llava-med", 112 * 112),
    "siglip": ("medvl/tiny-siglip", 96 * 96),
}
"""What the small models are called, and the pixels that they keep of a picture."""

TINY_PACE: Mapping[Family, tuple[int, float]] = {
    "qwen2_5_vl": (180, 5e-3), "mllama": (80, 5e-3), "llava_med": (60, 1e-3), "siglip": (30, 3e-4),
}  # fmt: skip
"""Optimizer steps of a small model, enough to learn something and few enough for a look, and its learning rate."""


def tiny_model(family: Family) -> ModelSpec:
    """The small model of a family: the one that comes with MedVL, trained by ``pretraining``."""
    name, max_pixels = TINY_MODELS[family]
    return ModelSpec(family=family, source="tiny", hub_id=name, revision="", seed=1, path="", max_pixels=max_pixels)


def tiny(line: Line) -> Line:
    """The same line with the same architecture built small: the real run made small, on any CPU, without a download.

    Its weights were trained by ``pretraining`` to read part of a form, so its scores mean something. Steps and pairs are few; the learning
    rate is higher, since a low-rank update of a few thousand values tolerates and needs it.
    """
    return replace(
        line,
        model=tiny_model(line.model.family),
        stages=tuple(_tiny_stage(stage, line.model.family) for stage in line.stages),
        evaluation=replace(line.evaluation, splits=("test",), max_pairs_per_dataset=60, max_answer_tokens=240),
        parity=replace(line.parity, max_pairs=2),  # twice one at a time: four and a half CPU seconds an answer
    )


def _tiny_stage(stage: Stage, answering: Family) -> Stage:
    """The same stage with few steps and pairs, and its own small model where it has one."""
    if isinstance(stage.recipe, MatchRecipe):
        num_steps, rate = TINY_PACE[answering if stage.model is None else stage.model.family]
        recipe = replace(
            stage.recipe, learning_rate=rate, num_epochs=1, max_steps=num_steps, effective_batch=32, max_training_pairs=1000,
            max_validation_pairs=200, validations_per_epoch=1,
        )  # fmt: skip
        return replace(stage, recipe=recipe, model=None if stage.model is None else tiny_model(stage.model.family))
    num_steps, rate = TINY_PACE[answering]
    recipe = replace(
        stage.recipe, learning_rate=rate, num_epochs=1, max_steps=num_steps, effective_batch=4, lora_rank=32, lora_alpha=64,
        lora_dropout=0.0, max_training_pairs=600, max_validation_pairs=16, validations_per_epoch=2,
    )  # fmt: skip
    return replace(stage, recipe=recipe, handover=stage.handover and replace(stage.handover, num_answers=4, max_answer_tokens=96))


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
        recipe = stage.recipe
        table = where("recipe" if isinstance(recipe, Recipe) else "encoder")
        _require_among(recipe.pairs_per_dataset, line, datasets, f"{table}, pairs_per_dataset")
        if isinstance(recipe, Recipe):
            _require_among(recipe.mixture_weights, line, datasets, f"{table}, mixture_weights")
    if line.encoder is None and _retrieves(evaluation, stages):
        raise SettingsError(
            found=f"similar cases before questions of the line {line.name}, which has no encoder to find them", where=where("evaluation"),
            do="take retrieved_cases out of controls and with_retrieved_cases out of the recipe, or choose a line that has an encoder",
        )  # fmt: skip
    if line.encoder is None and gate.recall_guardrails:
        raise SettingsError(
            found=f"recall_guardrails of the line {line.name}, which has no encoder", where=where("gate"),
            do="take them out, or choose a line that has an encoder",
        )  # fmt: skip
    model = override(_of_family(line.model, changes.model, settings.scale), changes.model, where("model"))
    if model.family not in MODELS:
        raise SettingsError(
            found=f"family = {model.family!r}, which never answers", where=where("model"), do=f"name one of {', '.join(MODELS)}"
        )
    return replace(
        line,
        datasets=datasets,
        rejected_share_budgets={name: _dataset(name, settings).rejected_share_budget for name in datasets},
        model=_resolved(model, settings),
        split=override(line.split, changes.split, where("split")),
        audit=override(line.audit, changes.audit, where("audit")),
        evaluation=evaluation,
        gate=gate,
        parity=override(line.parity, changes.parity, where("parity")),
        stages=stages,
    )


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


def dataset_runs(settings: Settings) -> tuple[DatasetRun, ...]:
    """Every dataset that the settings switch on, with its folder and its changes."""
    require_known_names(settings, datasets=DATASETS, lines=LINES, profiles=PROFILES)
    return tuple(
        DatasetRun(
            dataset=_dataset(name, settings), raw_folder=settings.raw_folder(name), raw_url=settings.dataset(name).raw_url,
            limits=override(PAGES, settings.dataset(name).limits, settings.where("datasets", name, "limits")),
        ) for name in settings.enabled_datasets()
    )  # fmt: skip
