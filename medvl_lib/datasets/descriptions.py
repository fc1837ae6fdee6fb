"""What is asked about a picture that comes without a question of its own, and how labels are put into a sentence.

In: nothing, or parts of a sentence. Out: text. Which labels a description names, and in which order, is each dataset's template.
"""

from collections.abc import Mapping

DESCRIBE: Mapping[str, str] = {"en": "Describe this medical image.", "zh": "请描述这张医学图像。"}
"""One request for every dataset of described pictures, by language: what `describe` will ask, too, which knows no dataset."""

DESCRIPTION = "description"
"""The metadata key under which a pair whose response is no description of the picture (an answer) has one."""
CATEGORY = "category"
"""The metadata key of the class that a pair's picture belongs to: a grade, a diagnosis."""
STAGE = "stage"
"""The metadata key of the training stage whose request a pair makes, where a study has a pair for each: what its answer holds, and which
metrics read it."""
ANSWER_LABELS = "answer_labels"
"""The metadata key under which a closed question says what it may be answered with, where that is not yes and no, and a description which
categories there are: ``left|right|both=bilateral``, each label with whatever else it is called. How a label is read in an answer is
``metrics.vqa``'s."""


def sentence(*parts: str) -> str:
    """The parts that say something, with commas between them, a capital first and a full stop last."""
    text = ", ".join(part for part in parts if part)
    return f"{text[:1].upper()}{text[1:]}." if text else ""
