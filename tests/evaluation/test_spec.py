"""What is asked of every variant. If these passed wrongly, hours of predictions would end in a leaderboard without a row."""

from dataclasses import replace

import pytest

from medvl_lib.evaluation.spec import EvaluationSpec

SPEC = EvaluationSpec(
    splits=("test", "benchmark"),
    max_pairs_per_dataset=0,
    max_answer_tokens=1,
    controls=("blank_image",),
    seed=42,
    datasets=(),
    further_variants=(),
)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"splits": ()}, "splits = \\[\\] must name test"),
        ({"splits": ("benchmark",)}, "splits = \\['benchmark'\\] must name test"),
        ({"splits": ("test", "test")}, "none twice"),
        ({"max_pairs_per_dataset": -1}, "max_pairs_per_dataset = -1"),
        ({"max_answer_tokens": 0}, "max_answer_tokens = 0"),
        ({"controls": ("as_is",)}, "controls = \\['as_is'\\] must not name as_is"),
        ({"controls": ("blank_image", "blank_image")}, "none twice"),
    ],
)
def test_an_evaluation_that_cannot_be_meant_is_refused(changes: dict[str, object], said: str):
    with pytest.raises(ValueError, match=said):
        replace(SPEC, **changes)
