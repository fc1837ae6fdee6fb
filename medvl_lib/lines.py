"""The lines as values: the table of contents of MedVL.

In: nothing. Out: ``Line``, complete, at full scale and as ``tiny``. The lines differ in values alone; nothing on the route asks which
one it is running. What the settings change in them stands in ``configured``, how a step works in its room, in which order in ``route``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from medvl_lib.audit import AuditSpec
from medvl_lib.benchmark.gate import Gate, Guardrail, RecallGuardrail
from medvl_lib.benchmark.goals import StretchGoal
from medvl_lib.datasets import DATASETS, clinical_documents
from medvl_lib.datasets.descriptions import DESCRIBE, STAGE
from medvl_lib.datasets.mimic_cxr_texts import IMPRESSION_REQUEST
from medvl_lib.evaluation.parity import ParitySpec
from medvl_lib.evaluation.spec import EvaluationSpec
from medvl_lib.models.spec import LANGUAGE_TARGETS, TOWER_TARGETS, Family, ModelSpec
from medvl_lib.retrieval import DIRECTIONS
from medvl_lib.split import SplitSpec
from medvl_lib.training.recipe import PACE, UPDATE, Handover, MatchRecipe, Recipe, Stage
from medvl_lib.validation import Limits


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
        """Whether similar training cases stand before its questions."""
        return uses_similar_cases(self.evaluation, self.stages)

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


def uses_similar_cases(evaluation: EvaluationSpec, stages: Sequence[Stage]) -> bool:
    """Whether similar training cases stand before questions, in a condition of an evaluation or in a training."""
    learns = (stage.recipe.with_retrieved_cases for stage in stages if isinstance(stage.recipe, Recipe))
    return "retrieved_cases" in evaluation.controls or any(learns)


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
        # of PubMedVision a tenth are 129,000 questions, each asked of three variants and twice without its picture: months of a GB10
        splits=("test", "benchmark"), max_pairs_per_dataset=300, max_answer_tokens=512, controls=("blank_image",), seed=42, datasets=(),
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
    # eight pictures of a study, which validation lets through, are 4,608 tokens; with the longest texts that it lets through, 7,500
    audit=AuditSpec(max_tokens=8192, min_glyph_height_pixels=0.0),
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
        # of 5,900 questions about 293 patients: those are the clusters, and hardly one of them goes unasked
        splits=("test",), max_pairs_per_dataset=1000, max_answer_tokens=512, controls=("blank_image", "shuffled_image"), seed=42,
        datasets=(), further_variants=(),
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
