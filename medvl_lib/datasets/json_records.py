"""The records of a JSON list, one at a time, however long the list is.

In: a file that is one JSON list. Out: its members, and what a strict model says first of one that it refuses. What a record means is the
dataset's business.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ijson
from pydantic import ValidationError

from medvl_lib.datasets.delimited import Damage
from medvl_lib.errors import InputRefused


def records(path: Path) -> Iterator[Any]:
    """The members of the list, one at a time; raises InputRefused where it breaks off or is no list of objects."""
    num_read = 0
    try:
        with path.open("rb") as stream:
            for record in ijson.items(stream, "item"):
                yield record
                num_read += 1
    except ijson.JSONError as error:
        raise InputRefused(
            found=f"JSON that breaks off behind {num_read} records: {str(error).splitlines()[0]}", where=str(path),
            do="download the file again; its records are one list, so what follows cannot be read",
        ) from error  # fmt: skip
    if not num_read:
        raise InputRefused(found="no list of records", where=str(path), do="use the publisher's own file: it begins with [")


def first_damage(error: ValidationError) -> Damage:
    """The first field that a record lacks or has in another type, without what stands in it."""
    first = error.errors(include_input=False, include_context=False, include_url=False)[0]
    field = ".".join(map(str, first["loc"])) or "the record"
    return Damage("field_missing" if first["type"] == "missing" else "field_malformed", f"{field}: {first['type']}")
