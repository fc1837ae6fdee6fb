"""What may be thrown away. If these passed wrongly, the model that is served, or the way back to the one before it, would be gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from medvl_lib.errors import InputRefused
from medvl_lib.files import write_json
from medvl_lib.pointer import Served, move_pointer
from medvl_lib.provenance import PROVENANCE, Artifact, judge, write_step
from medvl_lib.route.collecting import find, remove
from medvl_lib.workspace import Workspace


@dataclass
class Lab:
    workspace: Workspace

    def write(self, step: str, inputs: Sequence[Artifact], content: str, *, name: str = "documents") -> Artifact:
        def fill(directory: Path) -> dict[str, str]:
            (directory / "content").write_text(content)
            return {}

        artifact = write_step(self.workspace, step, name, content, inputs, fill)
        judge(self.workspace, artifact, [])
        return artifact

    def line(self, content: str) -> dict[str, Artifact]:
        """Everything from the pairs to the decision, made from this."""
        made: dict[str, Artifact] = {}
        for step, reads in (
            ("chat", ()), ("nf4_model", ()), ("adapter", ("chat", "nf4_model")), ("predictions", ("adapter", "nf4_model", "chat")),
            ("scores", ("predictions",)), ("promotion", ("scores",)),
        ):  # fmt: skip
            made[step] = self.write(step, [made[read] for read in reads], "the same" if step == "nf4_model" else f"{step} {content}")
        return made

    def serve(self, made: dict[str, Artifact]) -> None:
        move_pointer(self.workspace, Served(
            line="documents", variant="adapter", weights_step="nf4_model", weights_fingerprint=made["nf4_model"].fingerprint,
            adapter_step="adapter", adapter_fingerprint=made["adapter"].fingerprint, data_version=made["adapter"].data_version,
            decision_step="promotion", decision=made["promotion"].fingerprint,
        ))  # fmt: skip

    @property
    def found(self) -> set[Path]:
        return {each.path for each in find(self.workspace)}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(Workspace(root=tmp_path))


def test_what_was_mirrored_is_looked_at_as_little_as_what_was_brought_by_hand(tmp_path: Path):
    workspace = Workspace(root=tmp_path)
    for folder in (workspace.mirror("mtsamples"), workspace.raw("mtsamples")):
        write_json(folder / "part" / PROVENANCE, {})  # a publisher's file that happens to be called like this
        (folder / ".part.removed").mkdir()
    assert find(workspace) == ()


def test_what_is_served_what_was_before_it_and_what_is_newest_stay_and_everything_older_goes(lab: Lab):
    oldest, before, served, newest = (lab.line(name) for name in ("oldest", "before", "served", "newest"))
    for made in (oldest, before, served):
        lab.serve(made)
    assert lab.found == {oldest["adapter"].directory, oldest["chat"].directory}
    kept = {made[step].directory for made in (before, served, newest) for step in made}
    remove(lab.workspace, find(lab.workspace))
    assert not oldest["adapter"].directory.exists()
    assert all(directory.is_dir() for directory in kept)
    assert all(oldest[step].directory.is_dir() for step in ("predictions", "scores", "promotion", "nf4_model"))  # evidence, and shared
    assert find(lab.workspace) == ()


def test_without_any_promotion_only_what_is_newest_stays(lab: Lab):
    old, _ = lab.line("old"), lab.line("new")
    assert lab.found == {old["adapter"].directory, old["chat"].directory}


def test_what_passed_stays_where_the_newest_did_not(lab: Lab):
    good, bad = lab.line("good"), lab.line("bad")
    write_json(lab.workspace.current("chat", "documents"), {"fingerprint": good["chat"].fingerprint})
    assert lab.found == {good["adapter"].directory}
    assert bad["chat"].directory.is_dir()


def test_what_an_unfinished_run_has_read_stays_and_nothing_is_removed_meanwhile(lab: Lab):
    old, _ = lab.line("old"), lab.line("new")
    write_json(lab.workspace.root / "runs" / "0123.json", {"adapter/documents": old["adapter"].fingerprint})
    unneeded = find(lab.workspace)
    lock = lab.workspace.lock("run-0123")
    lock.parent.mkdir(exist_ok=True)
    with FileLock(lock):
        assert lab.found == set()
        with pytest.raises(InputRefused, match="1 runs are going on, such as 0123"):
            remove(lab.workspace, unneeded)
    assert lab.found == {each.path for each in unneeded}
    assert old["adapter"].directory.is_dir()


def test_checkpoints_of_what_is_whole_go_and_those_of_an_unfinished_training_stay(lab: Lab):
    made = lab.line("a")
    done, going = (lab.workspace.checkpoints("adapter", "documents", mark) for mark in (made["adapter"].fingerprint, "f" * 16))
    for folder in (done, going):
        (folder / "checkpoint-1").mkdir(parents=True)
        (folder / "checkpoint-1" / "adapter_model.safetensors").write_bytes(b"x" * 10)
    assert [(each.path, each.num_bytes) for each in find(lab.workspace)] == [(done, 10)]


def test_what_was_moved_aside_goes_and_what_is_the_users_own_is_not_looked_at(lab: Lab):
    made = lab.line("a")
    aside = made["chat"].directory.with_name(f".{made['chat'].fingerprint}.damaged-0")
    aside.mkdir()
    for place in ("raw/mtsamples/mine", "images/ab", "downloads/some--model/main"):
        (lab.workspace.root / place).mkdir(parents=True)
        (lab.workspace.root / place / "provenance.json").write_text("{}")
    assert lab.found == {aside}


def test_a_removal_that_was_broken_off_is_finished_by_the_next_one(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    old, _ = lab.line("old"), lab.line("new")
    checkpoints = lab.workspace.checkpoints("adapter", "documents", old["adapter"].fingerprint)
    damaged = old["chat"].directory.with_name(f".{old['chat'].fingerprint}.damaged-0")
    for folder in (checkpoints, damaged):
        folder.mkdir(parents=True)
        (folder / "content").write_text("x")

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    unneeded = find(lab.workspace)
    assert len(unneeded) == 4
    with monkeypatch.context() as patch:
        patch.setattr("medvl_lib.route.collecting.shutil.rmtree", killed)
        for each in unneeded:
            with pytest.raises(KeyboardInterrupt):
                remove(lab.workspace, [each])
    left = find(lab.workspace)
    assert len(left) == 4
    assert all(each.path.name.endswith(".removed") and each.num_bytes for each in left)
    remove(lab.workspace, left)
    assert find(lab.workspace) == ()
    assert not [path for each in left for path in each.path.parent.glob(".*.removed")]


def test_what_is_made_again_beside_the_rest_of_a_broken_removal_goes_as_well(lab: Lab):
    old, _ = lab.line("old"), lab.line("new")
    rest = old["chat"].directory.with_name(f".{old['chat'].fingerprint}.removed")
    rest.mkdir()
    (rest / "content").write_text("x")
    assert {old["chat"].directory, rest} <= lab.found
    unneeded = [each for each in find(lab.workspace) if each.path == old["chat"].directory]
    assert remove(lab.workspace, unneeded) == (old["chat"].directory,)
    assert not rest.exists()
    assert not old["chat"].directory.exists()


def test_the_users_own_is_not_looked_at_whatever_it_is_called(lab: Lab):
    for name in (".mine.removed", ".mine.damaged-0"):
        (lab.workspace.raw("mtsamples") / name).mkdir(parents=True)
    assert lab.found == set()
