# pyright: reportUnknownMemberType=false
# (pydicom's datasets hold anything)
"""DICOM: stored bytes as a viewer would show them, and whether they still say who the patient is.

In: the bytes of a DICOM file. Out: RGB values of its first frame, its facts, and a ``Refusal`` for a file that was not de-identified.
``images`` calls the first two; ``pairs`` asks the third before anything is stored. Values go the standard's way to the screen (PS3.3
C.7.6.3 and C.11; PS3.4 N.2): modality LUT or rescale; then the VOI LUT, or the first window (LINEAR, LINEAR_EXACT or SIGMOID), or, without
either, from the darkest to the brightest value that is no padding; MONOCHROME1 is inverted; palettes are looked up; YBR becomes RGB.
Overlays, colour profiles, pixels that are not square and frames behind the first are left alone.

What pydicom cannot decode with NumPy and Pillow alone (JPEG lossless, JPEG-LS, 12-bit JPEG) is unreadable, with the transfer syntax named.
So is what could become anything once it is read: a deflated data set, a header of megabytes, a codestream of another size than its header
says, or a run-length encoded one that is longer.
Messages name tags, never what they hold.
"""

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from pydicom import Dataset

STRIP_PIXELS = 1 << 18  # of what is turned into brightness at once: 2 MB as 64-bit numbers
Shares = Callable[[NDArray[Any]], NDArray[Any]]
"""Some rows of stored values -> their brightness, or colours, from 0 to 1."""
MAX_HEADER_BYTES = 4 << 20  # before the pixel data; one of a thousand frames has two
MAX_ELEMENTS = 50_000  # there, at any depth: each is an object
MAX_BYTES_PER_PIXEL = 4  # of a frame of the largest size; of smaller ones more, such as RGB of 16 bit
RLE_SLACK_BYTES = 256  # behind a segment's end: what pads it, and the last run
READS_PER_ELEMENT = 3  # tag, length, value: of the library's reader at most
PREAMBLE_BYTES, MARK = 128, b"DICM"
BARE = (b"\x02\x00", b"\x08\x00")  # how a file without a preamble begins: group 0002 or 0008, little-endian; no picture format does

IDENTIFYING = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientBirthTime", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName",
    "PatientMotherBirthName", "PatientAddress", "PatientTelephoneNumbers", "ReferringPhysicianName", "PerformingPhysicianName",
    "OperatorsName", "InstitutionName", "InstitutionAddress", "AccessionNumber",
)  # fmt: skip
"""Tags that name a patient, or lead to one: 16 of those that the confidentiality profile of PS3.15 (table E.1-1) removes. A tripwire: that
they are empty does not make a file anonymous."""
DRAWN_ON = frozenset(["US", "SC"])
"""Ultrasound and secondary capture: names are often burned into the picture, whatever the tag says."""
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
PIXEL_TAGS = (0x7FE00010, 0x7FE00008, 0x7FE00009)
GRAY = frozenset(["MONOCHROME1", "MONOCHROME2"])
SHOWN = frozenset([*GRAY, "PALETTE COLOR", "RGB"])
"""Photometric interpretations that are read, and beside them those in YBR."""
WINDOWS = {"LINEAR": 1, "LINEAR_EXACT": 0, "SIGMOID": 0}
"""Functions of a window, and how wide one is at least."""
NOTHING = " ^=\0"  # what an emptied name is made of


class DicomError(Exception):
    """A DICOM file without a picture that can be shown; the message says why, in tags and syntaxes."""


class DamagedPixels(DicomError):
    """Pixel data that cannot be decoded, most often since they are cut short."""


class DicomFacts(NamedTuple):
    """What a file says of its picture."""

    width_pixels: int
    height_pixels: int
    mode: str
    """Photometric interpretation and bits: ``MONOCHROME2 12 bit``."""
    num_frames: int


