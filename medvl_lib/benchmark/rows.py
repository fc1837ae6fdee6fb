"""Benchmark rows: what an evaluation found, as one Parquet file per table of the store.

In: a scores directory, the predictions it was made from, the training steps of every stage, goals, and how many rows of each dataset got
how far. Out: a benchmark directory with a file for each of ``tables.TABLES``. A mean never stands without its n and interval; where every
score of a key is missing there is no row, nor where its texts were cut in several ways: a BLEU over English words and Chinese characters
would be neither. There are rows of the languages instead, and where a language has several ways, too, one of each way. Publishing
is ``publish``'s work, comparing is ``promotion``'s.
"""

import math
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from medvl_lib.benchmark.goals import StretchGoal, goal_rows
from medvl_lib.benchmark.slices import ALL, LANGUAGE, WAY, slices_of
from medvl_lib.benchmark.tables import (
    SCHEMA_VERSION,
    TABLES,
    BenchmarkRow,
    DatasetCount,
    DatasetCountRow,
    EncoderSpeedRow,
    EnvironmentRow,
    EvaluationRow,
    LatencyRow,
    MemoryRow,
    RetrievalTableRow,
    TrainingStepRow,
)
from medvl_lib.errors import InputRefused
from medvl_lib.evaluation import galleries, statistics
from medvl_lib.evaluation.metrics import METRICS, Metric, metric_versions, ranges
from medvl_lib.evaluation.parquet_sql import query
from medvl_lib.evaluation.predictions import FLOORS, PREDICTIONS, VARIANTS, VariantMeasurement
from medvl_lib.evaluation.scores import EVALUATED_PAIRS, SCORES, EvaluatedPair, evaluation_id
from medvl_lib.evaluation.statistics import Statistics, cluster_sums, estimate
from medvl_lib.files import read_json
from medvl_lib.provenance import PROVENANCE, Fact, Outcome, Rule
from medvl_lib.rules import stream
from medvl_lib.tables import num_rows, read_table, require_schema, write_table
from medvl_lib.training.recipe import Objective
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep

REVISION = 9  # goals are a table; training steps of the encoder too
REVISIONS = (REVISION, statistics.REVISION, SCHEMA_VERSION)
CONFIDENCE = 0.95
FEWEST = next(number for number in range(2, 20) if not statistics.is_too_few(number, CONFIDENCE))  # 6: five cannot give p below 0.0625


class _Key(NamedTuple):
    variant: Any
    condition: Any
    dataset: str
    split: Any
    metric: str
    slice: str


@dataclass(slots=True)
class _Tally:
    """The scores of one key while they are read."""

    pairs: list[tuple[str, Statistics]] = field(default_factory=list[tuple[str, Statistics]])
    """(cluster, value or sufficient statistics) of each scored pair."""
    signatures: set[str | None] = field(default_factory=set[str | None])
    num_unscored: int = 0
    num_masked: int = 0
    states: Counter[str] = field(default_factory=Counter[str])


def _tallies(scores_directory: Path) -> Iterator[tuple[_Key, _Tally]]:
    """Each key with its scores, those of one variant and metric at a time."""
    slices = slices_of(read_table(scores_directory / EVALUATED_PAIRS, EvaluatedPair))
    rows = stream(
        """
        select variant, condition, dataset, split, metric, pair_id, group_id, value, statistics, signature, answer_state, num_masks
        from read_parquet($scores, file_row_number = true) order by variant, condition, dataset, split, metric, file_row_number
        """,
        scores=scores_directory / SCORES,
    )
    for place, scores in groupby(rows, key=lambda row: row[:5]):
        tallies: dict[str, _Tally] = {}
        for _, _, _, _, _, pair_id, group_id, value, summed, signature, state, num_masks in scores:
            for name in (*slices[pair_id], f"{WAY}{signature}"):
                tally = tallies.setdefault(name, _Tally())
                tally.states[state] += 1
                tally.num_masked += num_masks > 0
                tally.signatures.add(signature)
                added = summed or value
                if added is None:
                    tally.num_unscored += 1
                else:
                    tally.pairs.append((group_id, added))
        has_ways = _are_ways_needed(tallies)
        yield from ((_Key(*place, slice=name), tallies[name]) for name in sorted(tallies) if has_ways or not name.startswith(WAY))


def _are_ways_needed(tallies: Mapping[str, _Tally]) -> bool:
    """Whether scores of several ways are in no row of a language."""
    languages = [tally for name, tally in tallies.items() if name.startswith(LANGUAGE)]
    are_told = sum(map(_num_scores, languages)) == _num_scores(tallies[ALL]) and all(len(tally.signatures) == 1 for tally in languages)
    return len(tallies[ALL].signatures) > 1 and not are_told


