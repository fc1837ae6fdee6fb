"""A plan is near what a real step holds. If these passed wrongly, a line would be refused that fits, or freeze the machine that it was
promised to fit: each part is held against bytes that a dispatch hook counts in the trainer that every line uses.
"""

from pathlib import Path

import pytest

from benchmarks.plan_accuracy import BATCHES, NUM_LINES, PARTS, TOLERANCE, WIDTHS, Counted, compare
from medvl_lib.hardware import PROFILES
from medvl_lib.models.spec import Family

ALL = [(width, num_lines, batch) for width in WIDTHS for num_lines in NUM_LINES for batch in BATCHES]
QUICK = {(128, 2, 1), (256, 12, 4), (384, 2, 4)}


def _require_near(counted: Counted) -> None:
    away = {part: counted.ratio(part) - 1 for part in PARTS}
    assert all(abs(share) <= TOLERANCE for share in away.values()), away


@pytest.mark.parametrize(
    ("width", "num_lines", "batch"), [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in ALL]
)
def test_each_part_of_a_decoders_step_is_within_15_percent(tmp_path: Path, width: int, num_lines: int, batch: int):
    _require_near(compare(tmp_path / "case", "qwen2_5_vl", width, num_lines, batch, PROFILES["cpu"]))


@pytest.mark.parametrize("family", ["mllama", "siglip"])
def test_each_part_of_the_step_of_another_family_is_within_15_percent(tmp_path: Path, family: Family):
    _require_near(compare(tmp_path / "case", family, 256, 2, 4, PROFILES["cpu"]))


def test_a_plan_that_forgets_a_part_is_seen():
    found = dict.fromkeys(PARTS, 100.0)
    with pytest.raises(AssertionError):
        _require_near(Counted({**found, "activations": 80.0}, found, 1))
