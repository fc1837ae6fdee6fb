"""The served pointer. If these passed wrongly, another adapter would be served than the one that was promoted."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from medvl_lib.errors import WriteFailed
from medvl_lib.files import write_json
from medvl_lib.pointer import Hold, Served, State, move_pointer, read_pointer, read_state, told, write_state
from medvl_lib.workspace import Workspace
from tests.small_disk import small_disk

FIRST = Served(
    line="documents", variant="adapter", weights_step="nf4_model", weights_fingerprint="0" * 16, adapter_step="adapter",
    adapter_fingerprint="a" * 16, data_version="b" * 16, decision_step="promotion", decision="c" * 16,
)  # fmt: skip
SECOND = replace(FIRST, adapter_fingerprint="d" * 16, data_version="e" * 16, decision="f" * 16)


def test_nothing_is_served_before_the_first_promotion(tmp_path: Path):
    assert read_pointer(Workspace(root=tmp_path), "documents") is None


def test_the_pointer_moves_as_a_whole_and_says_whether_it_did(tmp_path: Path):
    workspace = Workspace(root=tmp_path)
    assert [move_pointer(workspace, served) for served in (FIRST, FIRST, SECOND)] == [True, False, True]
    assert read_pointer(workspace, "documents") == SECOND
    assert [path.name for path in (tmp_path / "served").iterdir()] == ["documents.json"]


def test_the_same_adapter_promoted_again_moves_the_pointer(tmp_path: Path):
    workspace = Workspace(root=tmp_path)
    move_pointer(workspace, FIRST)
    assert move_pointer(workspace, replace(FIRST, decision="0" * 16))


def test_each_line_has_its_own_pointer(tmp_path: Path):
    workspace = Workspace(root=tmp_path)
    move_pointer(workspace, FIRST)
    move_pointer(workspace, replace(SECOND, line="imaging"))
    assert read_pointer(workspace, "documents") == FIRST


def test_a_full_disk_leaves_what_was_served(tmp_path: Path):
    workspace = Workspace(root=tmp_path)
    move_pointer(workspace, FIRST)
    with small_disk(20), pytest.raises(WriteFailed):
        move_pointer(workspace, SECOND)
    assert read_pointer(workspace, "documents") == FIRST


def test_what_was_served_before_is_kept_beside_what_is_served(tmp_path: Path):
    workspace = Workspace(root=tmp_path)
    for served, previous in ((FIRST, None), (SECOND, FIRST), (FIRST, SECOND)):
        move_pointer(workspace, served)
        assert read_state(workspace, "documents") == State(served=served, previous=previous)


def test_a_held_pointer_does_not_move_and_says_who_holds_it(tmp_path: Path):
    workspace = Workspace(root=tmp_path)
    hold = Hold(by="Dr. Adler", reason="complaints from the ward", since="2026-11-29T08:00:00+00:00", record="0" * 16)
    write_state(workspace, "documents", State(served=FIRST, previous=SECOND, hold=hold))
    assert not move_pointer(workspace, SECOND)
    assert read_state(workspace, "documents") == State(served=FIRST, previous=SECOND, hold=hold)
    assert told(workspace, "documents").endswith("; held by Dr. Adler since 2026-11-29T08:00:00+00:00: complaints from the ward")


def test_the_base_model_can_be_held_as_well(tmp_path: Path):
    workspace = Workspace(root=tmp_path)
    hold = Hold(by="Dr. Adler", reason="why", since="2026-11-29T08:00:00+00:00", record="0" * 16)
    write_state(workspace, "documents", State(previous=FIRST, hold=hold))
    assert read_pointer(workspace, "documents") is None
    assert not move_pointer(workspace, SECOND)


def test_a_pointer_from_before_there_were_rollbacks_is_read(tmp_path: Path):
    workspace = Workspace(root=tmp_path)
    write_json(workspace.served("documents"), asdict(FIRST))
    assert read_state(workspace, "documents") == State(served=FIRST)
