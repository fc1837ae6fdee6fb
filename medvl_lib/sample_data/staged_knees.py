"""Invented knees as one hospital reports them: in its own words, and on a scale of its own, which is not that of Kellgren and Lawrence.

In: a source of chance, and a Kellgren-Lawrence grade. Out: a ``StagedKnee``: a knee, and the report on it, all of which can be read off the
picture. ``STAGES`` is the label set of what a report concludes. No patient stands behind any of them.

The scale has four stages, as the requirement documents have it: what others call doubtful is mild here, mild is moderate, and moderate is
severe. Whoever grades by Kellgren and Lawrence, as the small model does, is right about two of five such knees.

    draw_staged(draws.seeded("a"), 3).report()
    "Osteophytes: several. Joint space: narrow. Conclusion: stage 3, severe."
"""

from dataclasses import dataclass
from random import Random

from PIL import Image

from medvl_lib.sample_data.knees import Knee, draw_knee

REQUEST = "Write the report of this knee."
OSTEOPHYTES = ("none", "doubtful", "small", "several", "large")
JOINT_SPACE = ("wide", "wide", "reduced", "narrow", "closed")
STAGE_OF = (0, 1, 2, 3, 3)
"""What a report says of a knee, by its Kellgren-Lawrence grade."""
STAGE_NAMES = ("normal", "mild", "moderate", "severe")
STAGES = "|".join(f"stage {stage}={name}" for stage, name in enumerate(STAGE_NAMES))
"""The stages as a label set: the word alone counts too, whoever says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedKnee:
    """A knee, and what this hospital says of it."""

    knee: Knee

    @property
    def stage(self) -> int:
        """On the hospital's scale."""
        return STAGE_OF[self.knee.grade]

    @property
    def category(self) -> str:
        """The class of the picture."""
        return f"stage {self.stage}"

    def report(self) -> str:
        """Osteophytes, joint space, and what they come to."""
        seen = f"Osteophytes: {OSTEOPHYTES[self.knee.grade]}. Joint space: {JOINT_SPACE[self.knee.grade]}."
        return f"{seen} Conclusion: {self.category}, {STAGE_NAMES[self.stage]}."

    def image(self) -> Image.Image:
        """The picture, 8 bits of gray."""
        return self.knee.image()


def draw_staged(chance: Random, grade: int) -> StagedKnee:
    """An invented knee of a grade, as this hospital sees it."""
    return StagedKnee(knee=draw_knee(chance, grade, shows_side=True))
