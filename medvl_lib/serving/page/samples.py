"""Example documents: invented pictures of a line's datasets with the questions that are asked about them, for who has none at hand.

In: a line's datasets. Out: ``Sample``s in memory, the same for the same names. They are written by ``sample_data`` into a temporary folder
that is gone before anything is shown, and read as any dataset is; nothing of a patient is near.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

from medvl_lib.datasets import DATASETS
from medvl_lib.errors import WriteFailed
from medvl_lib.images import Thumbnail, UnreadableImage, rgb_pixels, thumbnail
from medvl_lib.pairs import Draft, Reading
from medvl_lib.report.blocks import words
from medvl_lib.sample_data import GENERATORS, write
from medvl_lib.serving.problems import Problem
from medvl_lib.serving.uploads import require_picture

RECORDS = 3  # of each kind: some are broken on purpose
NUM_SAMPLES, FEWEST = 8, 2  # over all datasets of a line, and of each one
SIDE_PIXELS = 220
LANGUAGES = {"en": "English", "zh": "Chinese"}
ONE_AT_A_TIME = Lock()
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An invented picture, or several, and what is asked about it."""

    name: str
    question: str
    language: str
    pictures: tuple[bytes, ...]
    shown: Thumbnail
    """The first picture, small."""


def samples(datasets: tuple[str, ...]) -> tuple[Sample, ...]:
    """Some of every dataset, written once, by the first who asks; none where the system has no temporary folder that can be written."""
    with ONE_AT_A_TIME:
        try:
            return _samples(datasets)
        except (OSError, WriteFailed) as error:  # the page says so, and is of use without them
            LOG.warning("no examples: %s", type(error).__name__)
            return ()


@cache
def _samples(datasets: tuple[str, ...]) -> tuple[Sample, ...]:
    each = max(FEWEST, NUM_SAMPLES // len(datasets))
    return tuple(found for name in datasets if name in GENERATORS for found in _of(name, each))


def _of(dataset: str, count: int) -> Iterator[Sample]:
    with TemporaryDirectory(prefix="medvl-examples-") as folder:
        counts = {kind: min(number, RECORDS) for kind, number in GENERATORS[dataset].counts.items()}
        root = write(dataset, Path(folder) / dataset, counts=counts).root
        for number, (draft, pictures) in enumerate(_varied(DATASETS[dataset].read(root), count), start=1):
            yield Sample(
                name=f"{words(dataset)} {number}", question=draft.pair.request, pictures=pictures,
                shown=thumbnail(pictures[0], SIDE_PIXELS), language=LANGUAGES.get(draft.pair.language, draft.pair.language),
            )  # fmt: skip


def _varied(readings: Iterable[Reading], count: int) -> Iterator[tuple[Draft, tuple[bytes, ...]]]:
    """The first drafts with pictures that can be asked about; each of another picture, a new language or a new question first."""
    found: dict[tuple[bytes, ...], Draft] = {}
    for draft in readings:
        pictures = _pictures(draft) if isinstance(draft, Draft) else ()
        if isinstance(draft, Draft) and pictures:
            found.setdefault(pictures, draft)
    firsts = {(draft.pair.language, draft.pair.request): pictures for pictures, draft in reversed(found.items())}
    chosen = dict.fromkeys([*reversed(firsts.values()), *found])
    yield from ((found[pictures], pictures) for pictures in list(chosen)[:count])


def _pictures(draft: Draft) -> tuple[bytes, ...]:
    """The pictures of a draft; none where one is missing, or is broken on purpose."""
    try:
        pictures = tuple(source.data() for source in draft.images)
        for data in pictures:
            require_picture(data)
            rgb_pixels(data)
    except (OSError, Problem, UnreadableImage):
        return ()
    return pictures
