"""Invented knee radiographs in both layouts of ``knee_xray``: two experts' folders, and train, val and test.

In: how many pictures each layout shall have, and a seed. Out: ``Knee X-ray Images/MedicalExpert-I/0Normal/NormalG0 (1).png`` and so on,
with the same pictures below ``MedicalExpert-II``; ``kneeKL224/train/0/9000001L.png`` and so on. In every seventh picture the experts differ
by a grade. Odd or broken on purpose: a picture that only the first expert graded, one that the first expert has in two grades, a file whose
name says another grade than its folder, a picture cut short, and a patient with one knee in train and the other in test.
"""

from collections.abc import Mapping
from pathlib import Path

from medvl_lib.labels import KELLGREN_LAWRENCE
from medvl_lib.sample_data import draws
from medvl_lib.sample_data.knees import draw_knee
from medvl_lib.sample_data.pathvqa import encoded

COUNTS: dict[str, int] = {"graded": 20, "split": 275}
"""Good pictures per layout; odd and broken ones come on top. A fifth of the second layout is its test part: enough knees to decide by."""

DIFFER_EVERY = 7
PARTS = ("train", "train", "train", "val", "test")  # by turns, each with every grade
FIRST_PATIENT = 9_000_001
README = """# Invented data: radiographs of knees

Every picture in this folder was drawn by a program; no patient stands behind any of them. Licence: CC0-1.0. The folders have the layouts
of Mendeley's "Digital Knee X-ray Images" (two experts) and of its stand-ins (train, val, test). Broken on purpose: a picture with two
grades by one expert, a name that says another grade than its folder, a picture cut short. Seed: {seed}.
"""


class _Expert:
    """One expert's folders: files are numbered in each."""

    def __init__(self, root: Path, name: str) -> None:
        self._folder = root / "Knee X-ray Images" / name
        self._numbers = [0] * len(KELLGREN_LAWRENCE)

    def path(self, grade: int, *, named: int | None = None) -> Path:
        """Where the next picture of a grade goes; ``named`` is the grade that its name says, if it is another."""
        self._numbers[grade] += 1
        word = KELLGREN_LAWRENCE[grade].name.capitalize()
        name = f"{word}G{grade if named is None else named} ({self._numbers[grade]}).png"
        return self._folder / f"{grade}{word}" / name


def _put(path: Path, data: bytes) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return 1


def _picture(seed: int, layout: str, number: int) -> tuple[int, str, bytes]:
    """Grade, side and bytes of a picture."""
    grade = number % len(KELLGREN_LAWRENCE)
    drawn = draw_knee(draws.seeded(f"knee_xray/{seed}/{layout}/{number}"), grade, shows_side=True)
    return grade, drawn.side, encoded(drawn.image(), "PNG")


def _write_graded(root: Path, count: int, seed: int) -> int:
    first, second = _Expert(root, "MedicalExpert-I"), _Expert(root, "MedicalExpert-II")
    for number in range(count):
        grade, _, data = _picture(seed, "graded", number)
        other = grade + (1 if grade == 0 else -1) if number % DIFFER_EVERY == DIFFER_EVERY - 1 else grade
        _put(first.path(grade), data)
        _put(second.path(other), data)
    grade, _, data = _picture(seed, "graded", count)
    _put(first.path(grade), data)
    for number, grades in ((count + 1, (1, 3)), (count + 2, (2,))):
        _, _, data = _picture(seed, "graded", number)
        for grade in grades:
            _put(first.path(grade, named=None if len(grades) > 1 else 4), data)
    _, _, data = _picture(seed, "graded", count + 3)
    _put(first.path(0), data[: len(data) // 2])
    return count + 4


def _write_split(root: Path, count: int, seed: int) -> int:
    for number in range(count):
        grade, side, data = _picture(seed, "split", number)
        name = f"{FIRST_PATIENT + number}{side[0].upper()}.png"
        _put(root / "kneeKL224" / PARTS[number // len(KELLGREN_LAWRENCE) % len(PARTS)] / str(grade) / name, data)
    grade, side, data = _picture(seed, "split", count)
    other = f"{FIRST_PATIENT}{'R' if _picture(seed, 'split', 0)[1] == 'left' else 'L'}.png"  # the first patient, who is in train
    return count + _put(root / "kneeKL224" / "test" / str(grade) / other, data)


def write_raw(root: Path, counts: Mapping[str, int], seed: int) -> int:
    """Fill an empty folder; a layout with a count of 0 is left out. Returns the number of pictures by content, broken ones included."""
    (root / "README.md").write_text(README.format(seed=seed), encoding="utf-8")
    num_pictures = _write_graded(root, counts["graded"], seed) if counts["graded"] else 0
    return num_pictures + (_write_split(root, counts["split"], seed) if counts["split"] else 0)