def _num_scores(tally: _Tally) -> int:
    return len(tally.pairs) + tally.num_unscored


def _benchmark_rows(scores_directory: Path, shared: Mapping[str, Any], run_id: str | None) -> Iterator[BenchmarkRow]:
    for key, tally in _tallies(scores_directory):
        if tally.pairs and len(tally.signatures) == 1:
            metric = METRICS[key.metric]
            for name, functional in _functionals(metric, key, tally):
                clusters = cluster_sums(tally.pairs, functional)
                found, note = estimate(clusters), statistics.interval_note(clusters)
                is_too_few = statistics.is_too_few(clusters.num_informative, CONFIDENCE)
                yield BenchmarkRow(
                    **shared, **key._replace(slice=name)._asdict(), mean=found.mean if math.isfinite(found.mean) else None,
                    ci_low=None if is_too_few else found.ci_low, ci_high=None if is_too_few else found.ci_high, interval_note=note,
                    num_pairs=found.num_pairs, num_clusters=found.num_clusters, is_higher_better=metric.is_higher_better,
                    highest=metric.highest, signature=next(iter(tally.signatures)), num_unscored=tally.num_unscored,
                    num_empty=tally.states["empty"], num_wrong_language=tally.states["wrong_language"], num_cut=tally.states["cut"],
                    num_masked=tally.num_masked, run_id=run_id,
                )  # fmt: skip


def _functionals(metric: Metric, key: _Key, tally: _Tally) -> Iterator[tuple[str, statistics.Functional]]:
    """The slice of a key with the metric itself, and over all pairs each label that some pair wants with the metric of it alone."""
    yield key.slice, metric.corpus.value if metric.corpus else statistics.mean
    if metric.corpus and metric.corpus.parts and key.slice == ALL:
        total = np.sum([summed for _, summed in tally.pairs], axis=0)
        for name, part in metric.corpus.parts.items():
            if part.num_wanted(total) > 0:
                yield name, part.value


def _latencies(scores_directory: Path, predictions_directory: Path, shared: Mapping[str, Any]) -> Iterator[LatencyRow]:
    rows = query(
        """
        select variant, condition, dataset, split, any_value(latency_seconds), count(*), max(batch_size), sum(num_answer_tokens)
        from predictions join evaluated_pairs using (pair_id) where batch_id is not null
        group by variant, condition, dataset, split, batch_id order by all
        """,
        {"predictions": predictions_directory / PREDICTIONS, "evaluated_pairs": scores_directory / EVALUATED_PAIRS},
    )
    for (variant, condition, dataset, split), batches in groupby(rows, key=lambda row: row[:4]):
        seconds, num_answers, sizes, num_tokens = np.array([row[4:] for row in batches], dtype=np.float64).T
        total = num_answers.sum()
        yield LatencyRow(
            **shared, variant=variant, condition=condition, dataset=dataset, split=split, num_answers=int(total), num_batches=len(seconds),
            batch_size=int(sizes.max()), mean_seconds_per_answer=float(seconds @ num_answers / total),
            min_seconds_per_answer=float(seconds.min()), p50_seconds_per_answer=float(np.quantile(seconds, 0.5)),
            p95_seconds_per_answer=float(np.quantile(seconds, 0.95)), max_seconds_per_answer=float(seconds.max()),
            mean_answer_tokens=float(num_tokens.sum() / total),
        )  # fmt: skip


def _measurements(predictions_directory: Path) -> dict[str, VariantMeasurement]:
    """What was measured of each model; a floor is no model."""
    rows = read_table(predictions_directory / VARIANTS, VariantMeasurement)
    return {row.variant: row for row in rows if row.variant not in FLOORS}


def _evaluations(
    scores_directory: Path, predictions_directory: Path, shared: Mapping[str, Any], run_id: str | None
) -> Iterator[EvaluationRow]:
    record = read_json(predictions_directory / PROVENANCE)
    measured = _measurements(predictions_directory)
    for (variant,) in query("select distinct variant from scores order by all", {"scores": scores_directory / SCORES}):
        row = measured.get(variant)
        yield EvaluationRow(
            **shared, variant=variant, model=row and row.model, weights_data_version=row and row.weights_data_version,
            precision=row and row.precision, num_parameters=row and row.num_parameters,
            num_quantized_parameters=row and row.num_quantized_parameters, predictions_fingerprint=record["fingerprint"],
            metric_versions=metric_versions(), evaluated_at=record["finished_at"], run_id=run_id,
        )  # fmt: skip


