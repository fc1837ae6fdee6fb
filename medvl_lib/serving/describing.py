"""One picture file described by what a line serves: the server's own limits and model, without the wire.

In: a file, a language, and what is served. Out: a ``Prediction``. The question is the one that every dataset of described pictures asks.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from medvl_lib.chat import single_turn
from medvl_lib.datasets.descriptions import DESCRIBE
from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.predictions import Prediction
from medvl_lib.hardware import Profile
from medvl_lib.images import UnreadableImage
from medvl_lib.lines import Line
from medvl_lib.retrieved_cases import Fitting, before, fitting
from medvl_lib.serving.problems import Problem
from medvl_lib.serving.resident import Uploads, load_resident
from medvl_lib.serving.served import ServedModel
from medvl_lib.serving.uploads import MAX_BODY_BYTES, require_picture
from medvl_lib.tokenization import open_reader


def describe(path: Path, language: str, *, model: ServedModel, line: Line, profile: Profile, cases: Sequence[str] = ()) -> Prediction:
    """What the model says of the picture in a file, with what is said of similar ``cases`` before the question, as many as fit.

    Raises MedVLError for a file that holds no picture, before anything is loaded.
    """
    data = picture_in(path)
    try:
        preface = before_it([data], language, cases, model=model, line=line).preface
        return load_resident(model, line, profile).answer(before(preface, DESCRIBE[language]), [data])
    except UnreadableImage as error:
        raise MedVLError(found="a picture that cannot be decoded to its end", where=str(path), do="take the whole file") from error


def before_it(pictures: Sequence[bytes], language: str, cases: Sequence[str], *, model: ServedModel, line: Line) -> Fitting:
    """The words before the question about pictures: of as many cases as training and evaluation would leave there."""
    uploads = {hashlib.sha256(data).hexdigest(): data for data in pictures}
    reader = open_reader(model.weights.directory, Uploads(uploads), max_pixels=line.model.max_pixels)
    asked = single_turn("request", image_ids=tuple(uploads), request=DESCRIBE[language], response="")
    return fitting(asked, cases, language, reader, line.audit.max_tokens)


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
