"""Whether raw files have come. If these passed wrongly, half an upload would be read, one that is complete never, or the same one every
minute.
"""

import os
import random
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import pytest

from medvl_lib import arrivals
from medvl_lib.arrivals import Memory, Sight, difference, kept, look, next_answer, remembered, single_answer
from medvl_lib.configured import dataset_runs
from medvl_lib.provenance import judge
from medvl_lib.route.data import dataset_steps
from medvl_lib.sample_data import write
from medvl_lib.settings import read_settings
from medvl_lib.step import run_step
from medvl_lib.workspace import Workspace

A, B, NOTHING = (Sight(num_files=count, num_bytes=5, digest=digest, newest_ns=0) for count, digest in ((1, "a"), (2, "b"), (0, "0")))


def _ticks(*sights: Sight, says: str | None = "new files") -> list[bool]:
    """At which looks something is to be done."""
    memory, found = Memory(), []
    for sight in sights:
        memory, is_new, reason = next_answer(memory, sight, lambda: says)
        assert reason
        memory = remembered(kept(memory))  # as a cursor keeps it, whoever was restarted in between
        found.append(is_new)
    return found


def test_two_equal_looks_mean_that_an_upload_is_complete_and_it_is_said_once():
    assert _ticks(A, A, A, A) == [False, True, False, False]


def test_an_upload_that_goes_on_is_waited_for():
    assert _ticks(A, B, A, B, B, B) == [False, False, False, False, True, False]


def test_an_empty_folder_starts_nothing_and_forgets_nothing():
    assert _ticks(NOTHING, NOTHING, A, A, NOTHING, NOTHING, A) == [False, False, False, True, False, False, False]


def test_earlier_data_that_come_back_are_an_observation_of_their_own():
    memory, numbers = Memory(), []
    for sight in (A, A, B, B, A, A):
        memory, is_new, _ = next_answer(memory, sight, lambda: "other files")
        numbers += [memory.observation] if is_new else []
    assert numbers == [1, 2, 3]


def test_the_same_contents_written_again_are_settled_without_being_counted():
    memory = Memory(seen="a", settled="b", observation=4)
    memory, is_new, reason = next_answer(memory, A, lambda: None)
    assert (is_new, memory.observation, memory.settled) == (False, 4, "a")
    assert reason.startswith("the same contents as are in use")


def test_contents_are_compared_only_when_two_looks_agree_on_something_new():
    def never() -> str:
        raise AssertionError("nothing was to be hashed")

    for memory, sight in ((Memory(), A), (Memory(seen="b"), A), (Memory(seen="a", settled="a"), A), (Memory(seen="0"), NOTHING)):
        assert not next_answer(memory, sight, never).is_new


def test_who_looks_once_does_not_take_half_an_upload():
    young = Sight(num_files=1, num_bytes=5, digest="a", newest_ns=100 * 10**9)
    assert "an upload may be going on" in single_answer(young, lambda: "new", now_ns=130 * 10**9).reason
    assert single_answer(young, lambda: "new", now_ns=161 * 10**9).is_new
    assert single_answer(young, lambda: None, now_ns=161 * 10**9).reason.startswith("nothing changed")


# -- a look ------------------------------------------------------------------------------------------------------------
def _tree(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
        os.utime(root / name, ns=(0, 10**18))
    return root


def test_a_look_does_not_depend_on_the_order_in_which_files_are_listed(tmp_path: Path):
    names = [f"{folder}/{number}.txt" for folder in "abc" for number in range(20)]
    shuffled = random.Random(1).sample(names, len(names))
    assert look(_tree(tmp_path / "one", names)) == look(_tree(tmp_path / "other", shuffled))


def _moved_away(root: Path) -> None:
    (root / "a/x.txt").rename(root / "b/x.txt")


def _touched(root: Path) -> None:
    os.utime(root / "a/x.txt", ns=(0, 10**18 + 1))


def _longer(root: Path) -> None:
    (root / "a/x.txt").write_text("a/x.txt and more")
    os.utime(root / "a/x.txt", ns=(0, 10**18))


def _swapped(root: Path) -> None:
    (root / "a/x.txt").rename(root / "t")
    (root / "a/y.txts").rename(root / "a/x.txt")
    (root / "t").rename(root / "a/y.txts")


@pytest.mark.parametrize("change", [_moved_away, _touched, _longer, _swapped, lambda root: (root / "b/z.txt").unlink()])
def test_a_look_sees_every_change(tmp_path: Path, change):
    root = _tree(tmp_path, ["a/x.txt", "a/y.txts", "b/z.txt"])
    before = look(root)
    change(root)
    assert look(root).digest != before.digest


def test_a_folder_that_is_not_there_or_behind_a_link_has_no_files(tmp_path: Path):
    assert look(tmp_path / "none").num_files == 0
    _tree(tmp_path / "real", ["x.txt"])
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "root" / "gone").symlink_to(tmp_path / "nowhere")
    assert look(tmp_path / "root").num_files == 0


