"""The process that draws a PDF: pages on its standard output, or why there are none. Of this project it imports nothing.

In: a PDF on standard input, and how many pages it may have. Out: lengths (four bytes) and contents, one behind the other: first a JSON
object with ``kind``, then a PNG for each page. It bounds itself before it looks at the file: memory, processor time, no file to write.
"""

import io
import json
import math
import resource
import struct
import sys
from typing import Any

KINDS = ("drawn", "unreadable", "locked", "empty", "too_many_pages", "odd_page", "too_large")
DOTS_PER_INCH = 200  # small print of a form is 20 pixels high there
MAX_PAGE_PIXELS = 4_000_000  # A4 at 200 dpi has 3.9 million
MAX_DRAWN_BYTES = 64 << 20  # as much as may be uploaded
MAX_PROCESS_BYTES = 112 << 20  # of its own data: Python, Pillow and PDFium take 30 MiB, the bitmap of a page 16
MAX_PROCESSOR_SECONDS = 8
POINTS_PER_INCH = 72


def bound() -> None:
    """No more memory, time or files than a page needs; what the system cannot bound (macOS: memory) is left as it is."""
    seconds = (MAX_PROCESSOR_SECONDS, MAX_PROCESSOR_SECONDS + 1)  # the first ends it by a signal that says why, the second by any means
    limits = (
        (resource.RLIMIT_DATA, (MAX_PROCESS_BYTES, MAX_PROCESS_BYTES)), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_FSIZE, (0, 0))
    )  # fmt: skip
    for name, most in limits:
        try:
            resource.setrlimit(name, most)
        except (ValueError, OSError):
            continue


def drawn(data: bytes, most_pages: int) -> tuple[dict[str, Any], list[bytes]]:
    """What became of a file, and a PNG of each page."""
    import pypdfium2
    from pypdfium2.raw import FPDF_ERR_PASSWORD

    try:
        document: Any = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        return {"kind": "locked" if getattr(error, "err_code", None) == FPDF_ERR_PASSWORD else "unreadable"}, []
    num_pages = len(document)
    if not 0 < num_pages <= most_pages:
        return {"kind": "too_many_pages" if num_pages else "empty", "num_pages": num_pages}, []
    document.init_forms()  # or what was filled in would be left out
    pages: list[bytes] = []
    for index in range(num_pages):
        width, height = document[index].get_size()
        if not _is_sound(width, height):
            return {"kind": "odd_page", "page": index + 1}, []
        scale = min(DOTS_PER_INCH / POINTS_PER_INCH, math.sqrt(MAX_PAGE_PIXELS / (width * height)))
        out = io.BytesIO()
        document[index].render(scale=scale).to_pil().convert("RGB").save(out, "PNG", compress_level=1)
        pages.append(out.getvalue())
        if sum(map(len, pages)) > MAX_DRAWN_BYTES:
            return {"kind": "too_large", "page": index + 1}, []
    return {"kind": "drawn", "num_pages": num_pages}, pages


def _is_sound(width: float, height: float) -> bool:
    """Whether a page has sides that can be drawn: finite, and none a line beside the other."""
    sides = (width, height)
    return all(math.isfinite(side) and side > 1 for side in sides) and max(sides) <= 100 * min(sides)


def main() -> None:
    """Draw, and write."""
    bound()
    try:
        said, pages = drawn(sys.stdin.buffer.read(), int(sys.argv[1]))
    except MemoryError:  # of a page's bitmap, or of the pages drawn so far
        said, pages = {"kind": "too_large"}, []
    except (OSError, ValueError, RuntimeError) as error:  # the kind alone: its words may quote the file
        said, pages = {"kind": "unreadable", "error": type(error).__name__}, []
    for part in (json.dumps(said).encode(), *pages):
        sys.stdout.buffer.write(struct.pack(">I", len(part)) + part)


if __name__ == "__main__":
    main()
