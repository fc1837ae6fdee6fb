"""Progress of what is long. If these passed wrongly, a step of hours would say nothing, or promise a time that nobody knows."""

from collections.abc import Mapping
from itertools import count
from types import SimpleNamespace

import pytest

from medvl_lib import progress
from medvl_lib.progress import silent, so_far, told
from medvl_lib.provenance import Fact


def test_rows_go_by_as_they_are_and_once_a_second_it_is_told_how_far_they_are(monkeypatch: pytest.MonkeyPatch):
    clock = count(step=0.5)  # it is looked at before the first row, and once at each
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    said: list[Mapping[str, Fact]] = []
    assert list(told("abcdef", said.append, "pairs", total=6)) == list("abcdef")
    assert said == [
        {"num_pairs": 1, "pairs_per_second": 1.0, "num_pairs_in_all": 6, "seconds_left": 5.0},
        {"num_pairs": 3, "pairs_per_second": 1.5, "num_pairs_in_all": 6, "seconds_left": 2.0},
        {"num_pairs": 5, "pairs_per_second": pytest.approx(5 / 3), "num_pairs_in_all": 6, "seconds_left": pytest.approx(0.6)},
    ]


def test_where_nobody_knows_how_many_there_are_no_time_is_promised():
    assert so_far("rows", 10, 4.0) == {"num_rows": 10, "rows_per_second": 2.5}
    assert so_far("rows", 0, 0.0, 10) == {"num_rows": 0, "rows_per_second": 0.0, "num_rows_in_all": 10, "seconds_left": 0.0}


def test_what_is_soon_done_says_nothing():
    said: list[Mapping[str, Fact]] = []
    assert list(told(range(3), said.append, "rows")) == [0, 1, 2]
    assert said == []
    assert list(told(range(3), silent, "rows")) == [0, 1, 2]
