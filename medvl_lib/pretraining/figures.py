# pyright: reportUnknownMemberType=false
# (matplotlib's methods are declared in part)
"""The two figures of a model card, as SVG with the same bytes for the same numbers.

In: training steps, or findings. Out: files. Which findings, and what is said of them, is decided in ``card``.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvl_lib.pages import PageStyle, x_height_pixels
from medvl_lib.pretraining.examination import Finding
from medvl_lib.pretraining.recipe import PretrainingRecipe
from medvl_lib.sample_data.reading_pages import LEARNED
from medvl_lib.training.steps import TrainingStep

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, ACCENT, FAINT = "#1a1a1a", "#0072b2", "#999999"  # Okabe and Ito: told apart by everybody
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "medvl", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip


def _figure(path: Path, draw: Callable[["Axes"], None]) -> None:
    """One small plot; matplotlib is imported here, since only a card needs it."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        draw(figure.subplots())
        figure.savefig(path, metadata={"Date": None})


def draw_loss(path: Path, steps: Sequence[TrainingStep], recipe: PretrainingRecipe, *, trained: str, held: str, unit: str) -> None:
    """Training and held-out loss by step, with the borders of the lessons; what was ``trained`` on, ``held`` out, and is its ``unit``."""

    def draw(axes: "Axes") -> None:
        losses = [step.loss for step in steps]
        axes.plot([step.step for step in steps], losses, color=FAINT, linewidth=0.6, label=f"training: {trained}")
        held_out = [(step.step, step.validation_loss) for step in steps if step.validation_loss is not None]
        axes.plot(*zip(*held_out, strict=True), color=ACCENT, marker="o", markersize=3, label=f"held-out answers, {held}")
        border = 0
        for lesson in recipe.lessons:
            axes.annotate(
                lesson.examples.name, (border, 1), xycoords=("data", "axes fraction"),
                textcoords="offset points", xytext=(3, -9), fontsize=7,
            )  # fmt: skip
            border += lesson.num_steps
            axes.axvline(border, color=FAINT, linewidth=0.5)
        axes.set(xlabel="optimizer step", ylabel=f"loss in nats per {unit}", yscale="log")
        axes.legend(frameon=False, loc="lower left")

    _figure(path, draw)


def draw_losses(path: Path, steps: Sequence[TrainingStep]) -> None:
    """Training and held-out loss of pairs by step."""

    def draw(axes: "Axes") -> None:
        axes.plot([step.step for step in steps], [step.loss for step in steps], color=FAINT, linewidth=0.6, label="training")
        held_out = [(step.step, step.validation_loss) for step in steps if step.validation_loss is not None]
        axes.plot(*zip(*held_out, strict=True), color=ACCENT, marker="o", markersize=3, label="held-out pictures")
        axes.set(xlabel="optimizer step", ylabel="sigmoid loss in nats per pair", yscale="log")
        axes.legend(frameon=False, loc="upper right")

    _figure(path, draw)


def draw_reading(path: Path, findings: Sequence[Finding], floor_pixels: float) -> None:
    """A metric by the height of a lower-case x, with intervals, what training showed, and the audit's floor."""
    rows = sorted(findings, key=lambda row: row.glyph_height_pixels or 0)

    def draw(axes: "Axes") -> None:
        below = [row.mean - (row.mean if row.ci_low is None else row.ci_low) for row in rows]
        above = [(row.mean if row.ci_high is None else row.ci_high) - row.mean for row in rows]
        axes.axvspan(*_learned_heights(), color=FAINT, alpha=0.2, linewidth=0)
        axes.axvline(floor_pixels, color=INK, linestyle="--", linewidth=0.8)
        axes.errorbar(
            [row.glyph_height_pixels or 0 for row in rows], [row.mean for row in rows], yerr=[below, above], color=ACCENT, marker="o",
            markersize=4, capsize=2, linewidth=1,
        )  # fmt: skip
        axes.set(xlabel="height of a lower-case x in pixels", ylabel="pair accuracy", ylim=(-0.02, 1.02))

    _figure(path, draw)


def _learned_heights() -> tuple[float, float]:
    """The x heights of the smallest and the largest trained size, over the fonts."""
    heights = [
        x_height_pixels(PageStyle(
            font=font, font_size_pixels=size, width_pixels=308, height_pixels=280, margin_pixels=4, line_pitch_pixels=2 * size,
        )) for font in LEARNED.fonts for size in LEARNED.font_sizes_pixels
    ]  # fmt: skip
    return min(heights), max(heights)
