"""The model card. If these passed wrongly, the card would tell other numbers than were measured."""

from dataclasses import replace
from pathlib import Path

from medvl_lib.pretraining.card import CARD, write_card
from medvl_lib.pretraining.examination import Finding
from medvl_lib.pretraining.reading import METRICS
from medvl_lib.pretraining.recipe import PRETRAINING
from medvl_lib.sample_data.reading_pages import SHIFTS
from medvl_lib.training.steps import TrainingStep
from tests.torch_fixtures import TINY

FINDING = Finding(
    pages="learned", variant="base", condition="as_is", metric="pair_accuracy", glyph_height_pixels=None, num_pages=200, mean=0.7251,
    ci_low=0.681, ci_high=0.769, minus_base=None, minus_base_ci_low=None, minus_base_ci_high=None, memory_bytes=11_000_000,
)  # fmt: skip
FINDINGS = [
    *(replace(FINDING, metric=metric) for metric in METRICS),
    *(replace(FINDING, pages=name, metric=metric, mean=0.3) for name in (*SHIFTS, "shifted") for metric in METRICS),
    replace(FINDING, condition="blank_image", mean=0.011, ci_low=0.0, ci_high=0.02),
    replace(FINDING, variant="floor_majority", mean=0.012, memory_bytes=None),
    replace(
        FINDING, variant="nf4", mean=0.7, minus_base=-0.0251, minus_base_ci_low=-0.04, minus_base_ci_high=-0.01, memory_bytes=5_500_000
    ),
    *(
        replace(FINDING, pages="one_size", glyph_height_pixels=float(height), num_pages=24, mean=height / 12, ci_low=0.2, ci_high=0.95)
        for height in range(3, 12)
    ),
]
STEPS = [
    TrainingStep(
        step=number, epoch=0.1, loss=3.0 / number, learning_rate=1e-4, gradient_norm=1.0, num_tokens=3600, tokens_per_second=10.0,
        elapsed_seconds=360.0 * (number if number <= 10 else number - 10), validation_loss=0.1234 if number == 20 else None,
    ) for number in range(1, 21)
]  # fmt: skip


def written(directory: Path) -> str:
    write_card(
        directory, findings=FINDINGS, steps=STEPS, recipe=PRETRAINING["qwen2_5_vl"], spec=TINY, contents="fedcba", num_parameters=5_880_512,
        floor_pixels=6.0, made_on="2 cores (cpu)",
    )  # fmt: skip
    return (directory / CARD).read_text(encoding="utf-8")


def test_the_card_tells_what_was_measured(tmp_path: Path):
    card = written(tmp_path)
    assert "| learned, 200 unseen pages | 0.725 (0.681 to 0.769) |" in card
    assert "| longer pages, 200 unseen pages | 0.300 (0.681 to 0.769) |" in card
    assert "| shifted: all three, 200 unseen pages | 0.300 (0.681 to 0.769) |" in card
    assert "| blank_image | 0.011 (0.000 to 0.020) |" in card
    assert "| floor_majority | 0.012 (0.681 to 0.769) |" in card
    assert "| nf4 | 0.700 (0.681 to 0.769) | -0.025 (-0.040 to -0.010) | 5.50 | 0.50 |" in card
    assert "| 6.0 | 0.500 (0.200 to 0.950) | 24 |" in card
    assert "`fedcba`" in card
    assert "5,880,512 parameters" in card
    assert "0.123 nats" in card
    assert "2.0 hours on 2 cores (cpu)" in card  # ten steps of six minutes, and ten more after it was resumed


def test_the_figures_are_the_same_bytes_for_the_same_numbers(tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
        written(directory)
    for name in ("reading.svg", "loss.svg"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert "pair accuracy" in (first / "reading.svg").read_text(encoding="utf-8")
