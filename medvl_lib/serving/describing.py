"""One picture file described by what a line serves: the server's own limits and model, without the wire.

In: a file, a language, and what is served. Out: a ``Prediction``. The question is the one that every dataset of described pictures asks.
"""

from collections.abc import Sequence
from pathlib import Path

from medvl_lib.datasets.descriptions import DESCRIBE
from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.predictions import Prediction
from medvl_lib.hardware import Profile
from medvl_lib.images import UnreadableImage
from medvl_lib.lines import Line
from medvl_lib.retrieved_cases import HEADINGS, before, worded
from medvl_lib.serving.resident import load_resident
from medvl_lib.serving.served import ServedModel
from medvl_lib.serving.uploads import MAX_BODY_BYTES, Problem, require_picture


def describe(path: Path, language: str, *, model: ServedModel, line: Line, profile: Profile, cases: Sequence[str] = ()) -> Prediction:
    """What the model says of the picture in a file, with what is said of similar ``cases`` before the question where there are any.

    Raises MedVLError for a file that holds no picture, before anything is loaded.
    """
    data = picture_in(path)
    try:
        return load_resident(model, line, profile).answer(before(worded(HEADINGS[language], cases), DESCRIBE[language]), [data])
    except UnreadableImage as error:
        raise MedVLError(found="a picture that cannot be decoded to its end", where=str(path), do="take the whole file") from error


def picture_in(path: Path) -> bytes:
    """The bytes of a picture file; raises MedVLError for one that cannot be read, is too large, or holds no picture."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MedVLError(found=error.strerror or "no file that can be read", where=str(path), do="name a picture file") from error
    if len(data) > MAX_BODY_BYTES:
        raise MedVLError(found=f"{len(data)} bytes", where=str(path), do=f"name a file of at most {MAX_BODY_BYTES}")
    try:
        require_picture(data)
    except Problem as problem:
        found, _, do = problem.detail.rpartition(": ")
        raise MedVLError(found=found, where=str(path), do=do.replace("send", "name")) from problem
    return data
