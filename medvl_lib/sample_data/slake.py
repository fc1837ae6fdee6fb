"""Invented questions about invented radiographs in the layout of SLAKE: three JSON lists and ``imgs/xmlab<n>/source.jpg``.

In: how many pictures each part shall have, and a seed. Out: ``train.json``, ``validate.json``, ``test.json``, each one list on one line,
with three English and three Chinese questions about each picture. As in the real set the languages leak into each other: of every third
picture of the test part, the Chinese questions are in train. Broken on purpose, all in train: a record whose picture is nowhere, one
without an answer type, an empty answer, and a repeated question.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medvl_lib.sample_data import draws
from medvl_lib.sample_data.chests import draw_chest
from medvl_lib.sample_data.pathvqa import encoded

COUNTS: dict[str, int] = {"train": 12, "validate": 4, "test": 6}
"""Pictures per part; the broken records come on top."""

LEAKS_EVERY = 3
README = """# Invented data: questions about radiographs in English and Chinese

Every picture and question in this folder was made up by a program; no patient stands behind any of them. Licence: CC0-1.0. The files have
the layout of SLAKE. Four records of `train.json` are broken on purpose: no such picture, no answer type, no answer, a repeated question.
Of some test pictures the Chinese questions are in train, as in the real set. Seed: {seed}.
"""


def _records(root: Path, seed: int, image: int) -> list[dict[str, Any]]:
    """The records of a picture, which is written."""
    drawn = draw_chest(draws.seeded(f"slake/{seed}/{image}"))
    folder = root / "imgs" / f"xmlab{image}"
    folder.mkdir(parents=True)
    (folder / "source.jpg").write_bytes(encoded(drawn.image().convert("RGB"), quality=90))
    return [
        {
            "img_id": image, "img_name": f"xmlab{image}/source.jpg", "question": each.text, "answer": each.answer,
            "q_lang": each.language, "location": "Lung", "modality": "X-Ray", "answer_type": each.answer_type, "base_type": "vqa",
            "content_type": each.content_type, "triple": ["vhead", "_", "_"],
        }
        for each in drawn.questions()
    ]  # fmt: skip


def _broken(good: Mapping[str, Any]) -> list[dict[str, Any]]:
    untyped = {key: value for key, value in good.items() if key != "answer_type"}
    return [{**good, "img_name": "xmlab999999/source.jpg"}, untyped, {**good, "answer": "", "question": "Which?"}, dict(good)]


def write_raw(root: Path, counts: Mapping[str, int], seed: int) -> int:
    """Fill an empty folder; a part with a count of 0 is left out. Returns the number of records, broken ones included."""
    (root / "README.md").write_text(README.format(seed=seed), encoding="utf-8")
    lists: dict[str, list[dict[str, Any]]] = {part: [] for part in COUNTS}
    image = 0
    for part in COUNTS:
        for number in range(counts[part]):
            image += 1
            leaks = part == "test" and number % LEAKS_EVERY == LEAKS_EVERY - 1 and counts["train"] > 0
            for record in _records(root, seed, image):
                lists["train" if leaks and record["q_lang"] == "zh" else part].append(record)
    if lists["train"]:
        lists["train"] += _broken(lists["train"][0])
    num_records = 0
    for part, records in lists.items():
        numbered = [{**record, "qid": num_records + number} for number, record in enumerate(records)]
        num_records += len(numbered)
        if numbered:
            (root / f"{part}.json").write_text(json.dumps(numbered, ensure_ascii=False), encoding="utf-8", newline="\n")
    return num_records
