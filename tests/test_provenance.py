"""Identity, reuse and verdicts. If these passed wrongly, a half-written or damaged directory would be taken for whole, a changed number
would be answered with an old result, or something that failed its checks would be read downstream.
"""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from medvl_lib import provenance
from medvl_lib.errors import InputMissing, InputRefused, WriteFailed
from medvl_lib.files import read_json, temporary_name
from medvl_lib.provenance import (
    Artifact,
    Outcome,
    Rule,
    ancestor,
    code_version,
    damage,
    digest,
    fingerprint,
    judge,
    newest,
    read_artifact,
    require_verdicts,
    resolve,
    reusable,
    write_step,
)
from medvl_lib.workspace import Workspace
from tests.small_disk import small_disk

V1 = code_version(1, "documents")
V2 = code_version(2, "documents")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    seed: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    share: float
    seed: int


def fill(text: str, directory: Path) -> dict[str, int]:
    (directory / "part").mkdir()
    (directory / "part" / "rows.txt").write_text(text)
    (directory / "counts.txt").write_text("1")
    return {"num_rows": len(text)}


def write(workspace: Workspace, text: str = "abc", *, step: str = "split", version: str = V1, inputs: Sequence[Artifact] = ()) -> Artifact:
    return write_step(workspace, step, "documents", version, inputs, partial(fill, text))


def says(passed: bool, name: str = "all_is_well", *, is_blocking: bool = True) -> Rule:
    return Rule(name=name, sentence="All is well.", holds=lambda _: Outcome(passed=passed, found="as told"), is_blocking=is_blocking)


GOOD = says(True)


def leftovers(workspace: Workspace) -> list[str]:
    """What a step left beside its directories, locks aside."""
    folder = workspace.step("split", "documents")
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(".") and path.suffix != ".lock")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path)


# -- identity ----------------------------------------------------------------------------------------------------------
def test_equal_values_have_one_digest():
    assert digest(1) == digest(1.0)
    assert digest({"a": 1, "b": (2, 3)}) == digest({"b": [2.0, 3], "a": 1})
    assert digest({"µ", "b", "a"}) == digest(frozenset({"b", "a", "µ"}))
    assert digest(Spec(seed=1, share=0.5)) == digest(Spec(share=0.5, seed=1))


def test_different_values_have_different_digests():
    values = [0, 1, True, False, None, "1", "", "None", 0.1, [1], [[1]], [], {}, {"seed": 1, "share": 0.5}, 1e-4, 1e-5]
    values += [Spec(seed=1, share=0.5), Spec(seed=2, share=0.5), Turned(seed=1, share=0.5), [1, 2], [2, 1], ["a", "b"], ["ab"]]
    assert len({digest(value) for value in values}) == len(values)


def test_a_digest_is_the_same_on_every_machine():
    # sha256 of {"names": ["a", "b"], "recipe": {"seed": 42, "share": 0.1, "type": "Spec"}, "text": "µ"}
    assert digest({"recipe": Spec(seed=42, share=0.1), "names": {"b", "a"}, "text": "µ"}) == "bafdafc489acd396"


