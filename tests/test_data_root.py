"""What a data root must be. If these passed wrongly, a line would be trained on a share whose locks let two processes in, or into an empty
folder where another machine's disk was meant to be mounted.
"""

import os
import shutil
from pathlib import Path

import pytest

from medvl_lib import data_root
from medvl_lib.data_root import marker_id, require_durable, require_mounted
from medvl_lib.errors import MedVLError


def test_a_local_folder_is_fit_and_nothing_of_the_trial_stays(tmp_path: Path):
    require_durable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def _copies(self: Path, target: Path) -> Path:
    """What a bucket that is mounted as a folder does: copy, then delete."""
    target.write_bytes(self.read_bytes())
    self.unlink()
    return target


def _leaves_the_old_folder(self: Path, target: Path) -> Path:
    shutil.copytree(self, target)
    return target


def _refuses(*_: object) -> None:
    raise OSError(95, os.strerror(95))


@pytest.mark.parametrize(
    ("what", "damage", "found"),
    [
        ((Path, "replace"), _copies, "a rename does not replace a file whole, or changes it for who reads it"),
        ((Path, "rename"), _leaves_the_old_folder, "a folder is not renamed whole"),
        ((data_root, "TRY_LOCK"), "", "a lock that one process holds does not keep another out"),
        ((data_root.os, "fsync"), _refuses, "the data root does not take what is written"),
    ],
    ids=["rename", "folder", "lock", "sync"],
)
def test_each_broken_promise_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what, damage, found: str):
    monkeypatch.setattr(*what, damage)
    with pytest.raises(MedVLError, match=found):
        require_durable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_data_root_is_known_by_its_marker_wherever_it_is_mounted(tmp_path: Path):
    first, empty = tmp_path / "first", tmp_path / "empty"
    first.mkdir()
    empty.mkdir()
    called = marker_id(first)
    assert called == marker_id(first)
    first.rename(tmp_path / "elsewhere")
    require_mounted(tmp_path / "elsewhere", called, "settings")
    require_mounted(empty, "", "settings")  # the only machine says nothing
    with pytest.raises(MedVLError, match="nothing is mounted there, or it is another folder"):
        require_mounted(empty, called, "settings")
    marker_id(empty)
    with pytest.raises(MedVLError, match="medvl.json says [0-9a-f]{32}"):
        require_mounted(empty, called, "settings")
