"""One picture file described by what a line serves: the server's own limits and model, without the wire.

In: a file, a language, and what is served. Out: a ``Prediction``, and whether it is in the language that was asked for. The question is the
one that every dataset of described pictures asks.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from medvl_lib.chat import single_turn
from medvl_lib.datasets.descriptions import DESCRIBE
from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.metrics.languages import language_kept
from medvl_lib.evaluation.predictions import Prediction
from medvl_lib.hardware import Profile
from medvl_lib.images import UnreadableImage
from medvl_lib.lines import Line
from medvl_lib.retrieved_cases import Fitting, before, fitting
from medvl_lib.serving.problems import Problem
from medvl_lib.serving.resident import Uploads, load_resident
from medvl_lib.serving.room import ROOM
from medvl_lib.serving.served import ServedModel
from medvl_lib.serving.uploads import MAX_BODY_BYTES, cost, require_picture, size_of
from medvl_lib.tokenization import open_reader


def describe(path: Path, language: str, *, model: ServedModel, line: Line, profile: Profile, cases: Sequence[str] = ()) -> Prediction:
    """What the model says of the picture in a file, with what is said of similar ``cases`` before the question, as many as fit.

    Raises MedVLError for a file that holds no picture, before anything is loaded.
    """
    data = picture_in(path)
    try:
        preface = before_it([data], language, cases, model=model, line=line).preface if cases else ""
        return load_resident(model, line, profile).answer(before(preface, DESCRIBE[language]), [data])
    except UnreadableImage as error:
        raise MedVLError(found="a picture that cannot be decoded to its end", where=str(path), do="take the whole file") from error


def keeps_language(answer: str, language: str) -> bool:
    """Whether an answer says something, and not in another script than asked: by the rule that the evaluation counts failed answers by.

    There is no wanted answer here; the question, which is written in the language, stands in for it.
    """
    return bool(language_kept(answer, DESCRIBE[language], language))


def before_it(pictures: Sequence[bytes], language: str, cases: Sequence[str], *, model: ServedModel, line: Line) -> Fitting:
    """The words before the question about pictures: of as many cases as training and evaluation would leave there."""
    ids = tuple(hashlib.sha256(data).hexdigest() for data in pictures)  # of equal ones as often as they are shown
    reader = open_reader(model.weights.directory, Uploads(dict(zip(ids, pictures, strict=True))), max_pixels=line.model.max_pixels)
    asked = single_turn("request", image_ids=ids, request=DESCRIBE[language], response="")
    with ROOM.take(cost([size_of(data) for data in pictures])):  # to know their sizes they are decoded
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