def _memory(predictions_directory: Path, shared: Mapping[str, Any]) -> Iterator[MemoryRow]:
    for row in _measurements(predictions_directory).values():
        yield MemoryRow(
            **shared, variant=row.variant, load_seconds=row.load_seconds, memory_after_load_bytes=row.memory_after_load_bytes,
            memory_peak_bytes=row.memory_peak_bytes, adapter_bytes=row.adapter_bytes,
        )  # fmt: skip


def _environments(predictions_directory: Path, shared: Mapping[str, Any]) -> Iterator[EnvironmentRow]:
    record = read_json(predictions_directory / PROVENANCE)
    for name, version in sorted({**record["libraries"], "platform": record["platform"]}.items()):
        yield EnvironmentRow(**shared, name=name, version=version)


def _training_steps(stages: Mapping[str, Path], objective: Objective, shared: Mapping[str, Any]) -> Iterator[TrainingStepRow]:
    for stage, directory in stages.items():
        for step in read_table(directory / TRAINING_STEPS, TrainingStep):
            yield TrainingStepRow(**asdict(step), **shared, stage=stage, objective=objective)


def _lowest_losses(adapters: Mapping[str, Path]) -> dict[str, float]:
    """The held-out loss of what each stage kept, where it was measured."""
    measured = {stage: read_table(directory / TRAINING_STEPS, TrainingStep) for stage, directory in adapters.items()}
    losses = {stage: [step.validation_loss for step in steps if step.validation_loss is not None] for stage, steps in measured.items()}
    return {stage: min(found) for stage, found in losses.items() if found}


def _of_the_encoder(directory: Path | None, file: str, model: type[Any], row: type[Any], shared: Mapping[str, Any]) -> Iterator[Any]:
    """A table of the encoder's own step; nothing where the line has no encoder."""
    for found in () if directory is None else read_table(directory / file, model):
        yield row(**asdict(found), **shared)


def write_benchmark(
    directory: Path,
    *,
    line: str,
    scores_directory: Path,
    predictions_directory: Path,
    adapter_directory: Path,
    dataset_counts: Sequence[DatasetCount],
    retrieval_directory: Path | None = None,
    stage: str = "adapter",
    earlier_adapters: Mapping[str, Path] = MappingProxyType({}),
    encoders: Mapping[str, Path] = MappingProxyType({}),
    goals: Sequence[StretchGoal] = (),
    run_id: str | None = None,
) -> dict[str, Fact]:
    """Write one Parquet file per table; returns the evaluation's id, the schema version and the rows of each table.

    ``earlier_adapters`` are those of the stages before ``stage``, by name, and ``encoders`` what matches: how these were trained is told,
    too.
    ``retrieval_directory`` is the encoder's own; without one its tables are empty.
    """
    shared: dict[str, Any] = {"evaluation_id": evaluation_id(predictions_directory), "line": line}
    adapters = {**earlier_adapters, stage: adapter_directory}
    measured = list(_benchmark_rows(scores_directory, shared, run_id))
    tables: dict[str, Iterable[Any]] = {
        "evaluations": _evaluations(scores_directory, predictions_directory, shared, run_id),
        "environments": _environments(predictions_directory, shared),
        "dataset_counts": (DatasetCountRow(**asdict(count), **shared) for count in dataset_counts),
        "training_steps": chain(_training_steps(encoders, "match", shared), _training_steps(adapters, "generate", shared)),
        "benchmark_rows": measured,
        "latencies": _latencies(scores_directory, predictions_directory, shared),
        "memory": _memory(predictions_directory, shared),
        "retrievals": _of_the_encoder(retrieval_directory, galleries.RETRIEVAL, galleries.RetrievalRow, RetrievalTableRow, shared),
        "encoder_speeds": _of_the_encoder(retrieval_directory, galleries.SPEEDS, galleries.EncoderSpeed, EncoderSpeedRow, shared),
        "goals": goal_rows(goals, measured, _lowest_losses(adapters), **shared),
    }
    written: dict[str, Fact] = {
        f"num_{table}": write_table(directory / f"{table}.parquet", TABLES[table], rows) for table, rows in tables.items()
    }
    shutil.copyfile(scores_directory / SCORES, directory / "scores.parquet")
    return {
        **shared, "schema_version": SCHEMA_VERSION, **written, "num_scores": num_rows(directory / "scores.parquet"),
    }  # fmt: skip


def _files(directory: Path, *tables: str) -> dict[str, Path]:
    return {table: directory / f"{table}.parquet" for table in tables}


def tables_are_as_declared(directory: Path) -> Outcome:
    """Each table has the declared columns."""
    for table, path in _files(directory, *TABLES).items():
        try:
            require_schema(path, TABLES[table])
        except InputRefused as refusal:
            return Outcome(passed=False, found=f"{table}: {refusal.found}; {refusal.do}", offenders=(table,))
    return Outcome(passed=True, found=f"{len(TABLES)} tables have the declared columns")