def test_a_look_at_many_files_takes_no_more_memory_than_at_few(tmp_path: Path):
    peaks = []
    for count in (50, 5000):
        root = _tree(tmp_path / str(count), [f"{number % 10}/{number}.txt" for number in range(count)])
        look(root)
        tracemalloc.start()
        found = look(root)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found.num_files == count
        assert len(kept(Memory(seen=found.digest, settled=found.digest))) < 250
    assert peaks[1] < 2 * peaks[0] + 16_384


# -- what is in use ----------------------------------------------------------------------------------------------------
@dataclass
class Lab:
    workspace: Workspace
    folder: Path
    steps: dict

    def bring(self, *names: str) -> bool:
        """The steps write and are judged, one after the other; whether all of them passed."""
        for name in names or self.steps:
            step = self.steps[name]
            verdicts = judge(self.workspace, run_step(self.workspace, step), step.rules)
            if not all(verdict.outcome.passed for verdict in verdicts if verdict.is_blocking):
                return False
        return True

    @property
    def difference(self) -> str | None:
        return difference(self.workspace, "clinical_documents", self.folder)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    (tmp_path / "dagster_project.toml").write_text(
        'data_root = "data"\nscale = "tiny"\nprofile = "cpu"\n[datasets.clinical_documents]\n', encoding="utf-8"
    )
    [run] = dataset_runs(read_settings(tmp_path / "dagster_project.toml"))
    write("clinical_documents", run.raw_folder, counts={"train": 4, "validation": 1, "test": 1, "benchmark": 0})
    return Lab(Workspace(root=tmp_path / "data"), run.raw_folder, {step.name: step for step in dataset_steps(run)})


def _pages(lab: Lab) -> list[Path]:
    return sorted((lab.folder / "train" / "images").glob("*.png"))


def test_files_that_are_in_use_are_not_new_and_others_are(lab: Lab):
    assert lab.difference == "these files are not in use yet"
    assert lab.bring()
    assert lab.difference is None
    (lab.folder / "notes.txt").write_text("more")
    assert lab.difference == "new files, such as notes.txt"
    (lab.folder / "notes.txt").unlink()
    page = _pages(lab)[0]
    page.write_bytes(page.read_bytes() + b"x")
    assert lab.difference == f"other files, such as {page.relative_to(lab.folder)}"
    page.unlink()
    assert lab.difference == f"1 files are gone, such as {page.relative_to(lab.folder)}"


def test_a_touched_file_is_hashed_and_no_other(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    assert lab.bring()
    page, hashed = _pages(lab)[0], []
    os.utime(page, ns=(0, 10**18))
    real = arrivals.sha256_of_file
    monkeypatch.setattr(arrivals, "sha256_of_file", lambda path: hashed.append(path) or real(path))
    assert lab.difference is None
    assert hashed == [page]
    data = bytearray(page.read_bytes())
    data[-1] ^= 1
    page.write_bytes(data)
    assert lab.difference == f"other files, such as {page.relative_to(lab.folder)}"


def test_what_would_take_long_to_hash_is_left_to_the_run(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    assert lab.bring()
    os.utime(_pages(lab)[0], ns=(0, 10**18))
    monkeypatch.setattr(arrivals, "MOST_HASHED_BYTES", 10)
    assert "too many to compare here" in str(lab.difference)


def test_files_that_broke_a_rule_are_new_when_they_come_again_and_so_are_the_good_ones_after_them(lab: Lab):
    assert lab.bring()
    good = {page: page.read_bytes() for page in _pages(lab)}
    for page in good:
        page.write_bytes(b"no picture")
    assert not lab.bring()
    assert lab.difference == "these files are not in use yet"  # a look that finds them touched tries again
    for page, data in good.items():
        page.write_bytes(data)
    assert lab.difference == "these files are not in use yet"  # the graph shows what failed, until the good ones went through again
    assert lab.bring()
    assert lab.difference is None
