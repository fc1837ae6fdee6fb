"""The tables of the benchmark store as typed rows: one Parquet file each in a benchmark directory, one DuckDB table each when published.

In: nothing. Out: row models, and ``TABLES``, which names them. ``schema.sql`` holds the same columns with the same comments (a test
compares them). Values are 0 to 1, of BLEU 0 to 100, seconds and bytes; a percentage is only ever display. Filling them is ``rows``'s work.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from medvl_lib.evaluation.galleries import EncoderSpeed, RetrievalRow
from medvl_lib.evaluation.predictions import AdapterBytes, Condition, LoadSeconds, MemoryAfterLoad, MemoryPeak, Variant
from medvl_lib.evaluation.scores import Score
from medvl_lib.pairs import Split
from medvl_lib.tables import Column
from medvl_lib.training.recipe import Objective
from medvl_lib.training.steps import TrainingStep

SCHEMA_VERSION = 11  # how many clusters of a decision have a say; raised with any change of a table: no other is published

EvaluationId = Annotated[str, Column("the evaluation: one set of answers, scored by one version of the metrics")]
LineName = Annotated[str, Column("the line that was evaluated")]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRow:
    """Which model stood behind a variant of an evaluation. Key: (evaluation_id, variant)."""

    evaluation_id: EvaluationId
    line: LineName
    variant: Annotated[Variant, Column("who answered")]
    model: Annotated[str | None, Column("hub id or name, and the commit or the hash of the contents; null for a floor")]
    weights_data_version: Annotated[str | None, Column("hash of the weights: base, and adapter where there is one; null for a floor")]
    precision: Annotated[
        str | None, Column("what the weights really were: float32, bfloat16, nf4+float32, mlx-affine4+bfloat16, ...; null for a floor")
    ]
    num_parameters: Annotated[int | None, Column("parameters, 4-bit ones counted unpacked; null for a floor")]
    num_quantized_parameters: Annotated[int | None, Column("of these, parameters held in 4 bit; null for a floor")]
    predictions_fingerprint: Annotated[str, Column("directory of the answers below predictions/<line>/")]
    metric_versions: Annotated[dict[str, str], Column("version of each metric")]
    evaluated_at: Annotated[str, Column("when the answers were complete, ISO 8601 in UTC")]
    run_id: Annotated[str | None, Column("Dagster's run that wrote the benchmark; null outside a run")]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentRow:
    """What an evaluation ran on. Key: (evaluation_id, name)."""

    evaluation_id: EvaluationId
    line: LineName
    name: Annotated[str, Column("a library, python, or platform")]
    version: Annotated[str, Column("its version, or what the platform calls itself")]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetCount:
    """How many rows of a dataset got how far."""

    dataset: Annotated[str, Column("name of the dataset")]
    outcome: Annotated[
        Literal["read", "rejected", "accepted", "train", "validation", "test", "benchmark", "trained_on"],
        Column("read from the raw files, then rejected or accepted, then the split; trained_on: what the recipe took of train"),
    ]
    reason: Annotated[str | None, Column("the rule that rejected rows broke; null for other outcomes")]
    num_pairs: Annotated[int, Column("how many rows")]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetCountRow(DatasetCount):
    """The data funnel behind an evaluation. Key: (evaluation_id, dataset, outcome, reason)."""

    evaluation_id: EvaluationId
    line: LineName


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStepRow(TrainingStep):
    """A training step of the adapter that was evaluated, of those that it went on from, and of the encoder.

    Key: (evaluation_id, stage, step).
    """

    evaluation_id: EvaluationId
    line: LineName
    stage: Annotated[str, Column("the stage that was trained")]
    objective: Annotated[Objective, Column("what it learned: generate (answers), or match (pictures and texts)")]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkRow:
    """A metric with its n and interval. Key: (evaluation_id, line, variant, condition, dataset, split, slice, metric).

    Where texts of a dataset are cut in several ways (bleu_4 of English and Chinese) there is a row for each language, or for each way where
    a language has several, and none over all.
    """

    evaluation_id: EvaluationId
    line: LineName
    variant: Annotated[Variant, Column("who answered")]
    condition: Annotated[Condition, Column("as_is, or what was done to the question")]
    dataset: Annotated[str, Column("name of the dataset")]
    split: Annotated[Split, Column("the split of the pairs")]
    slice: Annotated[
        str,
        Column(
            "all, or the pairs with one label: document_type=lab_results, language=zh; way=... with the signature of a metric; of a metric "
            "over several labels one of them over all pairs: label=edema"
        ),
    ]
    metric: Annotated[str, Column("name of the metric")]
    is_higher_better: Annotated[bool, Column("whether a larger mean is better")]
    highest: Annotated[float, Column("upper end of the metric's range, which begins at 0: 1, of bleu_4 100")]
    signature: Annotated[
        str | None, Column("how texts were cut and counted, of bleu_4 as sacrebleu says it; null where there is one way only")
    ]
    num_pairs: Annotated[int, Column("pairs behind the mean")]
    num_clusters: Annotated[int, Column("patients or documents behind the mean: the unit of the interval")]
    num_unscored: Annotated[int, Column("pairs that the scorer could not score; not in the mean")]
    num_empty: Annotated[int, Column("empty answers: the model's failure, in the mean as 0")]
    num_wrong_language: Annotated[int, Column("answers in another script than the pair's language: the model's failure, in the mean as 0")]
    num_cut: Annotated[int, Column("answers cut at the token limit")]
    num_masked: Annotated[int, Column("answers that hold a mark of de-identification (___, XXXX)")]
    mean: Annotated[
        float | None,
        Column(
            "mean over pairs, 0 to 1; of bleu_4 corpus BLEU over all pairs together, 0 to 100; of hallucinated_pair_rate over all stated "
            "values together, null where none was stated"
        ),
    ]
    ci_low: Annotated[float | None, Column("lower end of the 95 % interval over clusters; null below six clusters, or without a mean")]
    ci_high: Annotated[float | None, Column("upper end of the 95 % interval over clusters; null below six clusters, or without a mean")]
    interval_note: Annotated[
        str | None,
        Column("what has to be known of the interval: too few clusters for one, or no spread between them; null where nothing has"),
    ]
    run_id: Annotated[str | None, Column("Dagster's run that wrote the benchmark; null outside a run")]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyRow:
    """Seconds per answer: the wall time of a batch by its answers. Until the first answer is there the whole batch has to pass.

    Key: (evaluation_id, variant, condition, dataset, split).
    """

    evaluation_id: EvaluationId
    line: LineName
    variant: Annotated[Variant, Column("who answered")]
    condition: Annotated[Condition, Column("as_is, or what was done to the question")]
    dataset: Annotated[str, Column("name of the dataset")]
    split: Annotated[Split, Column("the split of the pairs")]
    num_answers: Annotated[int, Column("answers that were timed")]
    num_batches: Annotated[int, Column("batches that they were made in: what was really timed, and the n of minimum, median and maximum")]
    batch_size: Annotated[int, Column("answers made together; the last batch may hold fewer")]
    mean_seconds_per_answer: Annotated[float, Column("wall time of all batches by num_answers", unit="seconds")]
    min_seconds_per_answer: Annotated[float, Column("the fastest batch by its answers", unit="seconds")]
    p50_seconds_per_answer: Annotated[float, Column("median over batches", unit="seconds")]
    p95_seconds_per_answer: Annotated[float, Column("95th percentile over batches", unit="seconds")]
    max_seconds_per_answer: Annotated[float, Column("the slowest batch by its answers", unit="seconds")]
    mean_answer_tokens: Annotated[float, Column("mean tokens out per answer", unit="tokens")]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRow:
    """What a variant needs when it is alone. Key: (evaluation_id, variant)."""

    evaluation_id: EvaluationId
    line: LineName
    variant: Annotated[Variant, Column("who answered")]
    load_seconds: LoadSeconds
    memory_after_load_bytes: MemoryAfterLoad
    memory_peak_bytes: MemoryPeak
    adapter_bytes: AdapterBytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalTableRow(RetrievalRow):
    """How often a variant of the line's encoder finds the right one. Key: (evaluation_id, variant, direction, cutoff)."""

    evaluation_id: EvaluationId
    line: LineName


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSpeedRow(EncoderSpeed):
    """How fast a variant of the line's encoder embeds. Key: (evaluation_id, variant, input)."""

    evaluation_id: EvaluationId
    line: LineName