class Refusal(NamedTuple):
    """Why a file may not be taken in."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Clearance:
    """What a person vouches for, of all DICOM files of a folder."""

    pseudonyms: frozenset[str] = field(default_factory=frozenset[str])
    """Identifying tags that hold pseudonyms here."""
    identity_removed: bool = False
    """Patients were made unrecognizable, though PatientIdentityRemoved does not say so."""
    pixels_reviewed: bool = False
    """Somebody has looked at every picture, and none has a name burned into it."""

    def __post_init__(self) -> None:
        """Refuse a tag that is not looked at anyway: it is misspelt."""
        if strange := sorted(self.pseudonyms.difference(IDENTIFYING)):
            raise ValueError(f"{strange[0]!r} is none of the identifying tags: {', '.join(IDENTIFYING)}")


UNCLEARED = Clearance()


def is_dicom(data: bytes) -> bool:
    """Whether bytes are a DICOM file, with the preamble or, as old archives wrote them, without."""
    return data[PREAMBLE_BYTES : PREAMBLE_BYTES + len(MARK)] == MARK or data[:2] in BARE


@cache
def _pydicom() -> Any:
    """The library, told to keep what it reads to itself: its warnings quote values, and a patient's name is one."""
    import pydicom  # 0.5 s that only a dataset with DICOM files needs
    from pydicom import config

    config.settings.reading_validation_mode = config.IGNORE
    warnings.filterwarnings("ignore", module="pydicom")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    return pydicom


class _Header(io.BytesIO):
    """A file whose header is read to its bounds, and then no further."""

    is_bounded = True
    num_reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes; raises DicomError for a header without an end."""
        self.num_reads += 1
        if self.is_bounded and (self.tell() > MAX_HEADER_BYTES or self.num_reads > READS_PER_ELEMENT * MAX_ELEMENTS):
            raise DicomError(f"a DICOM header of more than {MAX_HEADER_BYTES} bytes, or of more than {MAX_ELEMENTS} elements")
        return super().read(size)


def _read(data: bytes, *, with_pixels: bool) -> "Dataset":
    """The data set up to its first pixel data, and with these where they are wanted; what stands behind them is not read."""
    stream, is_bare = _Header(data), data[:2] in BARE
    has_pixels = False

    def stop(tag: int, _: str | None, __: int) -> bool:
        nonlocal has_pixels
        is_end, has_pixels = has_pixels, has_pixels or tag in PIXEL_TAGS
        stream.is_bounded = not has_pixels
        return is_end or (has_pixels and not with_pixels)

    try:
        _require_no_deflated(data, force=is_bare)
        dataset = _pydicom().filereader.read_partial(stream, stop, force=is_bare)
        if "TransferSyntaxUID" not in dataset.file_meta:  # a bare file says in its first bytes how it is written
            is_implicit, _ = dataset.original_encoding
            uid = _pydicom().uid
            dataset.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if is_implicit else uid.ExplicitVRLittleEndian
    except DicomError:
        raise
    except Exception as error:  # damage has a dozen names in pydicom, and its words quote values
        raise DicomError(f"a DICOM header that cannot be read ({type(error).__name__})") from None
    return dataset


def _require_no_deflated(data: bytes, *, force: bool) -> None:
    """Refuse a data set that is inflated as a whole, to whatever size, before anything of it can be read."""
    stream, reader = _Header(data), _pydicom().filereader
    reader.read_preamble(stream, force)
    syntax = reader._read_file_meta_info(stream).get("TransferSyntaxUID")  # the public one wants a path
    if syntax == _pydicom().uid.DeflatedExplicitVRLittleEndian:
        raise DicomError(f"transfer syntax {syntax.name}, which is not read")


# -- whose picture it is -----------------------------------------------------------------------------------------------
def refusal(data: bytes, clearance: Clearance = UNCLEARED) -> Refusal | None:
    """Why a file may not be taken in; None for one that says that it was de-identified, or is vouched for.

    The first reason counts, and the detail lists everything that was found, so that all of it can be mended at once.
    """
    try:
        named, removed, burned_in, modality = _identity(_read(data, with_pixels=False))
    except DicomError as error:
        return Refusal("dicom_unreadable", str(error))
    found: list[Refusal] = []
    if names := [tag for tag in IDENTIFYING if tag in named and tag not in clearance.pseudonyms]:
        found.append(Refusal("dicom_names_patient", f"{', '.join(names)}: not empty"))
    if removed != "YES" and not clearance.identity_removed:
        found.append(Refusal("dicom_identity_not_removed", "PatientIdentityRemoved is not YES"))
    if not clearance.pixels_reviewed and (burned_in != "NO" or modality in DRAWN_ON):
        why = f"modality {modality}" if modality in DRAWN_ON else "BurnedInAnnotation is not NO"
        found.append(Refusal("dicom_may_show_patient", f"{why}, and nobody vouches that no name is burned into the picture"))
    return Refusal(found[0].reason, "; ".join(each.detail for each in found)) if found else None


def _identity(dataset: "Dataset") -> tuple[frozenset[str], str, str, str]:
    """The identifying tags that are not empty, at any depth; and what the three tags about them say."""
    try:
        filled = frozenset(
            element.keyword for element in _elements(dataset)
            if element.keyword in IDENTIFYING and str(element.value or "").strip(NOTHING)
        )  # fmt: skip
        said = [str(dataset.get(tag) or "").strip().upper() for tag in ("PatientIdentityRemoved", "BurnedInAnnotation", "Modality")]
    except DicomError:
        raise
    except Exception as error:  # a value is decoded when it is looked at
        raise DicomError(f"a DICOM header that cannot be read ({type(error).__name__})") from None
    return filled, said[0], said[1], said[2]


def _elements(dataset: "Dataset") -> Iterator[Any]:
    for number, element in enumerate(dataset.iterall()):
        if number >= MAX_ELEMENTS:  # of sequences, which are read when they are looked at
            raise DicomError(f"a DICOM header of more than {MAX_ELEMENTS} elements")
        yield element


# -- what is on it -----------------------------------------------------------------------------------------------------
def facts(data: bytes, max_pixels: int) -> DicomFacts:
    """Size, kind and frames of the picture, after showing its first frame; raises DicomError."""
    dataset = _read(data, with_pixels=True)
    shown = _shown(dataset, max_pixels)
    return DicomFacts(
        width_pixels=shown.shape[1], height_pixels=shown.shape[0], num_frames=_whole(dataset, "NumberOfFrames", 1),
        mode=f"{dataset.get('PhotometricInterpretation')} {_whole(dataset, 'BitsStored', 0)} bit",
    )  # fmt: skip


def said_facts(data: bytes, max_pixels: int) -> DicomFacts:
    """The same by the file's own word, without decoding its picture; raises DicomError where that cannot be decoded as it says."""
    dataset = _read(data, with_pixels=True)
    height, width = _require_bounds(dataset, max_pixels)
    _require_showable(dataset)
    _require_decodable(dataset)
    return DicomFacts(
        width_pixels=width, height_pixels=height, num_frames=_whole(dataset, "NumberOfFrames", 1),
        mode=f"{dataset.get('PhotometricInterpretation')} {_whole(dataset, 'BitsStored', 0)} bit",
    )  # fmt: skip


