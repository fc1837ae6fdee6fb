"""A workspace in which one evaluation was predicted, scored, benchmarked and judged, all through the real steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medvl_lib.benchmark import override, promotion, rollback, rows
from medvl_lib.benchmark.costs import costs
from medvl_lib.benchmark.gate import Gate
from medvl_lib.benchmark.goals import StretchGoal
from medvl_lib.benchmark.looks import judged_pairs, next_look, way_of
from medvl_lib.benchmark.promotion import Circumstances, read_decisions, read_slices, write_promotion
from medvl_lib.benchmark.publish import publish
from medvl_lib.benchmark.rows import write_benchmark
from medvl_lib.benchmark.tables import DatasetCount
from medvl_lib.benchmark.terms import Terms
from medvl_lib.evaluation import scores
from medvl_lib.evaluation.predictions import FLOORS, PREDICTIONS, REFERENCES, VARIANTS, Prediction, Reference, VariantMeasurement
from medvl_lib.evaluation.scores import write_scores
from medvl_lib.lines import DOCUMENTS
from medvl_lib.pairs import Triple
from medvl_lib.pointer import Served, move_pointer
from medvl_lib.provenance import Artifact, judge, write_step
from medvl_lib.tables import write_table
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep
from medvl_lib.workspace import Workspace

COUNTS = (
    DatasetCount(dataset="forms", outcome="read", reason=None, num_pairs=5),
    DatasetCount(dataset="forms", outcome="rejected", reason="image_missing", num_pairs=1),
    DatasetCount(dataset="forms", outcome="accepted", reason=None, num_pairs=4),
    DatasetCount(dataset="forms", outcome="train", reason=None, num_pairs=2),
    DatasetCount(dataset="forms", outcome="test", reason=None, num_pairs=2),
    DatasetCount(dataset="forms", outcome="trained_on", reason=None, num_pairs=2),
)
MEASURED = {"base": (16_000, 4.0), "nf4": (4_000, 2.0), "adapter": (5_000, 1.0)}
"""Bytes after loading, and seconds per answer."""
BATCH = 8
GOALS = (
    StretchGoal(wanted="pairs right > 0.4", metric="pair_accuracy", above=0.4),
    StretchGoal(wanted="loss < 1.5", stage="adapter", below=1.5),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """One evaluation's directories."""

    workspace: Workspace
    predictions: Artifact
    adapter: Artifact
    scores: Artifact
    benchmark: Artifact
    promotion: Artifact


def reference(number: int) -> Reference:
    """A page that states two values; even pages are laboratory sheets."""
    expected = (Triple(term="Potassium", value="4.1", unit="mmol/L"), Triple(term="Sodium", value=str(100 + number), unit="mmol/L"))
    return Reference(
        pair_id=f"p{number:03}", dataset="forms", split="test", group_id=f"doc{number:03}", language="en", licence="CC0-1.0",
        request="?", response="",
        expected=expected,
        slices={"document_type": "lab" if number % 2 == 0 else "icu"}, glyph_height_pixels=None,
    )  # fmt: skip


def answer(number: int, num_right: int) -> str:
    """An answer that states ``num_right`` of the page's two values."""
    return "\n".join([f"Sodium: {100 + number} mmol/L", "Potassium: 4.1 mmol/L"][:num_right])


