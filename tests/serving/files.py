"""Files that a client may send, made in memory: PDFs and TIFFs of some pages, and DICOM files that are not what they say."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from medvl_lib.sample_data.custom_reports import dicom


def page(colour: tuple[int, int, int], size: tuple[int, int] = (200, 280)) -> Image.Image:
    """A picture of one colour."""
    return Image.new("RGB", size, colour)


def pdf(pages: Sequence[Image.Image]) -> bytes:
    """A PDF with a picture on each page."""
    out = io.BytesIO()
    first, *others = [one.copy() for one in pages]
    first.save(out, "PDF", save_all=True, append_images=others, resolution=72)
    return out.getvalue()


def tiff(pages: Sequence[Image.Image], **more: object) -> bytes:
    """A TIFF of these pages."""
    out = io.BytesIO()
    first, *others = [one.copy() for one in pages]
    first.save(out, "TIFF", save_all=True, append_images=others, **more)
    return out.getvalue()


def tiff_and_im(size: tuple[int, int], other: tuple[int, int]) -> bytes:
    """A picture that is a whole TIFF of one size and a whole IM file of another one."""
    out, (width, height) = io.BytesIO(), other
    page((9, 9, 9), size).convert("L").save(out, "TIFF")
    whole = bytearray(out.getvalue())
    (start,) = struct.unpack_from("<I", whole, 4)
    (num_entries,) = struct.unpack_from("<H", whole, start)
    entries = [list(struct.unpack_from("<HHII", whole, start + 2 + 12 * number)) for number in range(num_entries)]
    head = f": x\r\nImage type: Greyscale image\r\nImage size (x*y): {width}*{height}\r\nFile size (no of images): 1\r\n".encode()
    pixels_at = 512
    strip = bytes(size[0] * size[1])
    moved = pixels_at + width * height
    kept = [(tag, kind, count, value) for tag, kind, count, value in entries if count == 1 and kind in (3, 4)]
    kept = [(tag, kind, count, pixels_at if tag == 273 else value) for tag, kind, count, value in kept]
    directory = struct.pack("<H", len(kept)) + b"".join(struct.pack("<HHII", *entry) for entry in kept) + bytes(4)
    front = b"II*\0" + struct.pack("<I", moved) + head
    return front.ljust(pixels_at - 1, b"\0") + b"\x1a" + strip.ljust(width * height, b"\0") + directory


def objects(*bodies: bytes, trailer: bytes = b"") -> bytes:
    """A PDF of these objects, numbered from 1; the first is the catalogue."""
    out, places = bytearray(b"%PDF-1.7\n"), []
    for number, body in enumerate(bodies, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(bodies) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (len(bodies) + 1, trailer, start)
    return bytes(out)


def stream(data: bytes, entries: bytes = b"") -> bytes:
    """A stream object."""
    return b"<< /Length %d %s >>\nstream\n" % (len(data), entries) + data + b"\nendstream"


def pdf_of_text(text: str, size: tuple[int, int], *, user_password: str | None = None) -> bytes:
    """A PDF of one page with a line of print, perhaps one that asks for a password."""
    content = stream(f"BT /F 24 Tf 72 100 Td ({text}) Tj ET".encode())
    trailer = b""
    bodies = [
        b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d] /Contents 4 0 R /Resources << /Font << /F 5 0 R >> >> >>" % size,
        content, b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]  # fmt: skip
    if user_password is not None:  # keys of a password that nobody here knows
        bodies.append(b"<< /Filter /Standard /V 1 /R 2 /P -4 /O <" + b"11" * 32 + b"> /U <" + b"22" * 32 + b"> >>")
        trailer = b"/Encrypt 6 0 R /ID [<00112233445566778899aabbccddeeff> <00112233445566778899aabbccddeeff>]"
    return objects(*bodies, trailer=trailer)


def form_pdf(value: str) -> bytes:
    """A PDF with one form field, filled in."""
    return objects(
        b"<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [4 0 R] /NeedAppearances true /DR << /Font << /Helv 5 0 R >> >>"
        b" /DA (/Helv 24 Tf 0 g) >> >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 400 200] /Annots [4 0 R] /Resources << >> >>",
        b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (medicine) /Rect [20 80 380 120] /DA (/Helv 24 Tf 0 g) /F 4 /P 3 0 R"
        b" /V (%s) >>" % value.encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )  # fmt: skip


SYNTAX = b"1.2.840.10008.1.2.1\0"  # explicit, little-endian
DEFLATED = b"1.2.840.10008.1.2.1.99"


def deflated_dicom(num_bytes: int) -> bytes:
    """A DICOM file whose data set is deflated, and so many zero bytes once it is inflated."""
    film = dicom(np.zeros((8, 8), np.uint8), "1.2.3")
    start = film.index(SYNTAX)
    head = bytearray(film[:start] + DEFLATED + film[start + len(SYNTAX) :])
    head[start - 2 : start] = struct.pack("<H", len(DEFLATED))
    (length,) = struct.unpack_from("<I", head, 140)  # of the group of the syntax
    head[140:144] = struct.pack("<I", length + len(DEFLATED) - len(SYNTAX))
    end = 144 + length + len(DEFLATED) - len(SYNTAX)
    element = b"\x09\0\x10\x10OB\0\0" + struct.pack("<I", num_bytes)
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return bytes(head[:end]) + packer.compress(element + bytes(num_bytes)) + packer.flush()


def compressed_dicom(size: tuple[int, int], said: tuple[int, int], kind: str = "JPEG") -> bytes:
    """A DICOM file with a codestream of one size that says another one."""
    coded, out = io.BytesIO(), io.BytesIO()
    Image.new("L", size, 200).save(coded, kind)
    film = pydicom.dcmread(io.BytesIO(dicom(None, "1.2.3", BitsAllocated=8, BitsStored=8, HighBit=7)))
    film.Columns, film.Rows = said
    film.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if kind == "JPEG" else JPEG2000Lossless
    film.add_new("PixelData", "OB", encapsulate([coded.getvalue()]))
    film["PixelData"].is_undefined_length = True
    film.save_as(out, enforce_file_format=True)
    return out.getvalue()


def run_length_dicom(size: tuple[int, int], segments: Sequence[bytes], **tags: int) -> bytes:
    """A DICOM file that says this size, with these run-length encoded segments in its one frame."""
    out, starts = io.BytesIO(), [64 + sum(map(len, segments[:number])) for number in range(len(segments))]
    head = struct.pack("<I", len(segments)) + b"".join(struct.pack("<I", start) for start in starts)
    film = pydicom.dcmread(io.BytesIO(dicom(None, "1.2.3", BitsAllocated=8, BitsStored=8, HighBit=7)))
    film.Columns, film.Rows = size
    for name, value in tags.items():
        setattr(film, name, value)
    film.file_meta.TransferSyntaxUID = RLELossless
    film.add_new("PixelData", "OB", encapsulate([head.ljust(64, b"\0") + b"".join(segments)]))
    film["PixelData"].is_undefined_length = True
    film.save_as(out, enforce_file_format=True)
    return out.getvalue()


def runs(num_bytes: int, value: int = 200) -> bytes:
    """A run-length encoded segment of one value, two bytes for each 128."""
    whole, rest = divmod(num_bytes, 128)
    last = b"" if not rest else bytes([257 - rest, value]) if rest > 1 else bytes([0, value])
    return bytes([129, value]) * whole + last


def flooded_dicom(num_elements: int, *, is_nested: bool = False) -> bytes:
    """A DICOM file with this many empty elements before its pixel data, perhaps in a sequence."""
    film = dicom(np.zeros((60, 60), np.uint8), "1.2.3")
    place = film.index(b"\x28\0\x02\0US")  # samples per pixel
    elements = b"".join(struct.pack("<HH2sH", 0x0009 + 2 * (n >> 15), 0x1000 + (n & 0x7FFF), b"LO", 0) for n in range(num_elements))
    if is_nested:
        item = b"\xfe\xff\0\xe0" + struct.pack("<I", len(elements)) + elements
        elements = b"\x09\0\x10\x10SQ\0\0" + struct.pack("<I", len(item)) + item
    return film[:place] + elements + film[place:]