@pytest.mark.parametrize("value", [Path("/data"), print, len, b"bytes", 1j, object(), Spec, {"where": Path("x")}, [lambda: 0]])
def test_what_is_no_literal_cannot_bear_identity(value: object):
    with pytest.raises(TypeError, match="cannot bear identity"):
        digest(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_cannot_bear_identity(value: float):
    with pytest.raises(ValueError):
        digest(value)


def test_a_fingerprint_moves_with_the_version_and_with_the_contents_of_each_input(workspace: Workspace):
    one, two = write(workspace, step="one"), write(workspace, step="two")
    known = fingerprint(V1, [one, two])
    assert known == fingerprint(V1, [two, one])
    moved = [
        fingerprint(V2, [one, two]), fingerprint(V1, [one]), fingerprint(V1, [replace(one, data_version="x"), two]),
        fingerprint(V1, [one, replace(two, data_version="x")]), fingerprint(V1, [replace(one, name="imaging"), two]),
    ]  # fmt: skip
    assert len({known, *moved}) == 1 + len(moved)


def test_a_fingerprint_stays_when_an_input_is_made_otherwise_with_the_same_contents(workspace: Workspace):
    one = write(workspace, step="one")
    same = write(workspace, step="one", version=V2)
    assert one.fingerprint != same.fingerprint
    assert fingerprint(V1, [one]) == fingerprint(V1, [same])
    assert fingerprint(V1, [one]) == fingerprint(V1, [replace(one, directory=Path("elsewhere"), facts={"num_rows": 9}, reused=True)])


def test_a_data_version_is_names_and_contents_alone(workspace: Workspace, tmp_path: Path):
    here = write(workspace)
    there = write(Workspace(root=tmp_path / "another", run_id="r2"), step="chat", version=V2, inputs=[here])
    assert here.data_version == there.data_version

    def renamed(directory: Path) -> dict[str, int]:
        fill("abc", directory)
        (directory / "counts.txt").rename(directory / "count.txt")
        return {}

    others = [write(workspace, "abx", version=V2).data_version, write_step(workspace, "x", "y", V1, [], renamed).data_version]
    assert len({here.data_version, *others}) == 3


# -- whole or absent ---------------------------------------------------------------------------------------------------
def test_a_step_leaves_its_files_and_says_what_they_are(workspace: Workspace):
    source = write(workspace, step="pairs")
    made = write(workspace, inputs=[source])
    assert made.directory == workspace.directory("split", "documents", fingerprint(V1, [source]))
    assert (made.directory / "part" / "rows.txt").read_text() == "abc"
    assert (made.inputs, made.facts, made.reused) == ({"pairs/documents": source.fingerprint}, {"num_rows": 3}, False)
    record = read_json(made.directory / "provenance.json")
    assert record["input_data_versions"] == {"pairs/documents": source.data_version}
    assert record["libraries"]["pyarrow"]
    assert record["files"]["counts.txt"]["bytes"] == 1
    assert leftovers(workspace) == []


@pytest.mark.parametrize(
    "error", [ValueError("no"), KeyboardInterrupt(), SystemExit(1), FileNotFoundError(2, "No such file", "/raw/a.csv")]
)
def test_a_write_that_raises_leaves_nothing_and_its_error_is_its_own(workspace: Workspace, error: BaseException):
    def broken(directory: Path):
        fill("abc", directory)
        raise error

    with pytest.raises(type(error)) as raised:
        write_step(workspace, "split", "documents", V1, [], broken)
    assert raised.value is error
    assert list(workspace.step("split", "documents").iterdir()) == []
    assert not write(workspace).reused


def test_a_full_disk_is_refused_in_three_parts_and_leaves_nothing_half_written(workspace: Workspace):
    def large(directory: Path) -> dict[str, int]:
        fill("abc", directory)
        (directory / "weights").write_bytes(bytes(20_000))
        return {}

    with small_disk(10_000), pytest.raises(WriteFailed) as failed:
        write_step(workspace, "split", "documents", V1, [], large)
    assert "File too large" in failed.value.found
    assert failed.value.where == str(workspace.step("split", "documents"))
    assert "nothing half-written was kept" in failed.value.do
    assert list(workspace.step("split", "documents").iterdir()) == []

    assert not write_step(workspace, "split", "documents", V1, [], large).reused
    assert leftovers(workspace) == []


def test_a_full_disk_leaves_the_directory_that_stood_there_before(workspace: Workspace):
    before = write(workspace)
    judge(workspace, before, [GOOD])
    with small_disk(100), pytest.raises(WriteFailed):
        write(workspace, "x" * 500, version=V2)
    assert resolve(workspace, "split", "documents", [GOOD]) == before
    assert damage(before.directory) is None


# -- reuse -------------------------------------------------------------------------------------------------------------
def test_what_stands_there_whole_is_not_written_again(workspace: Workspace):
    first = write(workspace)
    again = write_step(workspace, "split", "documents", V1, [], lambda _: pytest.fail("was written again"))
    assert again == replace(first, reused=True)
    assert reusable(workspace, "split", "documents", V2, []) is None


def shorten(directory: Path):
    (directory / "part" / "rows.txt").write_text("ab")


def change(directory: Path):
    (directory / "part" / "rows.txt").write_text("abx")


def lose_a_file(directory: Path):
    (directory / "counts.txt").unlink()


def lose_the_record(directory: Path):
    (directory / "provenance.json").unlink()


def cut_the_record(directory: Path):
    path = directory / "provenance.json"
    path.write_bytes(path.read_bytes()[:200])


def empty_the_record(directory: Path):
    (directory / "provenance.json").write_text("[]")


@pytest.mark.parametrize("harm", [shorten, change, lose_a_file, lose_the_record, cut_the_record, empty_the_record])
def test_a_damaged_directory_is_moved_aside_and_written_again(workspace: Workspace, harm: Callable[[Path], None]):
    made = write(workspace)
    harm(made.directory)
    harmed = {path.name: path.read_bytes() for path in made.directory.rglob("*") if path.is_file()}
    assert damage(made.directory) is not None
    assert reusable(workspace, "split", "documents", V1, []) is None

    assert write(workspace) == made
    assert damage(made.directory) is None
    assert leftovers(workspace) == [f".{made.fingerprint}.damaged-0"]
    aside = workspace.step("split", "documents") / f".{made.fingerprint}.damaged-0"
    assert {path.name: path.read_bytes() for path in aside.rglob("*") if path.is_file()} == harmed


def test_a_directory_damaged_twice_is_kept_twice(workspace: Workspace):
    for _ in range(2):
        change(write(workspace).directory)
    made = write(workspace)
    assert leftovers(workspace) == [f".{made.fingerprint}.damaged-0", f".{made.fingerprint}.damaged-1"]


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(workspace: Workspace):
    folder = workspace.step("split", "documents")
    theirs = temporary_name(folder / fingerprint(V1, []))
    # Linux numbers no process above 2**22
    dead, living = (theirs.with_name(theirs.name.replace(f"-{os.getpid()}-", f"-{pid}-")) for pid in (2**22 + 1, os.getppid()))
    for left in (dead, living):
        (left / "part").mkdir(parents=True)
    write(workspace)
    assert leftovers(workspace) == [living.name]


def test_two_threads_of_one_fingerprint_end_with_one_good_directory(workspace: Workspace):
    both, made = threading.Barrier(2), []

    def together(directory: Path) -> dict[str, int]:
        both.wait(5)
        facts = fill("abc", directory)
        both.wait(5)
        return facts

    threads = [threading.Thread(target=lambda: made.append(write_step(workspace, "split", "d", V1, [], together))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made[0] == made[1]
    assert damage(made[0].directory) is None
    assert [path.name for path in workspace.step("split", "d").iterdir() if path.is_dir()] == [made[0].fingerprint]


TOGETHER = """
import sys, time
from pathlib import Path
from medvl_lib.provenance import write_step
from medvl_lib.workspace import Workspace

root, me, other = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def write(directory):
    (root / me).touch()
    while not (root / other).exists():
        time.sleep(0.001)
    (directory / "rows.txt").write_text("abc")
    return {"num_rows": 3}

print(write_step(Workspace(root=root), "split", "documents", "v", [], write).data_version)
"""


def test_two_processes_of_one_fingerprint_end_with_one_good_directory(workspace: Workspace):
    processes = [
        subprocess.Popen([sys.executable, "-c", TOGETHER, str(workspace.root), *names], stdout=subprocess.PIPE, text=True)
        for names in (("one", "two"), ("two", "one"))
    ]
    said = [process.communicate(timeout=30)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    [directory] = [path for path in workspace.step("split", "documents").iterdir() if path.is_dir()]
    assert said == [f"{read_artifact(directory).data_version}\n"] * 2
    assert damage(directory) is None


# -- verdicts ----------------------------------------------------------------------------------------------------------
def test_current_moves_only_when_every_blocking_rule_passed(workspace: Workspace):
    first, second, third = write(workspace, "a"), write(workspace, "b", version=V2), write(workspace, "c", version="v3")
    assert [verdict.outcome.passed for verdict in judge(workspace, first, [GOOD, says(False, "nice", is_blocking=False)])] == [True, False]
    assert resolve(workspace, "split", "documents", [GOOD]) == first
    judge(workspace, second, [GOOD, says(False, "it_counts")])
    assert resolve(workspace, "split", "documents", [GOOD]) == first
    judge(workspace, third, [GOOD])
    assert resolve(workspace, "split", "documents", [GOOD]) == third


def test_the_verdicts_lie_in_the_directory_and_are_no_part_of_its_contents(workspace: Workspace):
    made = write(workspace)
    judge(workspace, made, [Rule(name="r", sentence="s", holds=lambda _: Outcome(passed=False, found="2 of 3", offenders=("a", "b")))])
    found = {"passed": False, "found": "2 of 3", "offenders": ["a", "b"]}
    assert read_json(made.directory / "verdicts.json") == {
        "data_version": made.data_version,
        "verdicts": [{"rule": "r", "bounds": digest(()), "is_blocking": True, "outcome": found}],
    }
    assert damage(made.directory) is None


@pytest.mark.parametrize(
    ("judged", "wanted", "names"),
    [
        ([GOOD], [GOOD, says(True, "another")], "another"),  # a rule that nobody asked
        ([GOOD, says(False, "another")], [GOOD, says(True, "another")], "another"),  # a rule that failed
        ([], [GOOD], "all_is_well"),
    ],
)  # fmt: skip
def test_an_input_without_a_passing_verdict_is_refused(workspace: Workspace, judged: list[Rule], wanted: list[Rule], names: str):
    made = write(workspace)
    judge(workspace, made, judged)
    with pytest.raises(InputRefused) as refused:
        require_verdicts(made, wanted)
    assert refused.value.found == f"no passing verdict for {names}"
    assert refused.value.where == str(made.directory)


def test_an_input_that_was_never_judged_is_refused(workspace: Workspace):
    with pytest.raises(InputRefused):
        require_verdicts(write(workspace), [])


def test_a_failed_rule_that_does_not_block_is_no_obstacle(workspace: Workspace):
    made = write(workspace)
    judge(workspace, made, [GOOD, says(False, "nice", is_blocking=False)])
    require_verdicts(made, [GOOD, says(True, "nice", is_blocking=False)])


def test_a_verdict_on_other_contents_is_none(workspace: Workspace):
    one, two = write(workspace, "a"), write(workspace, "b", version=V2)
    judge(workspace, one, [GOOD])
    shutil.copy(one.directory / "verdicts.json", two.directory)
    with pytest.raises(InputRefused, match="these contents"):
        require_verdicts(two, [GOOD])


def test_a_verdict_under_other_bounds_is_none(workspace: Workspace):
    made, lax, strict = write(workspace), replace(GOOD, literals=(0.5,)), replace(GOOD, literals=(0.1,))
    judge(workspace, made, [lax])
    require_verdicts(made, [lax])
    with pytest.raises(InputRefused, match="no passing verdict for all_is_well"):
        require_verdicts(made, [strict])


def test_what_was_damaged_since_is_neither_judged_nor_read(workspace: Workspace):
    made = write(workspace)
    judge(workspace, made, [GOOD])
    change(made.directory)
    with pytest.raises(InputRefused, match=r"rows\.txt has other contents"):
        resolve(workspace, "split", "documents", [GOOD])
    with pytest.raises(InputRefused, match="a damaged directory") as refused:
        judge(workspace, made, [GOOD])
    assert "materialize documents/split again" in refused.value.do


def test_a_rule_that_raises_leaves_no_earlier_verdict(workspace: Workspace):
    made = write(workspace)
    judge(workspace, made, [GOOD])
    with pytest.raises(ZeroDivisionError):
        judge(workspace, made, [Rule(name="broken", sentence="It breaks.", holds=lambda _: 1 / 0)])
    with pytest.raises(InputRefused):
        require_verdicts(made, [GOOD])


# -- inputs of a run ---------------------------------------------------------------------------------------------------
def passed(workspace: Workspace, text: str, version: str) -> Artifact:
    made = write(workspace, text, version=version)
    judge(workspace, made, [GOOD])
    return made


def test_a_run_goes_on_reading_what_it_read_first(workspace: Workspace):
    mine = replace(workspace, run_id="mine")
    old = passed(workspace, "old", V1)
    assert resolve(mine, "split", "documents", [GOOD]) == old
    new = passed(replace(workspace, run_id="theirs"), "new", V2)
    assert resolve(mine, "split", "documents", [GOOD]) == old
    assert resolve(replace(workspace, run_id="next"), "split", "documents", [GOOD]) == new
    assert resolve(workspace, "split", "documents", [GOOD]) == new


def test_a_run_reads_and_judges_what_it_wrote_or_found_written(workspace: Workspace):
    mine = replace(workspace, run_id="mine")
    old = passed(workspace, "old", V1)
    passed(workspace, "new", V2)
    assert write(mine, "old", version=V1).reused
    assert newest(mine, "split", "documents") == resolve(mine, "split", "documents", [GOOD]) == old


def test_a_run_does_not_fall_back_on_an_older_directory_when_its_own_failed(workspace: Workspace):
    mine = replace(workspace, run_id="mine")
    passed(workspace, "old", V1)
    judge(mine, write(mine, "new", version=V2), [says(False)])
    with pytest.raises(InputRefused):
        resolve(mine, "split", "documents", [GOOD])


def test_outside_a_run_the_newest_is_judged_and_nothing_is_pinned(workspace: Workspace):
    write(workspace, "old", version=V1)
    new = write(workspace, "new", version=V2)
    assert newest(workspace, "split", "documents") == new
    assert not (workspace.root / "runs").exists()


def test_an_input_that_does_not_exist_yet_is_named(workspace: Workspace):
    for look in (partial(resolve, rules=[GOOD]), newest):
        with pytest.raises(InputMissing) as missing:
            look(workspace, "split", "documents")
        assert missing.value.do == "materialize documents/split"
    write(workspace)
    with pytest.raises(InputMissing, match="no split of documents has passed"):
        resolve(workspace, "split", "documents", [GOOD])


def test_an_ancestor_is_the_very_directory_however_old(workspace: Workspace):
    old = write(workspace, "old", step="split")
    chat = write(workspace, step="chat", inputs=[old])
    write(workspace, "new", step="split", version=V2)
    assert ancestor(workspace, chat, "split", "documents") == old
    with pytest.raises(InputMissing) as missing:
        ancestor(workspace, chat, "pairs", "documents")
    assert "split/documents" in missing.value.do


def test_the_record_says_how_it_was_made(workspace: Workspace):
    record = read_json(write(workspace).directory / provenance.PROVENANCE)
    assert record["finished_at"].endswith("+00:00")
    assert record["code_version"] == V1
    assert os.sep not in record["command"].split()[0]