def prediction(variant: str, number: int, num_right: int, num_documents: int, condition: str = "as_is") -> Prediction:
    """What a variant answered to one page, in batches of eight and a smaller last one."""
    is_model = variant in MEASURED
    return Prediction(
        pair_id=f"p{number:03}", variant=variant, condition=condition, answer=answer(number, num_right), num_prompt_tokens=9,
        num_answer_tokens=5, is_cut=False, latency_seconds=MEASURED[variant][1] if is_model else None,
        batch_id=number // BATCH if is_model else None,
        batch_size=min(BATCH, num_documents - number // BATCH * BATCH) if is_model else 0,
    )  # fmt: skip


def _write_predictions(directory: Path, num_documents: int, right: Mapping[str, Callable[[int], int]], weights: str) -> dict[str, int]:
    write_table(directory / REFERENCES, Reference, map(reference, range(num_documents)))
    write_table(directory / PREDICTIONS, Prediction, [
        *(
            prediction(variant, number, num_right(number), num_documents)
            for variant, num_right in right.items() for number in range(num_documents)
        ),
        *(
            prediction(variant, number, 0, num_documents, "blank_image")
            for variant in ("adapter", "nf4") for number in range(num_documents)
        ),
    ])  # fmt: skip
    write_table(directory / VARIANTS, VariantMeasurement, (
        VariantMeasurement(
            variant=variant, model="tiny", weights_data_version=f"{weights}-{variant}", precision=variant, num_parameters=9,
            num_quantized_parameters=0, load_seconds=1.0, memory_after_load_bytes=MEASURED[variant][0], memory_peak_bytes=20_000,
            adapter_bytes=1_000 if variant == "adapter" else None, stands_on="nf4" if variant == "adapter" else None, round=0,
        ) for variant in right if variant in MEASURED
    ))  # fmt: skip
    return {}


def _write_steps(directory: Path) -> dict[str, int]:
    write_table(directory / TRAINING_STEPS, TrainingStep, (
        TrainingStep(
            step=step, epoch=step / 2, loss=2.0 / step, learning_rate=1e-4, gradient_norm=None, num_tokens=10, tokens_per_second=5.0,
            elapsed_seconds=2.0 * step, validation_loss=1.75 if step == 2 else None,
        ) for step in (1, 2)
    ))  # fmt: skip
    return {}


Evaluate = Callable[..., Evaluated]


def run(
    root: Path, num_documents: int, *, weights: str = "w1", challenger: str | None = None, gate: Gate | None = None,
    reads: Sequence[Artifact] = (), also: Callable[[Path], None] = lambda _: None, **right: Callable[[int], int],
) -> Evaluated:  # fmt: skip
    """Predict, score, measure and judge ``num_documents`` pages; ``right`` says how many of a page's two values each variant states.

    ``weights`` names the evaluation, and the adapter too unless ``challenger`` does; ``reads`` are what the predictions were made from, and
    ``also`` adds to what was predicted.
    """
    workspace = Workspace(root=root)
    said = {"base": lambda _: 0, "nf4": lambda _: 0, "adapter": lambda number: 1 + number % 2, **right}
    said |= dict.fromkeys(FLOORS, lambda _: 0)
    adapter = write_step(workspace, "adapter", "documents", "v1", [], _write_steps)

    def predict(folder: Path) -> dict[str, int]:
        _write_predictions(folder, num_documents, said, weights)
        also(folder)
        return {}

    predictions = write_step(workspace, "predictions", "documents", weights, reads, predict)
    scored = write_step(workspace, "scores", "documents", "v1", [predictions], lambda folder: write_scores(folder, predictions.directory))
    judge(workspace, scored, scores.RULES)
    benchmark = write_step(workspace, "benchmark", "documents", "v1", [scored, predictions, adapter], lambda folder: write_benchmark(
        folder, line="documents", scores_directory=scored.directory, predictions_directory=predictions.directory,
        adapter_directory=adapter.directory, dataset_counts=COUNTS, goals=GOALS,
    ))  # fmt: skip
    judge(workspace, benchmark, rows.RULES)
    gate = gate or Gate()
    pairs = judged_pairs(predictions.directory / REFERENCES, gate)
    look = next_look(workspace, "documents", challenger or f"{weights}-adapter", way_of(gate, DOCUMENTS.evaluation), pairs)
    terms = Terms(gate=gate, evaluation=DOCUMENTS.evaluation)
    decided = write_step(
        workspace, "promotion", "documents", f"v1 look {look.number}", [scored],
        lambda folder: write_promotion(folder, scored.directory, terms, "documents", look, Circumstances(
            look=look.number, leaks={}, slices=read_slices(scored.directory), costs=costs(predictions.directory, gate, {}),
        )),
    )  # fmt: skip
    judge(workspace, decided, promotion.RULES)
    return Evaluated(workspace=workspace, predictions=predictions, adapter=adapter, scores=scored, benchmark=benchmark, promotion=decided)


def overrule(evaluated: Evaluated, variant: str, by: str) -> Artifact:
    """What ``medvl override`` leaves behind: a person's decision, the pointer moved to it, and the store published."""
    decision = override.overridden(read_decisions(evaluated.promotion.directory), variant, by=by, reason=f"{by} read forty answers")
    written = write_step(
        evaluated.workspace, override.STEP, "documents", f"{variant} {by}", [evaluated.promotion],
        lambda folder: override.write_override(folder, decision),
    )  # fmt: skip
    judge(evaluated.workspace, written, override.RULES)
    move_pointer(evaluated.workspace, Served(
        line="documents", variant=variant, weights_step="base_model", weights_fingerprint="f", adapter_step=None, adapter_fingerprint=None,
        data_version="d", decision_step=override.STEP, decision=written.fingerprint,
    ))  # fmt: skip
    publish(evaluated.workspace)
    return written


def take_back(evaluated: Evaluated, action: rollback.Action, by: str, reason: str) -> Artifact:
    """What ``medvl rollback`` or ``medvl release`` leaves on record: the adapter was served, and the base model is."""
    row = rollback.Rollback(
        line="documents", action=action, decided_by=by, reason=reason, from_variant="adapter" if action == "rollback" else "base",
        from_data_version="w1" if action == "rollback" else "", to_variant="base", to_data_version="",
    )  # fmt: skip
    written = write_step(
        evaluated.workspace, rollback.STEP, "documents", f"{action} {by}", [], lambda folder: rollback.write_rollback(folder, row)
    )
    judge(evaluated.workspace, written, rollback.RULES)
    return written
