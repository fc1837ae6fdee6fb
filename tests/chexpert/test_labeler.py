"""The rule labeler. If these passed wrongly, "no effusion" would count as an effusion in every score and target of the radiology line."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from medvl_lib.chexpert import OBSERVATIONS, State, label_report

HERE = Path(__file__).parent
REAL = HERE.parents[1].parent / "shared" / "data" / "chexpert-labeler"
SHORT = {
    "NF": "No Finding", "EC": "Enlarged Cardiomediastinum", "CM": "Cardiomegaly", "LL": "Lung Lesion", "LO": "Lung Opacity",
    "ED": "Edema", "CO": "Consolidation", "PN": "Pneumonia", "AT": "Atelectasis", "PX": "Pneumothorax", "PE": "Pleural Effusion",
    "PO": "Pleural Other", "FX": "Fracture", "SD": "Support Devices",
}  # fmt: skip
STATES: dict[str, State] = {"+": "present", "-": "absent", "?": "uncertain"}
PUBLISHED: dict[str, State] = {"1.0": "present", "0.0": "absent", "-1.0": "uncertain", "": "not_mentioned"}


def probes(name: str) -> Iterator[tuple[str, str]]:
    """(text, vector) of each line of a probe file."""
    for line in (HERE / name).read_text(encoding="utf-8").splitlines():
        if "|" in line and not line.startswith("#"):
            text, _, vector = line.rpartition("|")
            yield text.strip(), vector.strip()


def vector(text: str) -> str:
    """What the labeler says of a text, as the probe files write it."""
    signs = {state: sign for sign, state in STATES.items()}
    names = {name: short for short, name in SHORT.items()}
    return " ".join(sorted(names[name] + signs[state] for name, state in label_report(text).items() if state != "not_mentioned"))


PROBES = list(probes("chexpert_probes.txt"))
HOSTILE = list(probes("chexpert_hostile.txt"))
MISSES = list(probes("chexpert_known_misses.txt"))


def test_there_are_enough_probes_and_none_stands_twice():
    assert len(PROBES) >= 80
    assert len({text for text, _ in PROBES + HOSTILE + MISSES}) == len(PROBES + HOSTILE + MISSES)
    said = [one for _, wanted in PROBES + HOSTILE + MISSES for one in wanted.split()]
    assert all(re.fullmatch(r"[A-Z]{2}[-+?]", one) and one[:2] in SHORT for one in said)


@pytest.mark.parametrize(("text", "wanted"), PROBES, ids=[text for text, _ in PROBES])
def test_a_probe_has_the_vector_that_the_published_rules_give_it(text: str, wanted: str):
    assert vector(text) == " ".join(sorted(wanted.split()))


@pytest.mark.parametrize(("text", "wanted"), HOSTILE, ids=[text for text, _ in HOSTILE])
def test_a_sentence_that_was_meant_to_break_the_labeler_does_not(text: str, wanted: str):
    assert vector(text) == " ".join(sorted(wanted.split()))


@pytest.mark.xfail(strict=True, reason="the file says why")
@pytest.mark.parametrize(("text", "wanted"), MISSES, ids=[text for text, _ in MISSES])
def test_a_known_miss_is_still_one(text: str, wanted: str):
    assert vector(text) == " ".join(sorted(wanted.split()))


def test_the_observations_are_the_fourteen_of_the_publisher():
    assert set(OBSERVATIONS) == set(SHORT.values())
    assert len(OBSERVATIONS) == 14


@pytest.mark.real_data
def test_the_publishers_sample_reports_have_exactly_their_vectors():
    """All 56 cells of the 4 reports that come with chexpert-labeler."""
    if not REAL.is_dir():
        pytest.skip(f"{REAL} is not there")
    with (REAL / "sample_reports.csv").open(encoding="utf-8", newline="") as file:
        texts = [row[0] for row in csv.reader(file)]
    with (REAL / "labeled_reports.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(texts) == len(rows) == 4
    for text, row in zip(texts, rows, strict=True):
        assert row.pop("Reports") == text
        assert dict(label_report(text)) == {name: PUBLISHED[value] for name, value in row.items()}