def every_row_has_an_interval(directory: Path) -> Outcome:
    """A metric over six clusters or more has an interval; both lie in the metric's declared range; there is at least one row.

    One that is not defined of every set of pairs may have neither, or no interval where too many resamples have no value.
    """
    undefined = ", ".join(f"'{name}'" for name, metric in METRICS.items() if metric.corpus and not metric.corpus.is_always_defined)
    tops = " ".join(f"when '{name}' then {highest}" for name, highest in ranges().items())
    bad = query(
        f"""
        select variant, condition, dataset, slice, metric from benchmark_rows
        where not coalesce(mean between 0 and highest, metric in ({undefined}))
           or num_pairs < num_clusters or highest is distinct from case metric {tops} end
           or (num_clusters >= {FEWEST} and not coalesce(
               0 <= ci_low and ci_low <= ci_high and ci_high <= highest, metric in ({undefined}) and ci_low is null and ci_high is null
           ))
           or ((num_clusters < {FEWEST} or mean is null) and (ci_low is not null or ci_high is not null))
        order by all
        """,  # noqa: S608 (our own names)
        _files(directory, "benchmark_rows"),
    )
    count = num_rows(directory / "benchmark_rows.parquet")
    return Outcome(
        passed=not bad and count > 0,
        found=f"{len(bad)} of {count} rows lack a proper interval",
        offenders=tuple(" ".join(row) for row in bad[:10]),
    )


def no_orphan_scores(directory: Path) -> Outcome:
    """Every score belongs to an evaluated variant, and is counted in the row of its dataset, split and metric.

    Where texts of a dataset were cut in several ways, there are rows of its languages instead, or of the ways where a language has several,
    and the score is counted in one of these.
    """
    orphans = query(
        f"""
        with counted as (
            select evaluation_id, variant, condition, dataset, split, metric, sum(num_pairs) filter (slice = '{ALL}') as in_all,
                   coalesce(sum(num_pairs) filter (starts_with(slice, '{WAY}')),
                            sum(num_pairs) filter (starts_with(slice, '{LANGUAGE}'))) as in_parts
            from benchmark_rows group by all
        )
        select variant, condition, dataset, split, metric
        from (
            select evaluation_id, variant, condition, dataset, split, metric,
                   count(*) filter (value is not null or len(statistics) > 0) as num_scored,
                   count(distinct coalesce(signature, '')) as num_signatures
            from scores group by all
        )
        left join counted using (evaluation_id, variant, condition, dataset, split, metric)
        left join evaluations using (evaluation_id, variant)
        where predictions_fingerprint is null
           or num_scored != coalesce(case when num_signatures > 1 then in_parts else in_all end, 0)
        order by all
        """,  # noqa: S608 (our own names)
        _files(directory, "scores", "benchmark_rows", "evaluations"),
    )
    return Outcome(
        passed=not orphans,
        found=f"{len(orphans)} groups of scores are in no row",
        offenders=tuple(" ".join(row) for row in orphans[:10]),
    )


def every_read_row_is_accounted_for(directory: Path) -> Outcome:
    """In each dataset that counts what it read, read = rejected + accepted, accepted = the splits, and trained_on is of train."""
    bad = query(
        """
        select dataset from dataset_counts group by dataset having
            sum(num_pairs) filter (outcome = 'read') != coalesce(sum(num_pairs) filter (outcome in ('rejected', 'accepted')), 0)
            or sum(num_pairs) filter (outcome = 'accepted')
               != sum(num_pairs) filter (outcome in ('train', 'validation', 'test', 'benchmark'))
            or sum(num_pairs) filter (outcome = 'trained_on') > coalesce(sum(num_pairs) filter (outcome = 'train'), 0)
        order by all
        """,
        _files(directory, "dataset_counts"),
    )
    return Outcome(
        passed=not bad,
        found=f"{len(bad)} datasets have rows that are neither rejected nor accepted, in no split, or trained on and not in train",
        offenders=tuple(row[0] for row in bad[:10]),
    )


RULES = (
    Rule(name="tables_are_as_declared", sentence="Every table has the declared columns.", holds=tables_are_as_declared),
    Rule(
        name="every_row_has_an_interval",
        sentence="No mean stands without its interval.",
        holds=every_row_has_an_interval,
        literals=(ranges(),),
    ),
    Rule(name="no_orphan_scores", sentence="Every score belongs to an evaluation and is counted in a row.", holds=no_orphan_scores),
    Rule(
        name="every_read_row_is_accounted_for",
        sentence="Every row that was read was rejected for a reason, or accepted and put into a split; trained on were rows of train.",
        holds=every_read_row_is_accounted_for,
    ),
)
