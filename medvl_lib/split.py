"""The split: which pairs are trained on and which are held out, as a function of the group alone.

In: the validated pairs of a line's datasets. Out: ``split.parquet`` with one row per pair, and ``counts.json``. A group is the patient,
or the document where no patient is known; its place is ``sha256("<seed>:<group_id>")``, so adding or removing data never moves anyone,
and a changed share moves only the groups at the borders. A split that the publisher gave is kept, as far as the spec says so. What is
found to leak is written all the same and named by the rules: nothing here repairs a leak in silence.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

from medvl_lib.errors import MedVLError
from medvl_lib.files import read_json, write_json
from medvl_lib.pairs import PAIRS, SPLITS, Pair, Split
from medvl_lib.provenance import Fact, Outcome, Rule
from medvl_lib.rules import columns_are_as_declared, no_rows, rule, stream
from medvl_lib.tables import Column, num_rows, read_table, write_table

REVISION = 1  # first version
SPLIT = "split.parquet"
COUNTS = "counts.json"
HASH_DIGITS = 13  # 52 bits: the most hexadecimal digits that a float holds exactly, so that the place stays below 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSpec:
    """How groups without a publisher's split are shared out. Every field bears identity."""

    seed: int
    validation_share: float
    """Share of groups (0-1) that training looks at but does not learn from."""
    test_share: float
    """Share of groups (0-1) that only evaluation sees."""
    kept_publisher_splits: tuple[Split, ...] = SPLITS
    """Publishers' splits that are kept; a group that a publisher put into another one is shared out like those without."""

    def __post_init__(self) -> None:
        """Refuse shares that leave nothing to train on or to test with, and a publisher's test set that would be trained on."""
        if not {"test", "benchmark"} <= set(self.kept_publisher_splits):
            kept = list(self.kept_publisher_splits)
            raise ValueError(f"kept_publisher_splits = {kept!r} must name test and benchmark: what a publisher held out is not trained on")
        if not (self.test_share > 0 and self.validation_share >= 0 and self.test_share + self.validation_share < 1):
            shares = f"test_share = {self.test_share!r}, validation_share = {self.validation_share!r}"
            raise ValueError(f"{shares}: the first must be above 0, the second 0 or more, and their sum below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRow:
    """Where one pair went."""

    pair_id: Annotated[str, Column("the pair")]
    dataset: Annotated[str, Column("name of the dataset")]
    group_id: Annotated[str, Column("patient or document: what must never be in two splits")]
    image_ids: Annotated[tuple[str, ...], Column("SHA-256 of each picture, in order")]
    split: Annotated[Split, Column("where the pair went")]


def split_of(group_id: str, spec: SplitSpec) -> Split:
    """The split of a group, whatever other groups there are: test, then validation, then train along [0, 1)."""
    digest = hashlib.sha256(f"{spec.seed}:{group_id}".encode()).hexdigest()
    place = int(digest[:HASH_DIGITS], 16) / 16**HASH_DIGITS
    if place < spec.test_share:
        return "test"
    return "validation" if place < spec.test_share + spec.validation_share else "train"


def read_validated(validated: Mapping[str, Path]) -> Iterator[Pair]:
    """The pairs of several datasets, by the datasets' names and then in their own order: the order of every table downstream."""
    for name in sorted(validated):
        yield from read_table(validated[name] / PAIRS, Pair)


def placed(directory: Path, validated: Mapping[str, Path]) -> Iterator[tuple[Pair, SplitRow]]:
    """Pairs beside their rows in the split, which has the same order: nothing is looked up, so memory stays flat."""
    for pair, row in zip_longest(read_validated(validated), read_table(directory / SPLIT, SplitRow)):
        if pair is None or row is None or pair.pair_id != row.pair_id:
            found = f"pair {getattr(pair, 'pair_id', None)} beside split row {getattr(row, 'pair_id', None)}"
            do = "materialize the split again: it was made from other validated pairs"
            raise MedVLError(found=found, where=str(directory / SPLIT), do=do)
        yield pair, row


def write_split(directory: Path, validated: Mapping[str, Path], spec: SplitSpec) -> dict[str, Fact]:
    """Write a row per pair; returns the pairs and groups of each split."""
    write_json(directory / COUNTS, {"num_pairs": {name: num_rows(path / PAIRS) for name, path in sorted(validated.items())}})
    num_pairs = write_table(directory / SPLIT, SplitRow, (_row(pair, spec) for pair in read_validated(validated)))
    facts: dict[str, Fact] = {"num_pairs": num_pairs}
    question = "select split, count(*), count(distinct (dataset, group_id)) from read_parquet($split) group by split"
    found = {str(split): (int(pairs), int(groups)) for split, pairs, groups in stream(question, split=directory / SPLIT)}
    for split in SPLITS:
        facts[f"num_pairs_{split}"], facts[f"num_groups_{split}"] = found.get(split, (0, 0))
    return facts


def _row(pair: Pair, spec: SplitSpec) -> SplitRow:
    given = pair.publisher_split
    split = given if given is not None and given in spec.kept_publisher_splits else split_of(pair.group_id, spec)
    return SplitRow(pair_id=pair.pair_id, dataset=pair.dataset, group_id=pair.group_id, image_ids=pair.image_ids, split=split)


def num_pairs_by_dataset(directory: Path) -> dict[tuple[str, Split], int]:
    """How many pairs of each dataset went into each split."""
    question = "select dataset, split, count(*) from read_parquet($split) group by all order by all"
    return {(str(dataset), split): int(count) for dataset, split, count in stream(question, split=directory / SPLIT)}


def every_pair_has_a_split(directory: Path) -> Outcome:
    """Each dataset has as many rows as it has validated pairs, no pair twice, each in a split that exists."""
    expected = {name: int(count) for name, count in read_json(directory / COUNTS)["num_pairs"].items() if count}
    question = """select dataset, count(distinct pair_id) from read_parquet($split)
        where split in ('train', 'validation', 'test', 'benchmark') group by dataset"""
    placed = {str(name): int(count) for name, count in stream(question, split=directory / SPLIT)}
    wrong = sorted(name for name in expected | placed if expected.get(name) != placed.get(name))
    return Outcome(passed=not wrong, found=f"{sum(placed.values())} of {sum(expected.values())} pairs have a split", offenders=tuple(wrong))


def no_group_in_two_splits(directory: Path) -> Outcome:
    """No patient, and no document, of one dataset is in two splits."""
    question = """select dataset || ': ' || group_id from read_parquet($split)
        group by dataset, group_id having count(distinct split) > 1 order by 1"""
    return no_rows("patients or documents are in two splits", question, split=directory / SPLIT)


def no_image_in_two_splits(directory: Path) -> Outcome:
    """No picture is in two splits, whichever datasets it came with."""
    question = """select image_id from (select unnest(image_ids) as image_id, split from read_parquet($split))
        group by image_id having count(distinct split) > 1 order by 1"""
    return no_rows("pictures are in two splits", question, split=directory / SPLIT)


def no_image_of_two_groups(directory: Path) -> Outcome:
    """No picture stands under two patients of a split: one of them is not whose picture it is, or both are one and count as two."""
    question = """select distinct image_id from (select unnest(image_ids) as image_id, dataset, group_id, split from read_parquet($split))
        group by image_id, split having count(distinct (dataset, group_id)) > 1 order by 1"""
    return no_rows("pictures stand under two patients or documents", question, split=directory / SPLIT)


def _has(directory: Path, split: Split) -> Outcome:
    counts = dict(stream("select split, count(*) from read_parquet($split) group by split", split=directory / SPLIT))
    count = int(counts.get(split, 0))
    return Outcome(passed=count > 0, found=f"{count} pairs in {split}")


def train_is_not_empty(directory: Path) -> Outcome:
    """There is something to learn from."""
    return _has(directory, "train")


def test_is_not_empty(directory: Path) -> Outcome:
    """There is something to be judged by."""
    return _has(directory, "test")


RULES = (
    columns_are_as_declared({SPLIT: SplitRow}),
    rule(every_pair_has_a_split, "Every validated pair is in exactly one split."),
    rule(no_group_in_two_splits, "No patient, and no document where no patient is known, is in two splits."),
    rule(no_image_in_two_splits, "No picture is in two splits."),
    Rule(
        name="no_image_of_two_groups",
        sentence="No picture stands under two patients or documents of a split.",
        holds=no_image_of_two_groups,
        is_blocking=False,
    ),
    rule(train_is_not_empty, "There is at least one pair to train on."),
    rule(test_is_not_empty, "There is at least one pair to test with."),
)
