"""Pictures: stored once by content, and turned into pixels in one place.

In: bytes as the publisher shipped them. Out: the same bytes by their SHA-256, and the RGB array that every processor, page and
report sees. Resizing and normalizing belong to a model's processor, the way from DICOM values to a screen to ``dicom``.
"""

import base64
import hashlib
import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base as ExifTag
from PIL.Image import Transpose

from medvl_lib import dicom
from medvl_lib.files import write_bytes

REVISION = 2  # DICOM files are pictures, too

# All of these are Pillow's words for damaged bytes: RuntimeError is AVIF's, struct.error that of an EXIF block.
DECODING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, TypeError, RuntimeError, struct.error)
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
"""What is looked for first: bytes that are a picture of one of these and of another format are read as the same picture by everybody."""
MAX_PIXELS = 100_000_000  # a 10,000 x 10,000 picture: larger ones are decompression bombs, not radiographs
STRIP_PIXELS = 1 << 18  # of what is turned into colours at once: 2 MB as 64-bit gray
JPEG_QUALITY = 85  # of a picture that a page shows
UPRIGHT = {  # what undoes each EXIF orientation; Pillow's exif_transpose also rewrites all other tags, and fails on odd ones
    2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90,
}  # fmt: skip


class UnreadableImage(Exception):
    """Bytes that are no picture, or one cut short or absurdly large; the message says which."""


class Unshowable(UnreadableImage):
    """A picture that is whole, and cannot be shown; the message says why, and quotes nothing of the file."""


class Pictures(Protocol):
    """Whatever gives a picture's bytes by its id: the image store, or pages drawn as they are needed."""

    def read(self, image_id: str) -> bytes:
        """The stored bytes."""
        ...


@dataclass(frozen=True, slots=True)
class ImageStore:
    """Pictures by content hash: ``<root>/<first 2 hex>/<sha256>``, bytes unchanged."""

    root: Path

    def path(self, image_id: str) -> Path:
        """Where a picture lies."""
        return self.root / image_id[:2] / image_id

    def put(self, data: bytes) -> str:
        """Store ``data`` unless it is there already; returns its SHA-256."""
        image_id = hashlib.sha256(data).hexdigest()
        path = self.path(image_id)
        if not path.is_file() or path.stat().st_size != len(data):
            write_bytes(path, data)
        return image_id

    def read(self, image_id: str) -> bytes:
        """The stored bytes; raises FileNotFoundError for an unknown id."""
        return self.path(image_id).read_bytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What can be said of a picture without a model."""

    width_pixels: int
    height_pixels: int
    mode: str
    """Pillow's mode of the stored bytes: L, RGB, RGBA, CMYK, I;16, ...; of a DICOM file its photometric interpretation and bits."""
    format: str
    num_frames: int


def opened(data: bytes) -> Image.Image:
    """A picture of one of ``FORMATS``, its pixels not yet decoded; raises Pillow's own errors."""
    return Image.open(io.BytesIO(data), formats=FORMATS)


def _open(data: bytes) -> Image.Image:
    try:
        try:
            image = opened(data)
        except UnidentifiedImageError:
            image = Image.open(io.BytesIO(data))  # of whatever else Pillow knows: a dataset may have it
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"more than {MAX_PIXELS} pixels: {error}") from error
    except DECODING_ERRORS as error:
        raise UnreadableImage(f"not a picture that Pillow knows ({len(data)} bytes)") from error
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableImage(f"{image.width} x {image.height} pixels, at most {MAX_PIXELS} are read")
    return image


def facts(data: bytes) -> ImageFacts:
    """Size, mode and frames of a picture that ``rgb_pixels`` can read, after decoding all of it; raises UnreadableImage."""
    if dicom.is_dicom(data):
        return _dicom_facts(data)
    image = _open(data)
    _rgb(image)  # what passes here must not fail in training
    try:
        num_frames = int(getattr(image, "n_frames", 1))
    except DECODING_ERRORS as error:
        raise UnreadableImage(f"the frames of a {image.format} cannot be counted: {error}") from error
    return ImageFacts(
        width_pixels=image.width, height_pixels=image.height, mode=image.mode, format=image.format or "", num_frames=num_frames
    )  # fmt: skip