@dataclass(frozen=True, slots=True, kw_only=True)
class GoalRow:
    """A figure that somebody hoped for, beside what was measured for it: nothing depends on it. Key: (evaluation_id, wanted, dataset)."""

    evaluation_id: EvaluationId
    line: LineName
    wanted: Annotated[str, Column("the figure that was hoped for, as the requirement document has it")]
    stage: Annotated[str | None, Column("the stage whose lowest held-out loss it is held against; null for a metric")]
    metric: Annotated[
        str | None, Column("the metric that it is held against, of the trained adapter's answers as they are; null for a loss")
    ]
    bound: Annotated[str, Column("when it is met, in that metric's own unit")]
    dataset: Annotated[str | None, Column("the test set; null for a loss")]
    value: Annotated[float | None, Column("what was measured; null where nothing was")]
    ci_low: Annotated[float | None, Column("lower end of its 95 % interval; null for a loss, which has none")]
    ci_high: Annotated[float | None, Column("upper end of its 95 % interval")]
    num_pairs: Annotated[int | None, Column("test pairs; null for a loss")]
    is_met: Annotated[bool | None, Column("whether the value reaches the bound; null where nothing was measured")]
    definition: Annotated[str, Column("what exactly is measured")]


TABLES: dict[str, type] = {
    "evaluations": EvaluationRow,
    "environments": EnvironmentRow,
    "dataset_counts": DatasetCountRow,
    "training_steps": TrainingStepRow,
    "scores": Score,
    "benchmark_rows": BenchmarkRow,
    "latencies": LatencyRow,
    "memory": MemoryRow,
    "retrievals": RetrievalTableRow,
    "encoder_speeds": EncoderSpeedRow,
    "goals": GoalRow,
}
"""What a benchmark directory holds: ``<table>.parquet`` of each."""
