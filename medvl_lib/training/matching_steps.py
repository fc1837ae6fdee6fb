"""What is noted of a step in which pictures and texts are matched, beside its loss, and what must be true of it. No torch here.

In: an encoder's directory. Out: ``MatchingStep`` rows, and rules. Loss and steps themselves are in ``steps``, as for every objective.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from medvl_lib.files import read_json
from medvl_lib.provenance import Outcome, Rule
from medvl_lib.tables import Column, read_table
from medvl_lib.training import rules
from medvl_lib.training.rules import SUMMARY

MATCHING_STEPS = "matching_steps.parquet"
MATCHING_WHILE_RUNNING = "matching.jsonl"
NUM_CUT = "num_cut_texts"  # fact of an encoder: different texts of training and validation that are longer than what it reads


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchingStep:
    """Temperature and bias after one optimizer step, and how well pictures and texts of the validation split find each other then."""

    step: Annotated[int, Column("optimizer step, from 1")]
    temperature: Annotated[float, Column("t = exp(t') of the sigmoid loss after this step")]
    bias: Annotated[float, Column("b of the sigmoid loss after this step")]
    gallery_size: Annotated[int | None, Column("captioned pictures of the validation split; null where none were ranked", unit="pairs")] = (
        None
    )
    image_to_text_recall_at_1: Annotated[float | None, Column("pictures whose own text came first")] = None
    image_to_text_recall_at_5: Annotated[float | None, Column("pictures whose own text was among the first 5")] = None
    image_to_text_recall_at_10: Annotated[float | None, Column("pictures whose own text was among the first 10")] = None
    text_to_image_recall_at_1: Annotated[float | None, Column("texts whose own picture came first")] = None
    text_to_image_recall_at_5: Annotated[float | None, Column("texts whose own picture was among the first 5")] = None
    text_to_image_recall_at_10: Annotated[float | None, Column("texts whose own picture was among the first 10")] = None
    chance_at_1: Annotated[float | None, Column("expected recall at 1 of a random order, of a picture's text")] = None
    chance_at_5: Annotated[float | None, Column("expected recall at 5 of a random order, of a picture's text")] = None
    chance_at_10: Annotated[float | None, Column("expected recall at 10 of a random order, of a picture's text")] = None
    image_to_text_median_rank: Annotated[float | None, Column("median rank of a picture's own text, from 1")] = None
    text_to_image_median_rank: Annotated[float | None, Column("median rank of a text's own picture, from 1")] = None
    matched_similarity: Annotated[float | None, Column("mean cosine of pictures and their own texts")] = None
    mismatched_similarity: Annotated[float | None, Column("mean cosine of pictures and other texts; null where there are none")] = None


def temperature_stays_finite(directory: Path) -> Outcome:
    """Temperature and bias are numbers after every step, and the temperature is above 0: otherwise nothing is told apart any more."""
    steps = list(read_table(directory / MATCHING_STEPS, MatchingStep))
    broken = [str(row.step) for row in steps if not (math.isfinite(row.temperature) and row.temperature > 0 and math.isfinite(row.bias))]
    ends = f", from {steps[0].temperature:.3g} to {steps[-1].temperature:.3g}" if steps else ""
    return Outcome(
        passed=bool(steps) and not broken, offenders=tuple(broken[:10]),
        found=f"{len(steps)} steps, {len(broken)} without a finite temperature and bias{ends}",
    )  # fmt: skip


def texts_are_read_whole(directory: Path) -> Outcome:
    """No text is longer than what the encoder reads: what stands behind that is cut, and so is what it could have told apart."""
    summary = read_json(directory / SUMMARY)
    return Outcome(
        passed=summary[NUM_CUT] == 0,
        found=f"{summary[NUM_CUT]} of {summary['num_texts']} different texts are longer than the encoder reads, and are cut",
    )


NOT_OF_ENCODERS = {"only_language_layers_are_adapted"}
RULES = (
    *(rule for rule in rules.RULES if rule.name not in NOT_OF_ENCODERS),
    Rule(
        name="temperature_stays_finite", sentence="Temperature and bias of the loss are finite after every step.",
        holds=temperature_stays_finite,
    ),
    Rule(
        name="texts_are_read_whole", sentence="No text is longer than what the encoder reads.", holds=texts_are_read_whole,
        is_blocking=False,
    ),
)  # fmt: skip
"""What must be true of a trained encoder: what must be of an adapter, but for the linears of a language model, which it has not."""
