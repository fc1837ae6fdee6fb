"""Tables as ``.csv.gz`` whose bytes are the same every time: no name and no time stands in them.

In: columns and rows. Out: a file.
"""

import csv
import gzip
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]], *, ending: str = "") -> None:
    """Write rows below a header, then ``ending`` as it is; a cell that a row does not have is empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(gzip.compress((buffer.getvalue() + ending).encode("utf-8"), mtime=0))