def _dicom_facts(data: bytes) -> ImageFacts:
    try:
        return ImageFacts(**dicom.facts(data, MAX_PIXELS)._asdict(), format="DICOM")
    except dicom.DicomError as error:
        raise _of_dicom(error) from error


def _of_dicom(error: dicom.DicomError) -> UnreadableImage:
    return UnreadableImage(str(error)) if isinstance(error, dicom.DamagedPixels) else Unshowable(str(error))


def rgb_pixels(data: bytes) -> NDArray[np.uint8]:
    """Bytes -> array (H, W, 3) of uint8: EXIF rotation applied, 16 bit scaled, transparency laid on white, CMYK converted, DICOM windowed.

    Multi-frame pictures give their first frame. Raises UnreadableImage.
    """
    if not dicom.is_dicom(data):
        return _rgb(_open(data))
    try:
        return dicom.rgb_pixels(data, MAX_PIXELS)
    except dicom.DicomError as error:
        raise _of_dicom(error) from error


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    try:
        image.load()
        orientation = image.getexif().get(ExifTag.Orientation)
    except DECODING_ERRORS as error:
        raise UnreadableImage(f"{image.format} of {image.width} x {image.height} pixels cannot be decoded: {error}") from error
    upright = image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image
    shown = _from_deep_gray(upright) if upright.mode.startswith("I") or upright.mode == "F" else _from_colours
    pixels = np.empty((upright.height, upright.width, 3), dtype=np.uint8)
    for rows, strip in _strips(upright):
        pixels[rows] = shown(strip)
    return pixels


def _strips(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """A picture in strips: each colour becomes another one by itself, and a large picture is never held three times over."""
    height = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, height):
        rows = slice(top, min(top + height, image.height))
        yield rows, image.crop((0, rows.start, image.width, rows.stop))


def _from_colours(strip: Image.Image) -> NDArray[np.uint8]:
    if strip.mode in {"RGBA", "LA", "PA"} or "transparency" in strip.info:
        layer = strip.convert("RGBA")
        strip = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(strip.convert("RGB"), dtype=np.uint8)


def _from_deep_gray(image: Image.Image) -> Callable[[Image.Image], NDArray[np.uint8]]:
    """More than 8 bits of gray, scaled from the darkest to the brightest value found in the whole picture."""
    bounds = [(float(values.min()), float(values.max())) for values in (_gray(strip) for _, strip in _strips(image))]
    low, high = float(np.min([low for low, _ in bounds])), float(np.max([high for _, high in bounds]))
    if not np.isfinite(high - low):
        raise Unshowable("gray values that are infinite or no numbers")

    def scaled(strip: Image.Image) -> NDArray[np.uint8]:
        values = _gray(strip)
        shown = np.zeros_like(values) if high <= low else (values - low) * (255.0 / (high - low))
        return np.repeat(np.rint(shown).astype(np.uint8)[:, :, None], 3, axis=2)

    return scaled


def _gray(strip: Image.Image) -> NDArray[np.float64]:
    return np.asarray(strip, dtype=np.float64)


class Thumbnail(NamedTuple):
    """A picture as a page shows it."""

    width_pixels: int
    height_pixels: int
    data_uri: str


def thumbnail(data: bytes, max_side_pixels: int) -> Thumbnail:
    """The pixels that a model's processor gets, scaled down for a page; raises UnreadableImage."""
    image = Image.fromarray(rgb_pixels(data))
    image.thumbnail((max_side_pixels, max_side_pixels))
    written = io.BytesIO()
    image.save(written, "JPEG", quality=JPEG_QUALITY)
    encoded = base64.b64encode(written.getvalue()).decode("ascii")
    return Thumbnail(width_pixels=image.width, height_pixels=image.height, data_uri=f"data:image/jpeg;base64,{encoded}")
