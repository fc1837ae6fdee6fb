"""If these passed wrongly, a model would be praised for what it had learned by heart: the answers of the very subjects it is tested on."""

from pathlib import Path

import pytest

from medvl_lib.benchmark.leaks import Training, learned_subjects
from medvl_lib.split import SPLIT, SplitRow
from medvl_lib.tables import write_table


def row(pair_id: str, group: str, split: str, *images: str, dataset: str = "forms") -> SplitRow:
    return SplitRow(pair_id=pair_id, dataset=dataset, group_id=group, image_ids=images or (f"picture of {pair_id}",), split=split)


TODAY = [row("p1", "ann", "test"), row("p2", "ben", "test"), row("p3", "cleo", "test"), row("p4", "dan", "train")]


def learned(
    folder: Path, then: list[SplitRow], *, judged: tuple[str, ...] = ("p1", "p2", "p3"), datasets: tuple[str, ...] = ()
) -> list[str]:
    for name, rows in (("now", TODAY), ("then", then)):
        (folder / name).mkdir()
        write_table(folder / name / SPLIT, SplitRow, rows)
    return learned_subjects(folder / "now" / SPLIT, judged, Training(split=folder / "then" / SPLIT, datasets=datasets))


@pytest.mark.parametrize(
    ("then", "found"),
    [
        (TODAY, []),  # the same split
        ([row("p1", "ann", "train"), row("p2", "ben", "validation"), row("p3", "cleo", "test")], ["forms: ann", "forms: ben"]),
        ([row("p9", "ann", "train")], ["forms: ann"]),  # another pair of the same patient
        ([row("p9", "ann", "train", dataset="pathvqa")], []),  # a patient of another dataset who is called the same
        ([row("p9", "zoe", "train", "x", "picture of p3", dataset="pathvqa")], ["forms: cleo"]),  # the very picture, wherever it came from
        ([row("p1", "ann", "benchmark"), row("p9", "eve", "train")], []),
        ([], []),
    ],
)
def test_whoever_was_trained_on_under_another_split_is_named(tmp_path: Path, then: list[SplitRow], found: list[str]):
    assert learned(tmp_path, then) == found


def test_only_pairs_that_are_judged_matter(tmp_path: Path):
    assert learned(tmp_path, [row("p1", "ann", "train"), row("p2", "ben", "train")], judged=("p2", "p3")) == ["forms: ben"]


@pytest.mark.parametrize(("datasets", "found"), [((), 1), (("forms",), 1), (("pathvqa",), 0), (("pathvqa", "forms"), 1)])
def test_only_datasets_that_were_learned_from_matter(tmp_path: Path, datasets: tuple[str, ...], found: int):
    assert len(learned(tmp_path, [row("p1", "ann", "train")], datasets=datasets)) == found
