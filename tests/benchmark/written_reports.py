"""Reports beside the pages of ``evaluated``: sixty English notes, and a set in two languages; who says how much of them.

Of each text of a report the adapter says three quarters of the words, base and NF4 half, a floor other words; of the blank picture the
adapter says what a floor says. Some answers are in the wrong language, some hold marks of de-identification.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from medvl_lib.evaluation.predictions import FLOORS, PREDICTIONS, REFERENCES, Condition, Prediction, Reference, Variant
from medvl_lib.tables import read_table, write_table
from tests.benchmark.evaluated import MEASURED

WORDS = {
    "en": [
        "lungs",
        "are",
        "clear",
        "heart",
        "size",
        "is",
        "normal",
        "no",
        "effusion",
        "seen",
        "mild",
        "scoliosis",
        "right",
        "base",
        "opacity",
    ],
    "zh": list("双肺纹理清晰心影大小正常未见积液右下斑片状影胸椎侧弯"),
}
JOINT = {"en": " ", "zh": ""}
SHARES: dict[tuple[Variant, Condition], float] = {
    ("base", "as_is"): 0.5, ("nf4", "as_is"): 0.5, ("adapter", "as_is"): 0.75, ("adapter", "blank_image"): 0.0,
    ("nf4", "blank_image"): 0.0, **dict.fromkeys(((floor, "as_is") for floor in FLOORS), 0.0),
}  # fmt: skip
SETS = {"notes": ("en",) * 60, "bilingual": ("en", "zh") * 30}


def texts(dataset: str) -> list[tuple[str, list[str]]]:
    """(language, words) of each report of a set."""
    draw = random.Random(dataset)
    return [(language, draw.choices(WORDS[language], k=draw.randrange(8, 20))) for language in SETS[dataset]]


def said(language: str, wanted: list[str], share: float, seed: str) -> str:
    """A report of which a share of the words is right."""
    draw = random.Random(seed)
    return JOINT[language].join(word if draw.random() < share else draw.choice(WORDS[language]) for word in wanted)


def write_reports(
    folder: Path, change: Callable[[Prediction], Prediction] = lambda row: row, datasets: tuple[str, ...] = tuple(SETS)
) -> None:
    """Add the reports of some sets, and everyone's answers, to what was predicted."""
    references, answers = list(read_table(folder / REFERENCES, Reference)), list(read_table(folder / PREDICTIONS, Prediction))
    for dataset in datasets:
        for number, (language, wanted) in enumerate(texts(dataset)):
            pair_id = f"{dataset}/{number:03}"
            references.append(Reference(
                pair_id=pair_id, dataset=dataset, split="test", group_id=f"{dataset}-{number // 2}", language=language, licence="CC0-1.0",
                request="Write the report.", response=JOINT[language].join(wanted), expected=(), slices={"language": language},
                glyph_height_pixels=None,
            ))  # fmt: skip
            answers.append(_prediction(pair_id, "floor_empty", "as_is", ""))
            answers.extend(
                change(_prediction(pair_id, variant, condition, said(language, wanted, share, f"{variant}{condition}{pair_id}")))
                for (variant, condition), share in SHARES.items()
                if variant != "floor_empty"
            )
    write_table(folder / REFERENCES, Reference, references)
    write_table(folder / PREDICTIONS, Prediction, answers)


def write_questions(folder: Path) -> None:
    """Add 24 closed questions, left or right, to what was predicted: base names no side in a third of them, the adapter in none."""
    references, answers = list(read_table(folder / REFERENCES, Reference)), list(read_table(folder / PREDICTIONS, Prediction))
    for number in range(24):
        pair_id, wanted = f"sides/{number:03}", ("left", "right")[number % 2]
        references.append(Reference(
            pair_id=pair_id, dataset="sides", split="test", group_id=pair_id, language="en", licence="CC0-1.0", request="On which side?",
            response=wanted, expected=(), slices={"answer_type": "closed"}, glyph_height_pixels=None, labels=("left", "right"),
        ))  # fmt: skip
        said = {"base": "Hard to say." if number % 3 == 0 else "left", "nf4": "left or right", "adapter": f"On the {wanted}."}
        answers.extend(
            _prediction(pair_id, variant, condition, said.get(variant, "") if condition == "as_is" else "") for variant, condition in SHARES
        )
    write_table(folder / REFERENCES, Reference, references)
    write_table(folder / PREDICTIONS, Prediction, answers)


def _prediction(pair_id: str, variant: Variant, condition: Condition, answer: str) -> Prediction:
    is_model = variant in MEASURED
    return Prediction(
        pair_id=pair_id, variant=variant, condition=condition, answer=answer, num_prompt_tokens=9, num_answer_tokens=9, is_cut=False,
        latency_seconds=2.0 if is_model else None, batch_id=1000 if is_model else None, batch_size=8 if is_model else 0,
    )  # fmt: skip


def odd(row: Prediction) -> Prediction:
    """Two of the adapter's answers in the wrong language, three with marks of de-identification."""
    if row.variant != "adapter" or row.condition != "as_is":
        return row
    wrong = {"bilingual/001": "the lungs are clear", "bilingual/002": "双肺清晰"}
    masked = {"notes/000", "notes/001", "bilingual/003"}
    return replace(row, answer=wrong.get(row.pair_id, f"___ {row.answer} XXXX" if row.pair_id in masked else row.answer))
