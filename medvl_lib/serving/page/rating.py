"""The review tab: answers of a blinded sheet, one at a time, and the rating of each into the store.

In: the sheets that ``medvl reviews sheet`` made of a line, and what a rater says. Out: the next item, and ratings kept where ``medvl
reviews read`` keeps them, by the same reader. Whose answer it is is not known here: only what raters are given is read, never a sheet's
key. A rating can be changed by who gave it, under the same name.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from medvl_lib.benchmark.publish import NoCopy, publish
from medvl_lib.errors import MedVLError
from medvl_lib.provenance import Artifact, read_artifact, require_intact
from medvl_lib.reviews.filled import Rating, SheetRefused, rating_of, require_one_spelling
from medvl_lib.reviews.handed_out import Given, given
from medvl_lib.reviews.reading import rate, ratings_so_far
from medvl_lib.reviews.sheet import COMMENT, CORRECTNESS, HARMFUL, ITEM, RATER, STEP
from medvl_lib.workspace import Workspace

HERE = "the page"
MAX_RATER_CHARACTERS, MAX_COMMENT_CHARACTERS = 80, 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSheet:
    """A sheet of a line, and how far it is."""

    sheet_id: str
    num_items: int
    num_rated: int
    """Items that somebody rated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Where a rater is: a sheet, the item that is shown, and what they said of it before."""

    sheet_id: str
    rater: str
    items: tuple[Given, ...]
    rated: Mapping[str, Rating]
    """The rater's own, by item."""
    item: Given | None
    """None where all are rated and none was asked for."""

    @property
    def number(self) -> int:
        """Where the item stands, from 1."""
        return 1 + [item.item_id for item in self.items].index(self.item.item_id) if self.item else 0

    @property
    def before(self) -> Rating | None:
        """What the rater said of the item before."""
        return self.rated.get(self.item.item_id) if self.item else None


def sheets(workspace: Workspace, line: str) -> tuple[OpenSheet, ...]:
    """The sheets of a line, the newest first."""
    found = sorted(_made(workspace, line).values(), key=lambda made: made.directory.stat().st_mtime, reverse=True)
    return tuple(
        OpenSheet(
            sheet_id=made.fingerprint, num_items=int(made.facts["num_items"] or 0),
            num_rated=len({rating.item_id for rating in ratings_so_far(workspace, made.fingerprint)}),
        ) for made in found
    )  # fmt: skip


def _made(workspace: Workspace, line: str) -> dict[str, Artifact]:
    return {path.name: read_artifact(path) for path in workspace.written(STEP) if path.parent.name == line}


def _sheet(workspace: Workspace, line: str, sheet_id: str) -> Artifact:
    made = _made(workspace, line)
    if sheet_id not in made:
        raise SheetRefused(found="a sheet that is not there", where=HERE, do="begin again with the sheets of this page")
    require_intact(made[sheet_id])
    return made[sheet_id]


def seat(workspace: Workspace, line: str, sheet_id: str, rater: str, item_id: str = "") -> Seat:
    """Where a rater goes on: at the named item, or else at the first that they have not rated."""
    items, name = given(_sheet(workspace, line, sheet_id).directory), unicodedata.normalize("NFC", " ".join(rater.split()))
    if not name or len(name) > MAX_RATER_CHARACTERS:
        raise SheetRefused(found="no name" if not name else f"a name of {len(name)} characters", where=HERE, do="write the rater's name")
    so_far = ratings_so_far(workspace, sheet_id)
    require_one_spelling([*((rating.rater, rating.where) for rating in so_far), (name, HERE)])
    rated = {rating.item_id: rating for rating in so_far if rating.rater == name}
    return Seat(sheet_id=sheet_id, rater=name, items=items, rated=rated, item=_shown(items, rated, item_id))


def _shown(items: Sequence[Given], rated: Mapping[str, Rating], item_id: str) -> Given | None:
    if not item_id:
        return next((item for item in items if item.item_id not in rated), None)
    if item_id not in {item.item_id for item in items}:
        raise SheetRefused(found="an item that is not on the sheet", where=HERE, do="begin again with the sheets of this page")
    return next(item for item in items if item.item_id == item_id)


def take(workspace: Workspace, line: str, sheet_id: str, cells: Mapping[str, str], benchmark_url: str = "") -> str:
    """Read one rating as a row of a sheet is read, keep it, and publish; what this rater said of the item before gives way.

    Returns why no copy of the store arrived at ``benchmark_url``, where none did: the rating is kept and published here.
    """
    said = {name: cells[name].strip() for name in (ITEM, RATER, CORRECTNESS, HARMFUL, COMMENT)}
    if not any(said[name] for name in (CORRECTNESS, HARMFUL, COMMENT)):
        raise SheetRefused(found="nothing was rated", where=HERE, do="choose a number, or say whether it is harmful")
    if len(said[COMMENT]) > MAX_COMMENT_CHARACTERS:
        raise SheetRefused(found=f"a comment of {len(said[COMMENT])} characters", where=HERE, do=f"write at most {MAX_COMMENT_CHARACTERS}")
    rate(workspace, _sheet(workspace, line, sheet_id), rating_of(HERE, said), is_replacing=True)
    try:
        publish(workspace, benchmark_url)
    except NoCopy as error:
        return error.found
    except MedVLError as error:
        found = f"the rating is kept, and the store could not be published ({error.found})"
        raise MedVLError(found=found, where=HERE, do=error.do) from error
    return ""