def rgb_pixels(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """The first frame as a viewer shows it: (H, W, 3); raises DicomError."""
    return _shown(_read(data, with_pixels=True), max_pixels)


def _whole(dataset: "Dataset", tag: str, otherwise: int) -> int:
    try:
        value = dataset.get(tag)
        return otherwise if value is None else int(value)
    except Exception as error:
        raise DicomError(f"{tag} is no number ({type(error).__name__})") from None


def _shown(dataset: "Dataset", max_pixels: int) -> NDArray[np.uint8]:
    _require_bounds(dataset, max_pixels)
    _require_showable(dataset)
    stored = _first_frame(dataset)
    photometric = str(dataset.get("PhotometricInterpretation"))
    try:
        if photometric in GRAY:
            return _in_strips(stored, _gray(dataset, stored, is_inverted=photometric == "MONOCHROME1"))
        if photometric == "PALETTE COLOR":
            return _in_strips(stored, lambda strip: _from_palette(dataset, strip))
        if stored.ndim == 3 and (photometric == "RGB" or photometric.startswith("YBR_")):
            most = 2 ** _whole(dataset, "BitsStored", 8) - 1
            return _in_strips(stored, lambda strip: strip / most)
    except DicomError:
        raise
    except Exception as error:
        raise DicomError(f"values that cannot be shown ({type(error).__name__})") from None
    raise DicomError("a picture in colours with one sample per pixel")


def _require_showable(dataset: "Dataset") -> None:
    """Refuse a picture of which the header alone says that it cannot be shown: it would be decoded for nothing."""
    try:
        photometric = str(dataset.get("PhotometricInterpretation"))
        voi = _nearest(dataset, "FrameVOILUTSequence")
        window = None if photometric not in GRAY or voi.get("VOILUTSequence") else _window(voi)
    except Exception as error:  # a value is decoded when it is looked at
        raise DicomError(f"a window or PhotometricInterpretation that cannot be read ({type(error).__name__})") from None
    if photometric not in SHOWN and not photometric.startswith("YBR_"):
        raise DicomError("a PhotometricInterpretation that is not read")
    if "PixelData" in dataset and not 1 <= _whole(dataset, "BitsStored", 0) <= _whole(dataset, "BitsAllocated", 0):
        raise DicomError("BitsStored that is not between 1 and BitsAllocated")
    if window is not None:
        _require_window(*window)


def _require_bounds(dataset: "Dataset", max_pixels: int) -> tuple[int, int]:
    """Height and width of a picture whose first frame is no larger than may be, in pixels and in bytes."""
    if not any(tag in dataset for tag in PIXELS):
        raise DicomError("a DICOM file without pixel data")
    height, width = _whole(dataset, "Rows", 0), _whole(dataset, "Columns", 0)
    if not 0 < width * height <= max_pixels:
        raise DicomError(f"{width} x {height} pixels, at most {max_pixels} are read")
    num_bytes, most = height * width * _bytes_per_pixel(dataset), MAX_BYTES_PER_PIXEL * max_pixels
    if not 0 < num_bytes <= most:
        raise DicomError(f"a frame of {num_bytes} bytes (Rows, Columns, SamplesPerPixel, BitsAllocated), at most {most} are read")
    return height, width


def _bytes_per_pixel(dataset: "Dataset") -> int:
    return _whole(dataset, "SamplesPerPixel", 1) * -(-_whole(dataset, "BitsAllocated", 8) // 8)


def _first_frame(dataset: "Dataset") -> NDArray[Any]:
    """Stored values (H, W) or, in colour, (H, W, 3), YBR turned into RGB."""
    _require_decodable(dataset)
    try:
        values = _pydicom().pixels.pixel_array(dataset, index=0)
        for tag in PIXELS:  # a large picture is not held twice
            dataset.pop(tag, None)
        return values
    except Exception as error:
        raise _undecodable(dataset, error) from None


def _undecodable(dataset: "Dataset", error: Exception) -> DamagedPixels:
    return DamagedPixels(f"pixel data that cannot be decoded ({_syntax(dataset)}, {type(error).__name__})")


def _syntax(dataset: "Dataset") -> str:
    return f"transfer syntax {dataset.file_meta.TransferSyntaxUID.name[:100]}"


def _require_decodable(dataset: "Dataset") -> None:
    """Refuse a frame that nobody here can decode, or that would become larger than the header says, before it is decoded."""
    syntax: Any = dataset.file_meta.TransferSyntaxUID
    try:
        if not _pydicom().pixels.get_decoder(syntax).is_available:
            raise DicomError(f"{_syntax(dataset)}: no decoder for it is installed")
        if syntax.is_encapsulated:
            frame = _coded_frame(dataset)
            (_require_length_of_runs if syntax == _pydicom().uid.RLELossless else _require_size_of_codestream)(dataset, frame)
    except DicomError:
        raise
    except Exception as error:
        raise _undecodable(dataset, error) from None


def _coded_frame(dataset: "Dataset") -> bytes:
    offsets = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    return _pydicom().encaps.get_frame(
        dataset["PixelData"].value, 0, number_of_frames=_whole(dataset, "NumberOfFrames", 1),
        extended_offsets=offsets if all(offsets) else None,
    )  # fmt: skip


def _require_length_of_runs(dataset: "Dataset", frame: bytes) -> None:
    """Refuse a run-length encoded frame that would become longer than the header says (PS3.5 annex G): two bytes become up to 128."""
    num_bytes = _whole(dataset, "Rows", 0) * _whole(dataset, "Columns", 0)
    starts = _pydicom().pixels.decoders.rle._rle_parse_header(frame[:64])  # the decoder's own: what it will decode
    for start, end in pairwise([*starts, len(frame)]):
        segment = memoryview(frame)[start:end]
        if len(segment) > 2 * num_bytes + RLE_SLACK_BYTES or _length_of_runs(segment, num_bytes + RLE_SLACK_BYTES) is None:
            raise DicomError(f"a run-length encoded segment of more than the {num_bytes} bytes that Rows and Columns say")


def _length_of_runs(segment: memoryview, most: int) -> int | None:
    """Bytes that a segment becomes; None for more than ``most``, or for more bytes of nothing than an encoder has a use for."""
    place = length = num_empty = 0
    while place < len(segment):
        head = segment[place]
        if head < 128:
            length, place = length + head + 1, place + head + 2
        elif head > 128:
            length, place = length + 257 - head, place + 2
        else:
            place, num_empty = place + 1, num_empty + 1
        if length > most or num_empty > RLE_SLACK_BYTES:
            return None
    return length


def _require_size_of_codestream(dataset: "Dataset", frame: bytes) -> None:
    """Refuse a compressed frame that would be decoded to another size than the header says."""
    with Image.open(io.BytesIO(frame), formats=("JPEG", "JPEG2000")) as picture:  # as pydicom opens it
        size, said = picture.size, (_whole(dataset, "Columns", 0), _whole(dataset, "Rows", 0))
    if size != said:
        raise DicomError(f"a codestream of {size[0]} x {size[1]} pixels in a file that says {said[0]} x {said[1]}")


def _in_strips(stored: NDArray[Any], shares: Shares) -> NDArray[np.uint8]:
    """Stored values -> (H, W, 3), some rows at a time: as 64-bit numbers a large picture would be held eight times over."""
    pixels = np.empty((*stored.shape[:2], 3), dtype=np.uint8)
    for rows in _rows(stored):
        pixels[rows] = _as_bytes(shares(stored[rows]))
    return pixels


def _rows(stored: NDArray[Any]) -> Iterator[slice]:
    height = max(1, STRIP_PIXELS // stored.shape[1])
    return (slice(top, top + height) for top in range(0, stored.shape[0], height))


def _from_palette(dataset: "Dataset", strip: NDArray[Any]) -> NDArray[Any]:
    looked_up = _pydicom().pixels.apply_color_lut(strip, dataset)[..., :3]
    return looked_up / np.iinfo(looked_up.dtype).max


def _as_bytes(shares: NDArray[Any]) -> NDArray[np.uint8]:
    """Brightness from 0 to 1 -> (H, W, 3) of uint8."""
    shown = np.rint(np.clip(shares, 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.repeat(shown[:, :, None], 3, axis=2) if shown.ndim == 2 else np.ascontiguousarray(shown)


def _gray(dataset: "Dataset", stored: NDArray[Any], *, is_inverted: bool) -> Shares:
    """How stored values of one channel become brightness from 0 to 1."""
    transformation, voi = _nearest(dataset, "PixelValueTransformationSequence"), _nearest(dataset, "FrameVOILUTSequence")
    if lookups := voi.get("VOILUTSequence"):
        shown = partial(_looked_up, lookups[0], is_share=True)
    elif (window := _window(voi)) is not None:
        center, width, function = window
        shown = partial(windowed, center=center, width=width, function=function)
    else:
        low, high = _range(dataset, stored, transformation)
        shown = partial(_stretched, low=low, high=high)

    def shares(strip: NDArray[Any]) -> NDArray[np.float64]:
        brightness = shown(_rescaled(transformation, strip))
        return 1.0 - brightness if is_inverted else brightness

    return shares


def _nearest(dataset: Any, macro: str) -> "Dataset":
    """Where the first frame's values of a macro stand: in its own functional group, the shared one, or the file's top level."""
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        first: list[Any] = list(dataset.get(groups) or [])[:1]
        if first and (found := first[0].get(macro)):
            return found[0]
    return dataset


def _window(voi: "Dataset") -> tuple[float, float, str] | None:
    """Center, width and function of the window that is seen first."""
    if voi.get("WindowCenter") is None or voi.get("WindowWidth") is None:
        return None
    return _first(voi.WindowCenter), _first(voi.WindowWidth), str(voi.get("VOILUTFunction") or "LINEAR")


def _first(value: Any) -> float:
    """Of several windows the first: what the publisher wants to be seen first."""
    return float(value) if isinstance(value, (int, float)) else float(value[0])


def _rescaled(dataset: "Dataset", stored: NDArray[Any]) -> NDArray[np.float64]:
    """Stored values -> those of the modality, such as Hounsfield units."""
    if lookups := dataset.get("ModalityLUTSequence"):
        return _looked_up(lookups[0], stored.astype(np.float64), is_share=False)
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    return stored.astype(np.float64) * float(1 if slope is None else slope) + float(0 if intercept is None else intercept)


def _looked_up(item: "Dataset", values: NDArray[np.float64], *, is_share: bool) -> NDArray[np.float64]:
    """Values through a lookup table (PS3.3 C.11.1.1, C.11.2.1.1): below its first entry the first counts, above its last the last."""
    count, first, bits = (int(part) for part in item.LUTDescriptor)
    entries: Any = item.LUTData
    if isinstance(entries, bytes):
        order = ">" if item.original_encoding[1] is False else "<"
        entries = np.frombuffer(entries, np.uint8 if len(entries) == (count or 2**16) else f"{order}u2")
    table = np.atleast_1d(np.asarray(entries, dtype=np.float64))
    index = np.clip(np.rint(values) - first, 0, len(table) - 1).astype(np.int64)
    return table[index] / (2**bits - 1) if is_share else table[index]


def windowed(values: NDArray[np.float64], center: float, width: float, function: str) -> NDArray[np.float64]:
    """Values through a window: 0 below it, 1 above it (PS3.3 C.11.2.1.2 and C.11.2.1.3); raises DicomError for one that is none."""
    _require_window(center, width, function)
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - center) / width, -500.0, 500.0)))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1.0
    if width == 0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0.0, 1.0)


