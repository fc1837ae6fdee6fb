"""Checkpoints. If these passed wrongly, a run would resume from half a checkpoint, and end at other weights without anyone noticing."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medvl_lib.errors import InUse
from medvl_lib.files import read_json, write_json
from medvl_lib.hardware import PROFILES
from medvl_lib.lines import DOCUMENTS, tiny
from medvl_lib.progress import silent
from medvl_lib.route.models import stage_steps
from medvl_lib.step import Call
from medvl_lib.training.checkpoints import COMPLETE, held_alone, is_complete, newest_complete, path_of, prune, seal, step_of
from medvl_lib.workspace import Workspace


def checkpoint(directory: Path, step: int) -> Path:
    folder = directory / f"checkpoint-{step}"
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "weights.safetensors").write_bytes(bytes([step % 256]) * 100)
    (folder / "optimizer.pt").write_bytes(b"moments")
    return folder


def sealed(directory: Path, step: int) -> Path:
    folder = checkpoint(directory, step)
    seal(folder)
    return folder


def lose_the_manifest(folder: Path):
    (folder / COMPLETE).unlink()


def cut_the_manifest(folder: Path):
    (folder / COMPLETE).write_bytes((folder / COMPLETE).read_bytes()[:50])


def lose_a_file(folder: Path):
    (folder / "optimizer.pt").unlink()


def cut_a_file(folder: Path):
    (folder / "optimizer.pt").write_bytes(b"mom")


def change_a_byte(folder: Path):
    (folder / "adapter" / "weights.safetensors").write_bytes(b"\xff" * 100)


HOLDS = """
import sys, time, pathlib, filelock
pathlib.Path(sys.argv[1]).parent.mkdir()
lock = filelock.FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""
DAMAGES = [lose_the_manifest, cut_the_manifest, lose_a_file, cut_a_file, change_a_byte]


def test_two_trainings_never_share_a_checkpoint_folder(tmp_path: Path):
    workspace, line = Workspace(root=tmp_path), tiny(DOCUMENTS)
    step = next(step for step in stage_steps(line, PROFILES["cpu"]) if step.name == line.stages[0].name)
    call = Call(directory=tmp_path, fingerprint="f", observed="", workspace=workspace, inputs={}, report=silent)
    lock = workspace.lock(f"training-{step.name}-{line.name}-f")
    other = subprocess.Popen([sys.executable, "-c", HOLDS, lock], stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    with pytest.raises(InUse, match="another process trains the same") as refused:
        step.write(call)
    assert refused.value.is_passing
    other.kill()  # the kernel drops its lock
    other.wait()
    with held_alone(tmp_path, lock), pytest.raises(InUse):
        step.write(call)


def test_the_manifest_lists_every_file_with_its_size(tmp_path: Path):
    folder = sealed(tmp_path, 3)
    assert {name: entry["bytes"] for name, entry in read_json(folder / COMPLETE).items()} == {
        "adapter/weights.safetensors": 100, "optimizer.pt": 7,
    }  # fmt: skip
    assert is_complete(folder)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_not_complete(tmp_path: Path, damage: Callable[[Path], None]):
    folder = sealed(tmp_path, 3)
    damage(folder)
    assert not is_complete(folder)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_resumes_from_the_newest_whole_one_and_the_broken_one_is_removed(tmp_path: Path, damage: Callable[[Path], None]):
    older, newer, broken = sealed(tmp_path, 2), sealed(tmp_path, 9), sealed(tmp_path, 10)
    damage(broken)
    assert newest_complete(tmp_path, 24) == newer
    assert sorted(tmp_path.iterdir()) == [older, newer]


def test_the_newest_is_the_one_of_the_highest_step_not_of_the_last_name(tmp_path: Path):
    for step in (9, 100, 20):
        sealed(tmp_path, step)
    assert newest_complete(tmp_path, 1000) == tmp_path / "checkpoint-100"


def test_one_that_was_never_sealed_is_removed(tmp_path: Path):
    checkpoint(tmp_path, 3)
    assert newest_complete(tmp_path, 24) is None
    assert list(tmp_path.iterdir()) == []


def test_one_of_the_last_step_is_removed(tmp_path: Path):
    before = sealed(tmp_path, 21)
    sealed(tmp_path, 24)
    assert newest_complete(tmp_path, 24) == before
    assert list(tmp_path.iterdir()) == [before]


def test_a_name_that_the_trainer_could_not_have_given_is_removed(tmp_path: Path):
    sealed(tmp_path, 3).rename(tmp_path / "checkpoint-3-copy")
    assert newest_complete(tmp_path, 24) is None
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="'checkpoint-3-copy' is no checkpoint's name"):
        step_of(tmp_path / "checkpoint-3-copy")


def test_what_is_no_checkpoint_is_left_alone(tmp_path: Path):
    write_json(tmp_path / "steps.json", [])
    assert newest_complete(tmp_path, 24) is None
    assert [path.name for path in tmp_path.iterdir()] == ["steps.json"]


def test_a_run_that_never_started_has_none(tmp_path: Path):
    assert newest_complete(tmp_path / "nowhere", 24) is None


def test_old_checkpoints_go_but_for_two_and_what_each_of_them_calls_the_best(tmp_path: Path):
    for step, best in ((1, 1), (2, 1), (3, 1), (4, 4), (5, 4)):
        checkpoint = path_of(tmp_path, step)
        checkpoint.mkdir()
        (checkpoint / "trainer_state.json").write_text(f'{{"best_global_step": {best}}}')
        seal(checkpoint)
        if step == 4:  # the better one is there; until a newer one is, a kill may still lead back to step 3, whose best is step 1
            prune(tmp_path)
            assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1", "checkpoint-3", "checkpoint-4"]
    path_of(tmp_path, 6).mkdir()  # cut short: it does not count
    prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-4", "checkpoint-5", "checkpoint-6"]
