"""One damage for every rule of the route: what to do to a written directory so that exactly this rule fails.

In: a copy of a directory as its step wrote it. Out: the same directory, damaged where it stands. A rule without an entry here fails
``tests/test_damages.py``.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from medvl_lib import audit, case_index, chat, near_duplicates, raw_records, retrieved_cases, split
from medvl_lib.benchmark import promotion
from medvl_lib.benchmark.tables import TABLES, BenchmarkRow
from medvl_lib.ehr.contexts import CONTEXTS
from medvl_lib.ehr.facts import EhrContext
from medvl_lib.evaluation import galleries, parity, scores
from medvl_lib.evaluation.handover import HANDOVER_ANSWERS, HandoverAnswer
from medvl_lib.evaluation.predictions import FLOORS, PREDICTIONS, REFERENCES, VARIANTS, Prediction, Reference, VariantMeasurement
from medvl_lib.files import read_json, write_json
from medvl_lib.image_facts import IMAGE_FACTS, ImageRow
from medvl_lib.models.shipped import ORIGIN, RANDOM
from medvl_lib.models.weights import AFFINE_MARK, INT8_MARK, MERGED_TENSORS, NF4_MARK, MergedTensor
from medvl_lib.pairs import PAIRS, REJECTIONS, Pair, Rejection
from medvl_lib.report import written
from medvl_lib.report.content import from_json
from medvl_lib.tables import read_table, write_table
from medvl_lib.training.frozen import FROZEN_TENSORS, FrozenTensor
from medvl_lib.training.matching_steps import MATCHING_STEPS, MatchingStep
from medvl_lib.training.moved import MOVED_TENSORS, MovedTensor
from medvl_lib.training.rules import ADAPTER, SUMMARY
from medvl_lib.training.steps import START_LOSS, TRAINING_STEPS, TrainingStep

Damage = Callable[[Path], None]
Rows = list[Any]


def rewritten(file: str, model: type, change: Callable[[Rows], Sequence[Any]]) -> Damage:
    """A table with other rows of its own model."""

    def damage(directory: Path) -> None:
        write_table(directory / file, model, change(list(read_table(directory / file, model))))

    return damage


def at(index: int, **changes: object) -> Callable[[Rows], Rows]:
    """One row with other values; -1 is the last."""
    return lambda rows: [replace(row, **changes) if place == index % len(rows) else row for place, row in enumerate(rows)]


def first_where(holds: Callable[[Any], bool], **changes: object) -> Callable[[Rows], Rows]:
    """The first row that is such, with other values."""
    return lambda rows: at(next(index for index, row in enumerate(rows) if holds(row)), **changes)(rows)


def like_the_first(*names: str, other: Callable[[Any], bool] = lambda _: True) -> Callable[[Rows], Rows]:
    """The last row that is such with some values of the first."""

    def change(rows: Rows) -> Rows:
        index = max(index for index, row in enumerate(rows) if other(row))
        return at(index, **{name: getattr(rows[0], name) for name in names})(rows)

    return change


def picture_of_another_in_its_split(rows: Rows) -> Rows:
    """The picture of the first row stands under another patient of the same split, too."""
    other = next(place for place, row in enumerate(rows) if row.split == rows[0].split and row.group_id != rows[0].group_id)
    return at(other, image_ids=rows[0].image_ids)(rows)


def repeated(rows: Rows) -> Rows:
    """The first row twice."""
    return [*rows, rows[0]]


def has_targets(row: EhrContext) -> bool:
    """Whether a study has target diagnoses."""
    return bool(row.target_diagnoses)


def another_title(rows: Rows) -> Rows:
    """The first target diagnosis under another title."""
    first, *others = next(row for row in rows if has_targets(row)).target_diagnoses
    return first_where(has_targets, target_diagnoses=(replace(first, title="Something else"), *others))(rows)


def unearned_promotion(rows: Rows) -> Rows:
    """The first candidate wins with an interval that reaches below zero."""
    first, *others = (replace(row, verdict="inconclusive", is_winner=False) for row in rows)
    return [replace(first, verdict="promote", is_winner=True, ci_low=-0.1), *others]


def shown_to_work(directory: Path) -> None:
    """No damage: what a few pairs cannot show is taken as shown, so that a damage is all that fails."""
    rewritten(promotion.PROMOTION_DECISIONS, promotion.Decision, at(0, beats_the_floors=True, uses_the_image=True))(directory)


def read_whole(directory: Path) -> None:
    """As if the small route's encoder, which is shown pages of text, could read them to their ends."""
    changed_json(SUMMARY, num_cut_texts=0)(directory)


