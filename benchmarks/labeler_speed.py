"""How fast the CheXpert rule labeler is, on one core: reports per second, by their length.

In: nothing, or the path of a table with one report a row and no header (the ``sample_reports.csv`` of chexpert-labeler). Out: a table on
the terminal, and exit status 1 where reports of ordinary length are labeled more slowly than the bound.

    python benchmarks/labeler_speed.py [sample_reports.csv]

Invented reports in the wording of chest radiographs: the sections that MIMIC-CXR has, hard line wraps, masks, each report another draw. The
labeler keeps what it said of a sentence, and reports repeat theirs, invented ones more than real ones: so the same long reports are also
measured with a number in each sentence, so that none comes twice.
Seconds are those of the processor, the best of five repetitions: a busy machine still makes them longer (shared caches).
"""

import csv
import random
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

from medvl_lib.benchmark.terminal import render_table
from medvl_lib.chexpert import RULE_SET, label_report

MIN_PER_SECOND = 2_000.0  # of findings with impression
NUM_REPORTS, NUM_REPEATS = 1_000, 5

FINDINGS = (
    "There is a {size} {side} pleural effusion with adjacent atelectasis.",
    "No focal consolidation, pleural effusion, or pneumothorax is seen.",
    "The cardiac silhouette is {degree} enlarged.", "The cardiomediastinal and hilar contours are within normal limits.",
    "The lungs are well expanded and clear.", "Heart size is normal.", "A {side} PICC line terminates in the lower superior vena cava.",
    "Patchy opacity at the {side} base could represent atelectasis or pneumonia in the appropriate clinical setting.",
    "There is {degree} pulmonary vascular congestion without overt edema.", "No acute osseous abnormality is identified.",
    "The {side} costophrenic angle is blunted, unchanged from ___.", "Endotracheal tube is in standard position.",
    "A {number} mm nodule in the {side} upper lobe is stable since the prior study dated ___.",
    "Low lung volumes accentuate the bronchovascular markings.", "Old healed {side} rib fractures are noted.",
    "The previously seen {side} pneumothorax has resolved.", "Degenerative changes are present in the thoracic spine.",
)  # fmt: skip
IMPRESSIONS = (
    "No acute cardiopulmonary process.", "{Size} {side} pleural effusion.", "Stable cardiomegaly without evidence of edema.",
    "{Side} basilar opacity concerning for pneumonia.", "Interval removal of the {side} chest tube with no pneumothorax.",
)  # fmt: skip


def drawn(sentences: Sequence[str], count: int, draw: random.Random) -> list[str]:
    """Some sentences with their words filled in."""
    side, size, degree = draw.choice(["left", "right"]), draw.choice(["small", "moderate", "large"]), draw.choice(["mildly", "moderately"])
    words = {"side": side, "size": size, "degree": degree, "Side": side.title(), "Size": size.title(), "number": draw.randrange(3, 30)}
    return [sentence.format(**words) for sentence in draw.sample(sentences, count)]


def invented(num_findings: int, num_impressions: int, seed: int) -> str:
    """A report; with its headings and line wraps where it has findings."""
    draw = random.Random(seed)  # noqa: S311 (repeatable, not secret)
    listed = drawn(IMPRESSIONS, num_impressions, draw)
    impression = " ".join(f"{place}. {sentence}" for place, sentence in enumerate(listed, 1)) if num_impressions > 1 else listed[0]
    if not num_findings:
        return impression
    heading = f"EXAMINATION: CHEST (PA AND LAT)\n\nINDICATION: ___ year old with cough {seed}.\n\nCOMPARISON: ___.\n\n"
    wrapped = textwrap.fill("FINDINGS: " + " ".join(drawn(FINDINGS, num_findings, draw)), 80)
    return f"{heading}{wrapped}\n\nIMPRESSION: {impression}"


def with_numbers(report: str, seed: int) -> str:
    """The report with another number before each full stop: no sentence of it was seen before."""
    *parts, last = report.split(". ")
    return "".join(f"{part}, image {seed * 100 + place}. " for place, part in enumerate(parts)) + last


def best_seconds(reports: Sequence[str]) -> float:
    """Processor seconds for all of them, the best of some repetitions."""
    found: list[float] = []
    for _ in range(NUM_REPEATS):  # of more sentences than the labeler keeps none is kept from one repetition to the next
        start = time.process_time()
        for report in reports:
            label_report(report)
        found.append(time.process_time() - start)
    return min(found)


def samples(path: Path) -> list[str]:
    """The reports of a table, each varied by a number, so that no text comes twice."""
    with path.open(encoding="utf-8", newline="") as file:
        texts = [row[0] for row in csv.reader(file)]
    return [f"{texts[number % len(texts)]} {number} cm." for number in range(NUM_REPORTS)]


def main() -> int:
    """Measure, print and judge."""
    kinds = {
        "impressions": [invented(0, 1 + seed % 3, seed) for seed in range(NUM_REPORTS)],
        "findings and impression": [invented(3 + seed % 4, 1 + seed % 2, seed) for seed in range(NUM_REPORTS)],
        "long reports": [invented(9 + seed % 6, 3, seed) for seed in range(NUM_REPORTS)],
    }
    kinds["long reports, no sentence twice"] = [with_numbers(report, seed) for seed, report in enumerate(kinds["long reports"])]
    if sys.argv[1:]:
        kinds["the given reports, varied"] = samples(Path(sys.argv[1]))
    rows: list[tuple[str, float, float, float]] = []
    speeds: dict[str, float] = {}
    for name, reports in kinds.items():
        seconds = best_seconds(reports)
        speeds[name] = len(reports) / seconds
        rows.append((name, sum(len(report.split()) for report in reports) / len(reports), seconds, speeds[name]))
    print(render_table((f"{len(next(iter(kinds.values())))} reports, {RULE_SET}", "words", "seconds", "reports_per_second"), rows))
    is_kept = speeds["findings and impression"] >= MIN_PER_SECOND
    print(f"{'kept' if is_kept else 'broken'}: {MIN_PER_SECOND:g} reports of findings and impression a second")
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
