"""Invented figures with questions in the layout of PubMedVision: two JSON lists and the pictures in ``images/``.

In: how many records each list shall have, and a seed. Out: ``PubMedVision_Alignment_VQA.json``, ``PubMedVision_InstructionTuning_VQA.json``
and ``images/pmc_<article>_<figure>.jpg``. About a fifth of the records has two pictures, both lists ask about the same figures, and some
questions hold the ``<image>`` sign of other trainers. Broken on purpose, all in the first list: a record whose picture is nowhere, one
whose turns do not alternate, and one without a picture.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medvl_lib.sample_data import draws
from medvl_lib.sample_data.micrographs import Micrograph, draw_micrograph
from medvl_lib.sample_data.pathvqa import encoded

COUNTS: dict[str, int] = {"alignment": 30, "instruction": 30}
"""Good records per list; the broken ones come on top."""

FILES = {"alignment": "Alignment_VQA", "instruction": "InstructionTuning_VQA"}
FIGURES_PER_ARTICLE = 3
TWO_PICTURES_EVERY = 5  # 22 % of the real records have more than one
PLACEHOLDER_EVERY = 7

README = """# Invented data: figures with questions

Every picture and sentence in this folder was made up by a program; no article or patient stands behind any of it. Licence: CC0-1.0.
The files have the layout of PubMedVision: `PubMedVision_*_VQA.json`, one JSON list each, and `images/`. Three records of the first list are
broken on purpose: a picture that is nowhere, turns that do not alternate, no picture at all. Seed: {seed}.
"""


def _figure(seed: int, article: int, figure: int) -> Micrograph:
    return draw_micrograph(draws.seeded(f"pubmedvision/{seed}/{article}/{figure}"))


def _name(article: int, figure: int) -> str:
    return f"images/pmc_{article}_{figure}.jpg"


def _record(seed: int, file: str, number: int) -> dict[str, Any]:
    """One record; the lists ask about the same figures with other words."""
    article, figure = divmod(number, FIGURES_PER_ARTICLE)
    figures = [figure, (figure + 1) % FIGURES_PER_ARTICLE] if number % TWO_PICTURES_EVERY == 0 else [figure]
    drawn = [_figure(seed, article, each) for each in figures]
    asked = "Describe what is visible." if file == "alignment" else drawn[0].questions[1][0].capitalize()
    answer = " ".join(each.description for each in drawn) if file == "alignment" else f"The cells are {drawn[0].stain}."
    question = f"<image>\n{asked}" if number % PLACEHOLDER_EVERY == 0 else asked
    return {
        "id": f"{FILES[file]}_{number}", "image": [_name(article, each) for each in figures],
        "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}],
        "modality": "Light microscopy", "body_part": "Tissue",
    }  # fmt: skip


def _defects(good: Mapping[str, Any]) -> list[dict[str, Any]]:
    turns = good["conversations"]
    return [
        {**good, "id": "Alignment_VQA_nowhere", "image": ["images/pmc_999999_0.jpg"]},
        {**good, "id": "Alignment_VQA_turns", "conversations": [turns[0], turns[0]]},
        {**good, "id": "Alignment_VQA_no_image", "image": []},
    ]


def write_raw(root: Path, counts: Mapping[str, int], seed: int) -> int:
    """Fill an empty folder; a list with a count of 0 is left out. Returns the number of records, broken ones included."""
    (root / "README.md").write_text(README.format(seed=seed), encoding="utf-8")
    (root / "images").mkdir()
    num_articles = -(-max(counts.values()) // FIGURES_PER_ARTICLE)
    for article in range(num_articles):
        for figure in range(FIGURES_PER_ARTICLE):
            (root / _name(article, figure)).write_bytes(encoded(_figure(seed, article, figure).image(), quality=90))
    num_records = 0
    for file, name in FILES.items():
        records = [_record(seed, file, number) for number in range(counts[file])]
        if file == "alignment" and records:
            records += _defects(records[0])
        if records:
            text = json.dumps(records, ensure_ascii=False, indent=1)
            (root / f"PubMedVision_{name}.json").write_text(text + "\n", encoding="utf-8", newline="\n")
        num_records += len(records)
    return num_records
