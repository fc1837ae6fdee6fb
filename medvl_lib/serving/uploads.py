"""What comes in over the wire: files by their contents, never by their names, and questions that are only text.

In: uploaded bytes and a prompt. Out: a ``Document``, whose pages are pictures, or a ``Problem`` with the status, what was found and what to
do. No model and no wire here. A DICOM file is taken whoever it names: nothing of it is kept, and that it does is told (``identifiers``).

A picture goes on as it came, byte by byte: what decodes it in the evaluation decodes it here. A PDF's pages are drawn by a process of their
own (``pdf_process``), those of a TIFF are written apart, each with its pixels as they were.
"""

import hashlib
import io
import json
import signal
import struct
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from PIL import Image, ImageSequence
from PIL.ExifTags import Base as ExifTag

from medvl_lib import dicom, images
from medvl_lib.serving.identifiers import Identifier, of_picture
from medvl_lib.serving.problems import Problem
from medvl_lib.serving.room import ROOM
from medvl_lib.vision_tokens import MAX_ASPECT_RATIO

TAKEN = ", ".join((*images.FORMATS, "DICOM", "PDF"))  # not all that Pillow knows: some it hands to other programs
MAX_BODY_BYTES = 64 << 20  # a page of A4 at 600 dpi without compression, 100 MB, is too large; as PNG it is a few
MAX_JSON_BYTES = 24 << 20  # pictures in base64 are a third larger than they are
MAX_PICTURES = 8  # of one question: as many as a pair of the documents may have
MAX_FILES = 32  # of one batch, and as many pages
MAX_PIXELS = 16_000_000  # of one picture: as a whole in memory, twice over while it is decoded (docs/serving.md)
MAX_WEBP_PIXELS = 8_000_000  # its decoder keeps two pictures more
MAX_DICOM_PIXELS = 12_000_000  # its values of 16 bit are held beside their colours: 14 million took 308 MB
MAX_DICOM_BYTES = 40 << 20  # of a file, which is held four times while its runs are counted: as many pixels in three colours, and a header
MAX_QUESTION_PIXELS = 40_000_000  # of all pictures of a question, by ``cost``: eight pages of A4 at 200 dpi, three at 300
MAX_BATCH_PIXELS = 128_000_000  # of all pages of a batch, which are decoded some at a time: 32 of A4 at 200 dpi
PDF_PIXELS = 20_000_000  # what drawing a PDF costs: its process, and its pages as files
MAX_PROMPT_CHARACTERS = 8000
MAX_DRAWING_SECONDS = 9.0  # of one PDF; a page of text takes 0.1
PDF = b"%PDF-"
BESIDE = {"WEBP": 2.0, "DICOM": 5 / 3}  # what decoding one holds beside it, in pixels of its own; of others one more picture
MOST_SIZES = 4096  # that are remembered: of as many requests as may be inside, with as many pages each as may be
ANIMATED = frozenset(["GIF", "WEBP", "PNG"])
WHOLE_PNG = frozenset(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])  # modes that PNG keeps as they are; the others stay TIFF
DRAWER = Path(__file__).with_name("pdf_process.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """An uploaded file."""

    pages: tuple[bytes, ...]
    """Pictures that ``images.rgb_pixels`` reads."""
    identifiers: tuple[Identifier, ...] = ()
    """What in the file, beside its pixels, may say who the patient is."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a picture's file says of its size, before anything is decoded; of a turned picture the other way round."""

    width_pixels: int
    height_pixels: int
    num_beside: int
    """Pixels that its decoder holds beside it."""

    @property
    def num_pixels(self) -> int:
        """Of the picture itself."""
        return self.width_pixels * self.height_pixels


def is_pdf(data: bytes) -> bool:
    """Whether a file is drawn page by page."""
    return data.startswith(PDF)


def read_document(data: bytes, *, most_pages: int = MAX_PICTURES) -> Document:
    """The pages of a file; a Problem where it is none that is taken, is too large, or has more than ``most_pages``."""
    if is_pdf(data):
        with ROOM.take(PDF_PIXELS):
            return Document(pages=_drawn(data, most_pages))
    require_picture(data)
    return Document(pages=_apart(data, most_pages), identifiers=tuple(of_picture(data)))


def require_picture(data: bytes) -> None:
    """Refuse bytes that are no picture of a known format, or one whose size no model reads; what is cut short shows when it is decoded.

    A DICOM file may say who the patient is: here it stays in memory for one answer, and is neither stored nor logged.
    """
    _require_size(size_of(data))


def require_together(pictures: Sequence[bytes]) -> None:
    """Refuse a question about more than can be decoded for it at a time, or about a picture that is none."""
    sizes = [size_of(data) for data in pictures]
    for size in sizes:
        _require_size(size)
    if (num_pixels := cost(sizes)) > MAX_QUESTION_PIXELS:
        found = f"{len(pictures)} pictures of {num_pixels} pixels together, what decoding the largest takes included"
        raise Problem(413, found=found, do=f"send fewer or smaller ones: at most {MAX_QUESTION_PIXELS} for one question")


def cost(sizes: Sequence[Size]) -> int:
    """Pixels that lie in memory when some pictures were decoded one after the other, with what decoding the largest one held beside."""
    return sum(size.num_pixels for size in sizes) + max((size.num_beside for size in sizes), default=0)


def _require_size(size: Size) -> None:
    width, height = size.width_pixels, size.height_pixels
    if size.num_pixels > MAX_PIXELS:
        raise _too_large()
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        found = f"a picture of {width} x {height} pixels"
        raise Problem(422, found=found, do=f"send one that is at most {MAX_ASPECT_RATIO} times as long as it is wide")


SIZES: dict[bytes, Size] = {}
"""Sizes of the pictures that came last, by their contents: a header of megabytes is read once, and not on the event loop."""
SIZES_CHANGE = Lock()


def size_of(data: bytes) -> Size:
    """What a picture says of its size; a Problem for bytes that are none, or of a kind that is not taken."""
    digest = hashlib.sha256(data).digest()
    found = SIZES.get(digest)
    if found is None:
        found = _size_of(data)
        with SIZES_CHANGE:
            SIZES[digest] = found
            if len(SIZES) > MOST_SIZES:
                del SIZES[next(iter(SIZES))]
    return found


def _size_of(data: bytes) -> Size:
    (width, height), kind = (_dicom_size(data), "DICOM") if dicom.is_dicom(data) else _size(data)
    return Size(width, height, int(BESIDE.get(kind, 1.0) * width * height))


def _size(data: bytes) -> tuple[tuple[int, int], str]:
    try:
        with images.opened(data) as picture:
            kind = picture.format or ""
            if kind in ANIMATED and getattr(picture, "is_animated", False):
                raise Problem(422, found=f"a {kind} of several frames, of which a model sees one", do="send one frame")
            if kind == "WEBP" and picture.width * picture.height > MAX_WEBP_PIXELS:
                raise Problem(413, found=f"a WebP of more than {MAX_WEBP_PIXELS} pixels", do="send a smaller one, or a PNG")
            return picture.size, kind
    except Image.DecompressionBombError as error:
        raise _too_large() from error
    except images.DECODING_ERRORS as error:
        raise Problem(415, found=f"{len(data)} bytes that are no picture", do=f"send one of {TAKEN}") from error


def _dicom_size(data: bytes) -> tuple[int, int]:
    """The reasons name tags and syntaxes, never what they hold; nothing is decoded."""
    if len(data) > MAX_DICOM_BYTES:
        raise Problem(413, found=f"a DICOM file of {len(data)} bytes", do=f"send one of at most {MAX_DICOM_BYTES}, of one frame")
    try:
        found = dicom.said_facts(data, MAX_DICOM_PIXELS)
    except dicom.DicomError as error:
        raise Problem(415, found=f"a DICOM file without a picture that can be shown: {error}", do="send one that can be decoded") from error
    if found.num_frames > 1:
        raise Problem(422, found=f"a DICOM file of {found.num_frames} frames, of which a model sees one", do="send one frame")
    return found.width_pixels, found.height_pixels


def _too_large() -> Problem:
    return Problem(413, found=f"a picture of more than {MAX_PIXELS} pixels", do="send a smaller one")


# -- files of several pages --------------------------------------------------------------------------------------------
def _too_many_pages(found: str, most_pages: int) -> Problem:
    return Problem(422, found=found, do=f"send at most {most_pages} pages at a time")


def _apart(data: bytes, most_pages: int) -> tuple[bytes, ...]:
    """The pages of a TIFF, each as a picture; any other picture as it is."""
    if dicom.is_dicom(data):
        return (data,)
    try:
        with images.opened(data) as picture:
            if picture.format != "TIFF" or not _has_another(picture):
                return (data,)
            pages: list[bytes] = []
            for page in ImageSequence.Iterator(picture):
                if len(pages) == most_pages:  # never counted: a file may have millions of them, or run in a circle
                    raise _too_many_pages(f"a TIFF of more than {most_pages} pages", most_pages)
                size = Size(page.width, page.height, page.width * page.height)
                _require_size(size)
                with ROOM.take(cost([size])):
                    pages.append(_written(page))
            return tuple(pages)
    except images.DECODING_ERRORS as error:
        raise Problem(415, found="a TIFF with pages that cannot be decoded", do="send it whole, or its pages as pictures") from error


def _has_another(picture: Image.Image) -> bool:
    try:
        picture.seek(1)
    except EOFError:
        return False
    picture.seek(0)
    return True


def _written(page: Image.Image) -> bytes:
    """One page as a file of its own, its pixels and its orientation as they were."""
    page.load()
    out, exif = io.BytesIO(), Image.Exif()
    if orientation := page.getexif().get(ExifTag.Orientation):
        exif[ExifTag.Orientation] = orientation
    alone = page.copy()
    alone.info = {name: value for name, value in page.info.items() if name == "transparency"}
    if page.mode in WHOLE_PNG:
        alone.save(out, "PNG", compress_level=1, exif=exif)
    else:
        alone.save(out, "TIFF", compression="tiff_adobe_deflate", exif=exif)
    return out.getvalue()


SAID = {
    "unreadable": (415, "a PDF that cannot be read", "print it to a new PDF, or send its pages as pictures"),
    "locked": (422, "a PDF that asks for a password", "send it without one"),
    "empty": (422, "a PDF without pages", "send one that has some"),
    "odd_page": (422, "a PDF with a page that is a line, or of no size", "send its pages as pictures"),
    "too_large": (413, "a PDF whose pages are too large as pictures", "send fewer pages at a time"),
    "slow": (422, f"a PDF that takes more than {MAX_DRAWING_SECONDS:g} s to draw", "send its pages as pictures"),
}
"""What became of a PDF -> status, what was found, what to do."""


def _drawn(data: bytes, most_pages: int) -> tuple[bytes, ...]:
    """A PNG of each page, by a process that a hostile file may bring down, hang or fill."""
    try:
        ran = subprocess.run(  # noqa: S603 (our own script; the file goes to its standard input)
            [sys.executable, "-I", str(DRAWER), str(most_pages)], input=data, capture_output=True, timeout=MAX_DRAWING_SECONDS, check=False,
            env={}, cwd="/",
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise _no_pages("slow") from error
    if ran.returncode == -signal.SIGXCPU:
        raise _no_pages("slow")
    if ran.returncode != 0 or not ran.stdout:
        raise _no_pages("unreadable")
    said, *pages = _parts(ran.stdout)
    told: dict[str, Any] = json.loads(said)
    if told["kind"] == "too_many_pages":
        raise _too_many_pages(f"a PDF of {told['num_pages']} pages", most_pages)
    if told["kind"] != "drawn":
        raise _no_pages(told["kind"])
    return tuple(pages)


def _no_pages(kind: str) -> Problem:
    status, found, do = SAID[kind]
    return Problem(status, found=found, do=do)


def _parts(written: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(written):
        (length,) = struct.unpack_from(">I", written, start)
        start += 4 + length
        yield written[start - length : start]


# -- questions ---------------------------------------------------------------------------------------------------------
def require_prompt(prompt: str, added_tokens: Collection[str]) -> None:
    """Refuse a question that says nothing, one that is too long, and one that holds the words by which a template steers the model."""
    if not prompt.strip():
        raise Problem(422, found="an empty prompt", do="ask something")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise Problem(422, found=f"a prompt of {len(prompt)} characters", do=f"ask in at most {MAX_PROMPT_CHARACTERS}")
    if any("\ud800" <= character <= "\udfff" for character in prompt):  # JSON can say it, and no tokenizer reads it
        raise Problem(422, found="a prompt with half a character", do="send it as UTF-8")
    if any(token in prompt for token in added_tokens):
        raise Problem(422, found="a prompt with a special token of the model", do="ask in plain words")
