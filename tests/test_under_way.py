"""A step that is under way. If these passed wrongly, an hour of reading would say nothing, an event log would grow with each row, a line
that broke off in the night would end the run, or what is refused would be refused three times.
"""

from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from medvl_assets import under_way
from medvl_assets.step_assets import light_asset
from medvl_lib.errors import InputRefused, MedVLError, Unreachable
from medvl_lib.provenance import Fact
from medvl_lib.step import Call, Step
from medvl_lib.workspace import Workspace

AWAY = Unreachable(found="no answer", where="s3://ward", do="wait for it")
REFUSED = InputRefused(found="a damaged directory", where="pairs", do="materialize it again")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_way, "RETRY_SECONDS", 0.0)


def _run(root: Path, write: Callable[[Call], Mapping[str, Fact]]) -> dg.ExecuteInProcessResult:
    step = Step(name="pairs", owner="mtsamples", description="", version="1", reads=(), rules=(), write=write)
    return dg.materialize([light_asset(step)], resources={"workspace": Workspace(root=root)}, raise_on_error=False)


def _failing(errors: list[MedVLError]) -> Callable[[Call], Mapping[str, Fact]]:
    def write(call: Call) -> Mapping[str, Fact]:
        if errors:
            raise errors.pop()
        (call.directory / "written").write_text("")
        return {}

    return write


def _num(result: dg.ExecuteInProcessResult, event: dg.DagsterEventType) -> int:
    return len([found for found in result.all_events if found.event_type == event])


def test_what_broke_off_is_tried_again_and_no_more_than_twice(tmp_path: Path):
    result = _run(tmp_path, _failing([AWAY, AWAY]))
    assert result.success
    assert _num(result, dg.DagsterEventType.STEP_RESTARTED) == 2
    assert not _run(tmp_path / "other", _failing([AWAY] * 3)).success


def test_what_is_refused_is_not_tried_again(tmp_path: Path):
    left = [REFUSED, REFUSED]
    assert not _run(tmp_path, _failing(left)).success
    assert left == [REFUSED]


def _saying(seconds: float, monkeypatch: pytest.MonkeyPatch) -> Callable[[Call], Mapping[str, Fact]]:
    """A step that says something ten times, so many seconds apart."""
    clock = count(step=seconds)
    monkeypatch.setattr(under_way, "time", SimpleNamespace(monotonic=lambda: next(clock)))

    def write(call: Call) -> Mapping[str, Fact]:
        for number in range(10):
            call.report({"num_rows": number, "seconds_left": 9.87654321})
        (call.directory / "written").write_text("")
        return {}

    return write


def _observed(result: dg.ExecuteInProcessResult) -> list[int]:
    found = [event for event in result.all_events if event.event_type == dg.DagsterEventType.ASSET_OBSERVATION]
    assert {event.asset_key for event in found} <= {dg.AssetKey(["mtsamples", "pairs"])}
    return [event.event_specific_data.asset_observation.metadata["num_rows"].value for event in found]


def test_a_long_step_says_how_far_it_is_every_quarter_of_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert _observed(_run(tmp_path, _saying(5.0, monkeypatch))) == [2, 5, 8]


def test_a_short_step_leaves_nothing_in_the_event_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert _observed(_run(tmp_path, _saying(1.0, monkeypatch))) == []