def added_column(file: str) -> Damage:
    """A column that nobody declared."""

    def damage(directory: Path) -> None:
        table = pq.read_table(directory / file)
        pq.write_table(table.append_column("note", table[table.column_names[0]]), directory / file)

    return damage


def rejected_instead(directory: Path) -> None:
    """Two thirds of the kept pairs among the rejections."""
    kept, rejections = list(read_table(directory / PAIRS, Pair)), list(read_table(directory / REJECTIONS, Rejection))
    left_out = [replace(rejections[0], pair_id=pair.pair_id) for pair in kept[len(kept) // 3 :]]
    write_table(directory / PAIRS, Pair, kept[: len(kept) // 3])
    write_table(directory / REJECTIONS, Rejection, [*rejections, *left_out])


def first_conversation(change: Callable[[dict[str, Any]], None]) -> Damage:
    """The first conversation that is trained on, changed."""

    def damage(directory: Path) -> None:
        path = chat.conversations_path(directory, "train")
        line, *lines = path.read_text(encoding="utf-8").splitlines()
        conversation = json.loads(line)
        change(conversation)
        path.write_text("\n".join([json.dumps(conversation, ensure_ascii=False), *lines, ""]), encoding="utf-8")

    return damage


def one_conversation_fewer(directory: Path) -> None:
    """The last conversation that is trained on is gone."""
    path = chat.conversations_path(directory, "train")
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")


def user_twice(conversation: dict[str, Any]) -> None:
    """A second user message in a row."""
    conversation["messages"].insert(0, {"role": "user", "content": [{"type": "text", "text": "Hello"}]})


def no_placeholder(conversation: dict[str, Any]) -> None:
    """No place for the picture."""
    content = conversation["messages"][0]["content"]
    content[:] = [part for part in content if part["type"] != "image"]


def blank_at_the_end(conversation: dict[str, Any]) -> None:
    """An answer that ends with white space."""
    conversation["messages"][-1]["content"][0]["text"] += " "


def changed_json(file: str, **changes: object) -> Damage:
    """Other values in a JSON file."""
    return lambda directory: write_json(directory / file, {**read_json(directory / file), **changes})


def one_step_more_planned(directory: Path) -> None:
    """One step more was planned than was done."""
    planned = read_json(directory / SUMMARY)["num_planned_steps"]
    changed_json(SUMMARY, num_planned_steps=planned + 1)(directory)


def another_step_kept(directory: Path) -> None:
    """The adapter is that of another step than the best one."""
    changed_json(SUMMARY, kept_step=read_json(directory / SUMMARY)["kept_step"] - 1)(directory)


def renamed_tensor(file: str, old_end: str, new: str) -> Damage:
    """The first tensor whose name ends so has another name, and everything else is as it was."""

    def damage(directory: Path) -> None:
        for path in sorted(directory.glob(file)):
            data = path.read_bytes()
            end = 8 + int.from_bytes(data[:8], "little")
            header = json.loads(data[8:end])
            if found := [name for name in sorted(header) if name.endswith(old_end)]:
                header[new] = header.pop(found[0])
                text = json.dumps(header).encode()
                path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])
                return
        raise AssertionError(f"no tensor {old_end}")

    return damage


def outside_the_language_model(mark: str) -> Damage:
    """A linear of the vision tower is quantized."""
    return renamed_tensor("*.safetensors", mark, f"visual.merger{mark}")


def without(name: str) -> Damage:
    """A file is gone."""
    return lambda directory: (directory / name).unlink()


def unanswered_pair(rows: Rows) -> Rows:
    """One variant has not answered one pair."""
    gone = (rows[-1].variant, rows[-1].condition, rows[-1].pair_id)
    return [row for row in rows if (row.variant, row.condition, row.pair_id) != gone]


def silent_base(rows: Rows) -> Rows:
    """The base model says nothing."""
    return [replace(row, answer="") if row.variant == "base" else row for row in rows]


def table_of(name: str, change: Callable[[Rows], Sequence[Any]]) -> Damage:
    """A table of the benchmark with other rows."""
    return rewritten(f"{name}.parquet", TABLES[name], change)


def audited(change: Callable[[Rows], Rows]) -> Damage:
    """Other rows in the audit."""
    return rewritten(audit.AUDIT, audit.AuditRow, change)


def nearly_twice(kind: str) -> Damage:
    """A text or picture of the test split that stands nearly so in train."""
    row = near_duplicates.NearDuplicate(
        kind=kind, held_out_id="a", held_out_split="test", other_id="b", other_split="train", similarity=0.99
    )  # fmt: skip
    return rewritten(near_duplicates.NEAR_DUPLICATES, near_duplicates.NearDuplicate, lambda rows: [*rows, row])


def added_words(directory: Path) -> None:
    """A sentence in the page that its value does not have."""
    path = directory / written.PAGE
    path.write_text(path.read_text(encoding="utf-8").replace("</main>", "<p>Pathology shows a melanoma.</p></main>"), encoding="utf-8")


def quoted_from_elsewhere(directory: Path) -> None:
    """The first example is of a dataset that may not be shown, in every form of the report."""
    report = from_json((directory / written.MACHINE).read_text(encoding="utf-8"))
    first, *others = report.examples.lowest
    examples = replace(report.examples, lowest=(replace(first, dataset="mtsamples"), *others))
    for name, render in written.RENDERED.items():
        (directory / name).write_bytes(render(replace(report, examples=examples)).encode())


def compared(change: Callable[[Rows], Rows]) -> Damage:
    """Other answers in a parity, and a summary that counts them."""

    def damage(directory: Path) -> None:
        rows = change(list(read_table(directory / parity.ANSWERS, parity.ComparedAnswer)))
        before = list(read_table(directory / parity.COMPARISONS, parity.Comparison))
        write_table(directory / parity.ANSWERS, parity.ComparedAnswer, rows)
        spec = parity.ParitySpec(min_equal_share=min(row.required_share for row in before))
        write_table(directory / parity.COMPARISONS, parity.Comparison, parity.summary(rows, spec))

    return damage


def merged_scores_less(directory: Path) -> None:
    """Merged weights, asked as the batched ones were, that lose half of every score."""
    compared(lambda rows: [*rows, *(replace(row, form="merged", against="batched") for row in rows if row.form == "batched")])(directory)
    lost = {"form": "merged", "against": "batched", "difference": -0.5, "ci_low": -0.6, "ci_high": -0.4}
    rewritten(parity.SCORES, parity.ComparedScore, lambda rows: [*rows, *(replace(row, **lost) for row in rows if row.form == "batched")])(
        directory
    )


def twice_as_large(file: str) -> Damage:
    """The gallery had twice as many queries."""
    return lambda directory: changed_json(file, num_queries=2 * read_json(directory / file)["num_queries"])(directory)


IS_TEST = {"other": lambda row: row.split == "test"}
WEIGHTS: dict[str, Damage] = {
    "weights_are_whole": without("preprocessor_config.json"),
    "weights_are_trained": changed_json(ORIGIN, weights=RANDOM),
}
AFFINE4: dict[str, Damage] = {**WEIGHTS, "only_language_linears_are_in_affine_four_bits": outside_the_language_model(AFFINE_MARK)}
"""Of ``affine4_model``, which only a profile with the engine mlx has: done in tests/models/test_mlx.py."""
TRAINED: dict[str, Damage] = {
    "every_step_was_done_once": one_step_more_planned,
    "loss_is_finite": rewritten(TRAINING_STEPS, TrainingStep, lambda rows: at(len(rows) // 2, loss=float("nan"))(rows)),
    "the_best_step_was_kept": another_step_kept,
    "only_intended_weights_changed": rewritten(FROZEN_TENSORS, FrozenTensor, at(0, sha256_after="0" * 64)),
    "only_language_layers_are_adapted": renamed_tensor(ADAPTER, "lora_A.weight", "base_model.model.model.visual.merger.lora_A.weight"),
}
HANDED_OVER: dict[str, Damage] = {
    "held_out_loss_fell": changed_json(SUMMARY, **{START_LOSS: 0.0}),
    "answers_are_sound": rewritten(HANDOVER_ANSWERS, HandoverAnswer, lambda rows: [replace(row, answer="effusion " * 60) for row in rows]),
    "full_tensors_are_whole": rewritten(
        MOVED_TENSORS,
        MovedTensor,
        lambda rows: [*rows, MovedTensor(name="model.multi_modal_projector.w", norm_before=1.0, norm_of_change=float("nan"))],
    ),
}
DAMAGES: dict[str, dict[str, Damage]] = {
    "raw_records": {"raw_files_are_there": rewritten(raw_records.MANIFEST, raw_records.RawFile, lambda _: [])},
    "pairs": {
        "pairs_were_read": rewritten(PAIRS, Pair, lambda _: []),
        "pair_ids_are_unique": rewritten(PAIRS, Pair, repeated),
        "columns_are_as_declared": added_column(REJECTIONS),
    },
    "ehr_contexts": {
        "columns_are_as_declared": added_column(CONTEXTS),
        "no_future_information": rewritten(CONTEXTS, EhrContext, lambda rows: at(0, text=f"{rows[0].text}\n- Home")(rows)),
        "targets_are_of_the_same_admission": rewritten(CONTEXTS, EhrContext, first_where(has_targets, target_diagnoses=())),
        "every_diagnosis_has_its_title": rewritten(CONTEXTS, EhrContext, another_title),
    },
    "validated_pairs": {
        "columns_are_as_declared": added_column(REJECTIONS),
        "nothing_is_lost": rewritten(PAIRS, Pair, lambda rows: rows[:-1]),
        "every_image_opens": rewritten(IMAGE_FACTS, ImageRow, first_where(lambda row: row.is_readable, is_readable=False)),
        "response_is_never_empty": rewritten(PAIRS, Pair, at(0, response=" \u200b")),
        "no_pair_stands_twice": rewritten(PAIRS, Pair, like_the_first("image_ids", "request", "response")),
        "every_rejection_says_why": rewritten(REJECTIONS, Rejection, at(0, detail="")),
        "rejected_share_is_within_budget": rejected_instead,
    },
    "split": {
        "columns_are_as_declared": added_column(split.SPLIT),
        "every_pair_has_a_split": rewritten(split.SPLIT, split.SplitRow, like_the_first("pair_id")),
        "no_group_in_two_splits": rewritten(split.SPLIT, split.SplitRow, like_the_first("group_id", **IS_TEST)),
        "no_image_in_two_splits": rewritten(split.SPLIT, split.SplitRow, like_the_first("image_ids", **IS_TEST)),
        "no_image_of_two_groups": rewritten(split.SPLIT, split.SplitRow, picture_of_another_in_its_split),
        "train_is_not_empty": rewritten(
            split.SPLIT, split.SplitRow, lambda rows: [replace(row, split="test") if row.split == "train" else row for row in rows]
        ),
        "test_is_not_empty": rewritten(
            split.SPLIT, split.SplitRow, lambda rows: [replace(row, split="benchmark") if row.split == "test" else row for row in rows]
        ),
    },
    "near_duplicates": {
        "columns_are_as_declared": added_column(near_duplicates.NEAR_DUPLICATES),
        "no_text_stands_nearly_twice": nearly_twice("text"),
        "no_picture_stands_nearly_twice": nearly_twice("picture"),
    },
    "chat": {
        "the_gate_can_decide": rewritten(REFERENCES, Reference, lambda rows: [replace(row, expected=()) for row in rows]),
        "columns_are_as_declared": added_column(REFERENCES),
        "every_stage_has_pairs": rewritten(REFERENCES, Reference, lambda rows: [replace(row, slices={}) for row in rows]),
        "every_pair_became_a_conversation": one_conversation_fewer,
        "roles_alternate_and_end_with_the_assistant": first_conversation(user_twice),
        "every_image_has_its_placeholder": first_conversation(no_placeholder),
        "every_answer_is_trimmed_text": first_conversation(blank_at_the_end),
    },
    "base_model": WEIGHTS,
    "nf4_model": {**WEIGHTS, "only_language_linears_are_in_four_bits": outside_the_language_model(NF4_MARK)},
    "int8_model": {**WEIGHTS, "only_language_linears_are_in_eight_bits": outside_the_language_model(INT8_MARK)},
    "merged_model": {
        **WEIGHTS,
        "only_adapted_linears_differ_from_the_base": rewritten(
            MERGED_TENSORS, MergedTensor, first_where(lambda row: not row.is_adapted, sha256_in_base="0" * 64)
        ),
    },
    "audit": {
        "columns_are_as_declared": added_column(audit.EXAMPLES),
        "image_tokens_are_present_and_complete": audited(at(0, pictures=())),
        "nothing_is_truncated": changed_json(audit.SPEC, max_tokens=20),
        "every_answer_has_target_tokens": audited(lambda rows: at(0, num_target_tokens=1, num_prompt_tokens=rows[0].num_tokens - 1)(rows)),
        "answers_begin_at_a_token": audited(at(0, has_exact_target=False)),
        "texts_hold_no_special_tokens": audited(at(0, num_foreign_special_tokens=1)),
        "texts_survive_the_tokenizer": audited(at(0, num_lost_texts=1)),
        "pictures_are_within_the_pixel_budget": changed_json(audit.SPEC, max_pixels=28 * 28),
        "text_is_legible": audited(at(0, glyph_height_pixels=1.0)),
        "examples_are_of_this_audit": rewritten(audit.EXAMPLES, audit.AuditExample, at(0, dataset="mtsamples")),
    },
    "encoder_base_model": WEIGHTS,
    "encoder": {
        **{name: damage for name, damage in TRAINED.items() if name != "only_language_layers_are_adapted"},
        "loss_fell": rewritten(TRAINING_STEPS, TrainingStep, at(-1, loss=1e6)),
        "texts_are_read_whole": changed_json(SUMMARY, num_cut_texts=3),
        "temperature_stays_finite": rewritten(MATCHING_STEPS, MatchingStep, at(1, temperature=float("inf"))),
    },
    "index": {
        "columns_are_as_declared": added_column(case_index.INDEX),
        "every_training_picture_has_its_place": rewritten(case_index.INDEX, case_index.IndexedCase, lambda rows: rows[:-1]),
        "no_case_is_held_out": rewritten(case_index.INDEX, case_index.IndexedCase, at(0, split="test")),
        "every_vector_has_the_length_one": rewritten(
            case_index.INDEX, case_index.IndexedCase, lambda rows: at(0, embedding=tuple(2 * value for value in rows[0].embedding))(rows)
        ),
        "the_floor_is_that_of_validation": changed_json(case_index.COUNTS, similarity_floor=0.123456),
    },
    "retrieved_cases": {
        "columns_are_as_declared": added_column(retrieved_cases.RETRIEVED_CASES),
        "every_question_was_looked_for": rewritten(
            retrieved_cases.RETRIEVED_CASES, retrieved_cases.RetrievedCases, lambda rows: rows[:-1]
        ),
        "no_case_is_the_answer": rewritten(
            retrieved_cases.RETRIEVED_CASES, retrieved_cases.RetrievedCases,
            lambda rows: first_where(lambda row: row.cases, group_id=next(row for row in rows if row.cases).cases[0].group_id)(rows),
        ),
        "no_case_is_below_the_floor": changed_json(retrieved_cases.SPEC, similarity_floor=1.5),
        "cases_come_the_most_similar_first": rewritten(
            retrieved_cases.RETRIEVED_CASES, retrieved_cases.RetrievedCases,
            lambda rows: [
                replace(row, cases=tuple(replace(case, similarity=2.0) for case in row.cases)) if row.cases else row for row in rows
            ],
        ),
        "the_words_are_those_of_the_cases": rewritten(
            retrieved_cases.RETRIEVED_CASES, retrieved_cases.RetrievedCases,
            first_where(lambda row: row.cases, preface="Similar cases: none"),
        ),
        "questions_with_cases_fit": rewritten(
            retrieved_cases.RETRIEVED_CASES, retrieved_cases.RetrievedCases, first_where(lambda row: row.cases, num_tokens=100_000)
        ),
    },
    "retrieval": {
        "columns_are_as_declared": added_column(galleries.RETRIEVAL),
        "every_picture_and_text_was_ranked": twice_as_large(galleries.COUNTS),
        "every_recall_is_that_of_its_ranks": rewritten(
            galleries.RETRIEVAL, galleries.RetrievalRow, lambda rows: at(0, recall=rows[0].recall / 2 + 0.25)(rows)
        ),
    },
    "overfit": {**TRAINED, "pairs_were_learned": rewritten(TRAINING_STEPS, TrainingStep, at(-1, loss=1e6))},
    "adapter": {**TRAINED, **HANDED_OVER, "loss_fell": rewritten(TRAINING_STEPS, TrainingStep, at(-1, loss=1e6))},
    "predictions": {
        "every_variant_answers_every_pair_once": rewritten(
            PREDICTIONS, Prediction, lambda rows: rows[:-1] if rows[-1].condition == "as_is" else [rows[0], *rows]
        ),
        "latencies_are_measured": rewritten(
            PREDICTIONS, Prediction, first_where(lambda row: row.variant not in FLOORS, latency_seconds=float("inf"))
        ),
        "an_adapter_takes_its_own_size": rewritten(
            VARIANTS, VariantMeasurement, first_where(lambda row: row.adapter_bytes is not None, adapter_bytes=10**12)
        ),
        "outputs_are_not_degenerate": rewritten(PREDICTIONS, Prediction, silent_base),
    },
    "scores": {
        "every_test_pair_is_predicted": rewritten(scores.SCORES, scores.Score, unanswered_pair),
        "no_answer_is_scored_twice": rewritten(scores.SCORES, scores.Score, repeated),
        "scores_are_in_range": rewritten(scores.SCORES, scores.Score, at(0, value=100.5, reason=None)),
        "few_scores_are_missing": rewritten(scores.SCORES, scores.Score, at(0, value=None, reason="the scorer failed")),
    },
    "benchmark": {
        "tables_are_as_declared": added_column("memory.parquet"),
        "every_row_has_an_interval": table_of("benchmark_rows", first_where(lambda row: row.num_clusters > 1, ci_low=1.0, ci_high=0.0)),
        "no_orphan_scores": table_of(
            "benchmark_rows", lambda rows: rows[:1] if rows[0].slice != "all" else [row for row in rows if row != rows[0]]
        ),
        "every_read_row_is_accounted_for": table_of("dataset_counts", first_where(lambda row: row.outcome == "read", num_pairs=10**6)),
    },
    "promotion": {
        "every_candidate_is_decided_once": rewritten(promotion.PROMOTION_DECISIONS, promotion.Decision, repeated),
        "the_verdict_follows_the_numbers": rewritten(promotion.PROMOTION_DECISIONS, promotion.Decision, unearned_promotion),
        "beats_the_floors": rewritten(promotion.PROMOTION_DECISIONS, promotion.Decision, at(0, beats_the_floors=False)),
        "answers_use_the_image": rewritten(promotion.PROMOTION_DECISIONS, promotion.Decision, at(0, uses_the_image=None)),
        "the_test_set_is_not_worn": rewritten(promotion.PROMOTION_DECISIONS, promotion.Decision, at(0, is_worn=True)),
    },
    "parity": {
        "every_form_answered_every_pair": compared(lambda rows: [rows[0], *(row for row in rows if row.pair_id != rows[0].pair_id)]),
        "the_summary_counts_the_answers": rewritten(parity.COMPARISONS, parity.Comparison, at(0, num_equal=10**6)),
        "served_answers_are_the_evaluated_answers": compared(first_where(lambda row: row.form == "reloaded", is_equal=False)),
        "http_answers_are_the_served_answers": compared(first_where(lambda row: row.form == "http", is_equal=False)),
        "merging_changes_no_score": merged_scores_less,
    },
    "report": {
        "every_row_stands_in_the_page": rewritten(written.ROWS, BenchmarkRow, at(0, num_pairs=10**6)),
        "all_forms_say_the_same": added_words,
        "only_what_may_be_shown_is_quoted": quoted_from_elsewhere,
    },
}  # fmt: skip
