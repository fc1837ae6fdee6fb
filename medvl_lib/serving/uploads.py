"""What comes in over the wire: pictures by their contents, never by their names, and questions that are only text.

In: uploaded bytes and a prompt. Out: the same, or a ``Problem`` with the status, what was found and what to do. No model and no wire here.
A DICOM file is taken whoever it names: nothing of it is kept, and only its pixels are looked at. What may be *stored* is ``pairs``' to say.
"""

import io
from collections.abc import Collection

from PIL import Image

from medvl_lib import dicom, images
from medvl_lib.vision_tokens import MAX_ASPECT_RATIO

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")  # not all that Pillow knows: some it hands to other programs
MAX_BODY_BYTES = 64 << 20  # a page of A4 at 600 dpi without compression, 100 MB, is too large; as PNG it is a few
MAX_PICTURES = 8  # as many as a pair of the documents may have
MAX_PROMPT_CHARACTERS = 8000


class Problem(Exception):
    """A request that cannot be answered, as RFC 9457 describes problems: the status, what was found, and what to do about it."""

    def __init__(self, status: int, *, found: str, do: str, retry_after_seconds: int | None = None) -> None:
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.detail = f"{found}: {do}"
        super().__init__(status, found)


def require_picture(data: bytes) -> None:
    """Refuse bytes that are no picture of a known format, or one whose size no model reads; what is cut short shows when it is decoded.

    A DICOM file may say who the patient is: here it stays in memory for one answer, and is neither stored nor logged.
    """
    width, height = _dicom_size(data) if dicom.is_dicom(data) else _size(data)
    if width * height > images.MAX_PIXELS:
        raise _too_large()
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        found = f"a picture of {width} x {height} pixels"
        raise Problem(422, found=found, do=f"send one that is at most {MAX_ASPECT_RATIO} times as long as it is wide")


def _size(data: bytes) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            return picture.size
    except Image.DecompressionBombError as error:
        raise _too_large() from error
    except images.DECODING_ERRORS as error:
        raise Problem(415, found=f"{len(data)} bytes that are no picture", do=f"send one of {', '.join(FORMATS)}, DICOM") from error


def _dicom_size(data: bytes) -> tuple[int, int]:
    """Width and height; the reasons name tags and syntaxes, never what they hold."""
    try:
        found = images.facts(data)
    except images.UnreadableImage as error:
        raise Problem(415, found=f"a DICOM file without a picture that can be shown: {error}", do="send one that can be decoded") from error
    if found.num_frames > 1:
        raise Problem(422, found=f"a DICOM file of {found.num_frames} frames, of which a model sees one", do="send one frame")
    return found.width_pixels, found.height_pixels


def _too_large() -> Problem:
    return Problem(413, found=f"a picture of more than {images.MAX_PIXELS} pixels", do="send a smaller one")


def require_prompt(prompt: str, added_tokens: Collection[str]) -> None:
    """Refuse a question that says nothing, one that is too long, and one that holds the words by which a template steers the model."""
    if not prompt.strip():
        raise Problem(422, found="an empty prompt", do="ask something")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise Problem(422, found=f"a prompt of {len(prompt)} characters", do=f"ask in at most {MAX_PROMPT_CHARACTERS}")
    if any(token in prompt for token in added_tokens):
        raise Problem(422, found="a prompt with a special token of the model", do="ask in plain words")
