"""The exported folder. If these passed wrongly, half of an export could lie under its name, or one replace another."""

import subprocess
from pathlib import Path

import pytest

from medvl_lib.errors import MedVLError
from medvl_lib.export.folder import SUMS, write_folder, write_sums


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    def fill(root: Path) -> None:
        (root / "half").write_text("written")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        write_folder(tmp_path / "export", fill)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "mine").write_text("mine")
    with pytest.raises(MedVLError, match="there already"):
        write_folder(tmp_path / "export", lambda root: (root / "theirs").write_text("theirs"))
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["mine"]
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(MedVLError, match="there already"):
        write_folder(tmp_path / "gone", lambda _: None)


def test_what_came_meanwhile_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(MedVLError, match="there already"):
        write_folder(tmp_path / "export", lambda _: (tmp_path / "export").write_text("mine"))
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_every_file_stands_in_the_sums(tmp_path: Path) -> None:
    def fill(root: Path) -> None:
        (root / "a").write_text("a")
        (root / "b").mkdir()
        (root / "b" / "c").write_text("c")
        write_sums(root)

    write_folder(tmp_path / "export", fill)
    said = subprocess.run(["sha256sum", "--check", SUMS], cwd=tmp_path / "export", capture_output=True, text=True, check=True)
    assert said.stdout.split("\n")[:-1] == ["a: OK", "b/c: OK"]
    (tmp_path / "export" / "a").write_text("b")
    assert subprocess.run(["sha256sum", "--check", SUMS], cwd=tmp_path / "export", capture_output=True, check=False).returncode == 1