def _require_window(center: float, width: float, function: str) -> None:
    if function not in WINDOWS:
        raise DicomError("a window with a VOILUTFunction that the standard does not have")
    least = WINDOWS[function]
    if not np.isfinite(center) or not (width >= least and width > 0):
        raise DicomError(
            f"a {function} window without a WindowCenter, or with a WindowWidth that is not {f'at least {least}' if least else 'above 0'}"
        )


def _is_padding(dataset: "Dataset", stored: NDArray[Any]) -> NDArray[np.bool_]:
    """Which values only fill the rectangle up."""
    bounds = list(_paddings(dataset))
    if not bounds:
        return np.zeros(stored.shape, dtype=np.bool_)
    return (stored >= min(bounds)) & (stored <= max(bounds))


def _paddings(dataset: "Dataset") -> Iterator[float]:
    for tag in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if (value := dataset.get(tag)) is not None:
            yield float(value)


def _range(dataset: "Dataset", stored: NDArray[Any], transformation: "Dataset") -> tuple[float, float]:
    """The darkest and the brightest value that is no padding; of all values, where every one is."""
    bounds: list[tuple[float, float]] = []
    of_padding: list[tuple[float, float]] = []
    for strip in (stored[rows] for rows in _rows(stored)):
        values, is_padding = _rescaled(transformation, strip), _is_padding(dataset, strip)
        for kept, into in ((values[~is_padding], bounds), (values[is_padding], of_padding)):
            if kept.size:
                into.append((float(kept.min()), float(kept.max())))
    low, high = np.min([low for low, _ in bounds or of_padding]), np.max([high for _, high in bounds or of_padding])
    if not np.isfinite(high - low):
        raise DicomError("gray values that are infinite or no numbers")
    return float(low), float(high)


def _stretched(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """From the darkest to the brightest value that counts; black where nothing can be told apart."""
    return np.zeros_like(values) if high <= low else np.clip((values - low) / (high - low), 0.0, 1.0)
