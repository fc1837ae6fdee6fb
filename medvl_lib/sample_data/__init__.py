"""Small invented datasets in the raw layout of each real one: the default input, and the fixtures of the tests.

In: a dataset's name, a folder, counts and a seed. Out: the folder, written whole or not at all, with a README.md that begins with
``raw_folder.INVENTED`` and ends with a seal of the files; the same counts and seed give the same bytes. Nothing here reads or imitates a
real record. Some rows are broken on purpose, as each generator's docstring lists.
"""

import difflib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from medvl_lib.datasets import raw_folder
from medvl_lib.errors import MedVLError, WriteFailed
from medvl_lib.files import sync_directory, sync_tree
from medvl_lib.sample_data import (
    clinical_documents,
    custom_reports,
    knee_xray,
    mimic_cxr,
    mtsamples,
    pad_ufes_20,
    pathvqa,
    pubmedvision,
    roco,
    slake,
)

SEED = 1  # of the demo's data; the seed is part of every document's id


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """How one dataset's raw folder is invented."""

    write_raw: Callable[[Path, Mapping[str, int], int], int]
    """Fills an empty folder from counts and seed; returns the number of records."""
    counts: Mapping[str, int]
    """What can be counted, and how many there are by default."""


GENERATORS: dict[str, Generator] = {
    "clinical_documents": Generator(write_raw=clinical_documents.write_raw, counts=clinical_documents.COUNTS),
    "mtsamples": Generator(write_raw=mtsamples.write_raw, counts=mtsamples.COUNTS),
    "pathvqa": Generator(write_raw=pathvqa.write_raw, counts=pathvqa.COUNTS),
    "pubmedvision": Generator(write_raw=pubmedvision.write_raw, counts=pubmedvision.COUNTS),
    "knee_xray": Generator(write_raw=knee_xray.write_raw, counts=knee_xray.COUNTS),
    "pad_ufes_20": Generator(write_raw=pad_ufes_20.write_raw, counts=pad_ufes_20.COUNTS),
    "slake": Generator(write_raw=slake.write_raw, counts=slake.COUNTS),
    "custom_reports": Generator(write_raw=custom_reports.write_raw, counts=custom_reports.COUNTS),
    "roco": Generator(write_raw=roco.write_raw, counts=roco.COUNTS),
    "mimic_cxr": Generator(write_raw=mimic_cxr.write_raw, counts=mimic_cxr.COUNTS),
}


class Written(NamedTuple):
    """What ``write`` did."""

    root: Path
    is_new: bool
    """False where the folder held files already and was left alone."""
    num_records: int
    """Records written, broken ones included; 0 where the folder was left alone."""


def _require_known(word: str, known: Mapping[str, object], where: str) -> None:
    if word not in known:
        nearest = difflib.get_close_matches(word, known, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise MedVLError(found=repr(word), where=where, do=f"use one of {', '.join(known)}{hint}")


def _counts(name: str, wanted: Mapping[str, int]) -> dict[str, int]:
    known = GENERATORS[name].counts
    for part, count in wanted.items():
        _require_known(part, known, f"the counts of the invented {name}")
        if count < 0:
            raise MedVLError(found=f"{part} = {count}", where=f"the counts of the invented {name}", do="ask for 0 or more records")
    return {**known, **wanted}


def write(name: str, root: Path, *, seed: int = SEED, counts: Mapping[str, int] | None = None) -> Written:
    """Write the invented raw folder of a dataset; one that holds anything already is left alone, whatever it holds.

    ``counts`` overrides the default numbers (``GENERATORS[name].counts``): documents per type and part, or rows per layout; 0 leaves a
    part out. Raises WriteFailed when the disk refuses; nothing half-written is kept.
    """
    _require_known(name, GENERATORS, "the datasets that can be invented")
    chosen = _counts(name, counts or {})
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        return Written(root, is_new=False, num_records=0)
    temporary = root.with_name(f".{root.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        num_records = GENERATORS[name].write_raw(temporary, chosen, seed)
        raw_folder.seal(temporary)
        sync_tree(temporary)
        temporary.rename(root)  # fails, and loses nothing, where somebody filled the folder meanwhile
    except OSError as error:
        raise WriteFailed(
            found=f"{error.strerror or error} (errno {error.errno})", where=str(error.filename or root),
            do=f"free space or choose another folder, then write the invented {name} again; nothing half-written was kept",
        ) from error  # fmt: skip
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_directory(root.parent)
    return Written(root, is_new=True, num_records=num_records)
