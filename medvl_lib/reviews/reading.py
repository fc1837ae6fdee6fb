"""Ratings that come back, into the store's directories: what ``medvl reviews read`` and the page both do.

In: filled-in sheets, or one rating of a page. Out: a directory of all ratings of a sheet, written and judged like any step's. Earlier
ratings are kept. How a row is read stands in ``filled``, what is written of it in ``written``.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from medvl_lib.files import read_json
from medvl_lib.provenance import Artifact, Rule, code_version, judge, read_artifact, require_intact, require_verdicts, write_step
from medvl_lib.reviews import sheet, written
from medvl_lib.reviews.filled import Filled, Rating, SheetRefused, one_for_each, quoted, read_filled, require_as_given
from medvl_lib.reviews.sheet import ITEM, SHEET
from medvl_lib.reviews.tables import HARM, ITEMS, REVIEWS, SCALE, Item, Review
from medvl_lib.reviews.written import unblinded, write_reviews
from medvl_lib.tables import read_column, read_table
from medvl_lib.workspace import Workspace


class Read(NamedTuple):
    """What came of the filled-in sheets that belong to one sheet."""

    sheet: Artifact
    reviews: Artifact
    files: tuple[Filled, ...]


def read_reviews(workspace: Workspace, paths: Sequence[Path], *, is_replacing: bool) -> list[Read]:
    """Read filled-in sheets, all of them or none; returns what came of each sheet that they belong to.

    Earlier ratings of a sheet are kept. Where a rater rates an item again and otherwise, that is refused, or takes the earlier one's place.
    """
    sheets = _sheets(workspace)
    by_sheet: dict[str, list[Filled]] = {}
    for filled in [read_filled(path) for path in paths]:
        sheet_id = _sheet_of(filled, sheets)
        require_as_given(filled, next(made.directory for made in sheets.values() if made.fingerprint == sheet_id) / SHEET)
        by_sheet.setdefault(sheet_id, []).append(filled)
    with ExitStack() as held:
        for sheet_id in sorted(by_sheet):
            held.enter_context(_lock(workspace, sheet_id))
        said = {sheet_id: [rating for filled in files for rating in filled.ratings] for sheet_id, files in by_sheet.items()}
        merged = {sheet_id: _merged(workspace, sheet_id, ratings, is_replacing=is_replacing) for sheet_id, ratings in said.items()}
        made = {sheet.fingerprint: sheet for sheet in sheets.values()}
        return [
            Read(sheet=made[sheet_id], reviews=_written(workspace, made[sheet_id], ratings), files=tuple(by_sheet[sheet_id]))
            for sheet_id, ratings in merged.items()
        ]


def rate(workspace: Workspace, made: Artifact, rating: Rating, *, is_replacing: bool) -> Artifact:
    """Take one rating of a sheet, as if its row had come back alone; returns all ratings of that sheet."""
    if rating.item_id not in read_column(made.directory / ITEMS, "item_id"):
        raise SheetRefused(found=f"unknown item {quoted(rating.item_id)}", where=rating.where, do="begin again with the sheet")
    with _lock(workspace, made.fingerprint):
        return _written(workspace, made, _merged(workspace, made.fingerprint, [rating], is_replacing=is_replacing))


def ratings_so_far(workspace: Workspace, sheet_id: str) -> list[Rating]:
    """What was read of a sheet before."""
    pointer = workspace.current(written.STEP, sheet_id)
    if not pointer.is_file():
        return []
    return list(_stored(read_artifact(workspace.directory(written.STEP, sheet_id, read_json(pointer)["fingerprint"]))))


def _lock(workspace: Workspace, sheet_id: str) -> FileLock:
    path = workspace.lock(f"{written.STEP}-{sheet_id}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


def passed(workspace: Workspace, artifact: Artifact, rules: Sequence[Rule]) -> Artifact:
    """The artifact, judged; raises InputRefused where a rule does not hold."""
    judge(workspace, artifact, rules)
    require_verdicts(artifact, rules)
    return artifact


def _sheets(workspace: Workspace) -> dict[str, Artifact]:
    """Item -> the sheet that it is on, of every sheet that was handed out from this data root."""
    made = [read_artifact(path) for path in workspace.written(sheet.STEP)]
    return {str(item_id): found for found in made for item_id in read_column(found.directory / ITEMS, "item_id")}


def _sheet_of(filled: Filled, sheets: Mapping[str, Artifact]) -> str:
    """The one sheet that all rows of a file belong to."""
    rows = [*((rating.where, rating.item_id) for rating in filled.ratings), *filled.empty]
    for where, item_id in rows:
        if item_id not in sheets:
            raise SheetRefused(
                found=f"unknown item {quoted(item_id)}", where=f"{where}, column {ITEM}",
                do="copy the item from the sheet that was sent out; sheets of another data root are read there",
            )  # fmt: skip
    if not filled.ratings:
        raise SheetRefused(
            found=f"no row is rated ({len(filled.empty)} are empty)", where=str(filled.path), do="name the sheet that the rater sent back"
        )
    first = sheets[filled.ratings[0].item_id]
    for where, item_id in rows:
        if sheets[item_id].fingerprint != first.fingerprint:
            raise SheetRefused(
                found=f"{quoted(item_id)} is an item of another sheet than {quoted(filled.ratings[0].item_id)}",
                where=f"{where}, column {ITEM}", do="keep one sheet a file",
            )  # fmt: skip
    return first.fingerprint


def _merged(workspace: Workspace, sheet_id: str, said: Sequence[Rating], *, is_replacing: bool) -> list[Rating]:
    """What was read of a sheet before, and what is said now."""
    earlier = ratings_so_far(workspace, sheet_id)
    if is_replacing:
        again = {(rating.rater, rating.item_id) for rating in said}
        earlier = [rating for rating in earlier if (rating.rater, rating.item_id) not in again]
    return list(one_for_each([*earlier, *said]))


def _stored(reviews: Artifact) -> Iterator[Rating]:
    """The ratings of a directory as if they had just been read."""
    require_intact(reviews)
    for review in read_table(reviews.directory / REVIEWS, Review):
        yield Rating(
            where=str(reviews.directory), item_id=review.item_id, rater=review.rater, correctness=review.correctness,
            is_harmful=review.is_harmful, comment=review.comment,
        )  # fmt: skip


def _written(workspace: Workspace, made: Artifact, ratings: Sequence[Rating]) -> Artifact:
    """The directory of a sheet's ratings; the same ratings are the same directory."""
    require_intact(made)
    key = made.directory / ITEMS
    items = {item.item_id: item for item in read_table(key, Item)}
    reviews = unblinded(
        ratings, items, evaluation_id=str(made.facts["evaluation_id"]), line=str(made.facts["line"]), sheet_id=made.fingerprint
    )
    found = write_step(
        workspace, written.STEP, made.fingerprint, code_version(written.REVISION, written.REVISIONS, SCALE, HARM, reviews), [made],
        lambda directory: write_reviews(directory, key, reviews),
    )  # fmt: skip
    return passed(workspace, found, written.RULES)
