"""The rule labeler. If these passed wrongly, "no effusion" would count as an effusion in every score and target of the radiology line."""

import csv
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvl_lib.chexpert import OBSERVATIONS, State, label_report
from medvl_lib.chexpert import STATES as STATES_OF_A_LABEL

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


ALL = PROBES + HOSTILE


@pytest.mark.parametrize("change", [str.upper, lambda text: text.replace(" ", "\n"), lambda text: f"  {text} ".replace(" ", "   ")])
def test_capitals_and_line_wraps_say_nothing(change: Callable[[str], str]):
    assert [text for text, _ in ALL if vector(change(text)) != vector(text)] == []


def test_a_sentence_says_the_same_between_two_that_mention_nothing():
    odd = [
        text for text, _ in ALL if vector(f"Comparison is made to ___. {text.rstrip('.')}. Dr. ___ was told at 5:30 p.m.") != vector(text)
    ]
    assert odd == []


@settings(deadline=None)  # a busy machine
@given(st.text(alphabet=st.sampled_from("no effusion or, may be edema. heart: normal; \n_?/'1-x"), max_size=200))
def test_any_text_has_fourteen_states_and_no_finding_is_never_absent(text: str):
    found = label_report(text)
    assert tuple(found) == OBSERVATIONS
    assert set(found.values()) <= set(STATES_OF_A_LABEL)
    others = [state for name, state in found.items() if name not in ("No Finding", "Support Devices")]
    assert found["No Finding"] == "not_mentioned" or not {"present", "uncertain"} & set(others)


@pytest.mark.parametrize(
    "piece", ["no ", "opacity, ", "opacity or ", "edema and the heart is ", "no effusion, small ", "is ", "effusion not "]
)
def test_a_clause_that_never_ends_takes_time_as_it_grows_and_not_as_its_square(piece: str):
    seconds: list[float] = []
    for count in (200, 2_000):
        start = time.process_time()
        label_report(piece * count)
        seconds.append(time.process_time() - start)
    assert seconds[1] < 40 * max(seconds[0], 0.005)


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
