"""Contexts from tables in which every cell says which row it is from: 240 of them each time, ten thousand
among the slow tests. If this passed wrongly, something from after a study, or from a column that nobody may read, would be in what a model
learns from.

Times lie on a coarse grid, so that many fall on the very second of a study; one in ten is missing. What was on record before a study is
worked out row by row in plain Python, by the rules as the docstring of ``contexts`` states them.
"""

import datetime as dt
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from random import Random

import pytest

from medvl_lib.ehr.availability import rules
from medvl_lib.ehr.contexts import CONTEXTS, JOIN, Limits, write_contexts
from medvl_lib.ehr.facts import EhrContext, Study
from medvl_lib.tables import read_table
from tests.ehr.tables import HEADERS, write_hosp

NUM_STUDIES = 4
BEGIN = dt.datetime(2180, 1, 1)  # noqa: DTZ001 (the publisher's shifted calendar has no zone)
STEP = dt.timedelta(hours=6)
NUM_STEPS = 40
LEAK = "LEAK"
ITEMS = ("51", "52", "53")
Moment = dt.datetime | None


class Planted:
    """The tables, and for every marker what it takes for its row to have been on record."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.rows: dict[str, list[dict[str, object]]] = {table: [] for table in HEADERS}
        self.times: dict[str, dict[int, tuple[str, tuple[Moment, ...]]]] = defaultdict(dict)
        """By patient: marker -> kind, and the times that decide."""
        self.stays: dict[str, dict[int, list[int]]] = defaultdict(dict)
        """By patient: an admission's marker -> those of its diagnoses."""
        self.rows["d_labitems"] = [{"itemid": item, "label": f"Item {item}", "fluid": "Blood", "category": "Chemistry"} for item in ITEMS]

    def mark(self) -> int:
        return 1_000_000 + sum(map(len, self.rows.values()))

    def moment(self) -> Moment:
        return None if self.chance.random() < 0.1 else BEGIN + STEP * self.chance.randrange(NUM_STEPS)

    def add(self, table: str, patient: str, kind: str, times: tuple[Moment, ...], **cells: object) -> int:
        mark = self.mark()
        self.times[patient][mark] = (kind, times)
        written = {name: value if not isinstance(value, dt.datetime) else str(value) for name, value in cells.items()}
        marked = {name: value.replace("@", f"Q{mark}Q") if isinstance(value, str) else value for name, value in written.items()}
        self.rows[table].append({"subject_id": patient, **{name: "" if value is None else value for name, value in marked.items()}})
        return mark

    def patient(self, patient: str) -> None:
        chance = self.chance
        self.rows["patients"].append({"subject_id": patient, "gender": "F", "anchor_age": 50, "anchor_year": 2180})
        for _ in range(chance.randint(1, 3)):
            self.admission(patient)
        for _ in range(12):
            charted, stored = self.moment(), self.moment()
            self.add(
                "labevents", patient, "lab", (charted, stored), labevent_id=f"{self.mark()}", itemid=chance.choice(ITEMS),
                charttime=charted, storetime=stored, value=chance.choice(["@", "@", "@", "___"]),
                valuenum=chance.choice(["", "1", "2"]), valueuom="u", ref_range_lower="", ref_range_upper="", flag="abnormal",
            )  # fmt: skip
        for _ in range(6):
            started = self.moment()
            self.add(
                "prescriptions", patient, "medication", (started,), starttime=started, drug_type="MAIN", route="@",
                drug=chance.choice(["drug @", "drug"]), dose_val_rx=chance.choice(["@", "1-2 @", "500-1000 @", "___"]), dose_unit_rx="@",
            )  # fmt: skip

    def admission(self, patient: str) -> None:
        began, ended = self.moment(), self.moment()
        hadm_id = f"H{self.mark()}"
        mark = self.add(
            "admissions", patient, "admission", (began, ended), hadm_id=hadm_id, admittime=began, dischtime=ended, admission_type="type @",
            admission_location="place @",
        )  # fmt: skip
        moved = self.moment()
        self.add("services", patient, "service", (moved,), hadm_id=hadm_id, transfertime=moved, curr_service="@")
        billed: list[int] = []
        for number in range(2):
            code = f"{self.mark()}"
            billed.append(
                self.add(
                    "diagnoses_icd", patient, "diagnosis", (began, ended), hadm_id=hadm_id, seq_num=number + 1, icd_code=f"Q{code}Q",
                    icd_version="10",
                )
            )  # fmt: skip
            self.rows["d_icd_diagnoses"].append({"icd_code": f"Q{code}Q", "icd_version": "10", "long_title": f"title Q{code}Q"})
        self.stays[patient][mark] = billed

    def was_on_record(self, patient: str, mark: int, study: dt.datetime) -> bool:
        """By the rules: a missing time decides against the row."""
        kind, times = self.times[patient][mark]
        if None in times:
            return False
        if kind == "admission":
            began, ended = times
            return began <= study <= ended
        if kind == "diagnosis":
            began, ended = times
            return began <= ended < study
        return all(time < study for time in times)


def marks(value: object) -> set[int]:
    return {int(mark) for mark in re.findall(r"Q(\d+)Q", str(value))}


def studies(planted: Planted) -> Iterator[Study]:
    for patient in planted.times:
        for number in range(NUM_STUDIES):
            time = BEGIN + STEP * planted.chance.randrange(NUM_STEPS)
            yield Study(subject_id=patient, study_id=f"{patient}-{number}", study_time=time.isoformat())


@pytest.fixture(scope="module", params=[60, pytest.param(2500, marks=pytest.mark.slow)])
def planted(request: pytest.FixtureRequest) -> Planted:
    found = Planted(seed=7)
    for number in range(request.param):
        found.patient(f"1{number:07}")
    return found


@pytest.fixture(scope="module")
def hosp(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hosp(tmp_path_factory.mktemp("hosp"), unnamed=LEAK, suffix=".csv", **planted.rows)


@pytest.fixture(scope="module")
def written(planted: Planted, hosp: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("contexts")
    write_contexts(directory, hosp, studies(planted), Limits(max_length=1_000_000))
    return directory


def test_no_later_row_and_no_forbidden_column_is_in_any_context(planted: Planted, written: Path):
    seen, kept_out, leaks = Counter[str](), Counter[str](), []
    for context in read_table(written / CONTEXTS, EhrContext):
        time, patient = dt.datetime.fromisoformat(context.study_time), context.subject_id
        facts = marks(asdict(replace(context, target_diagnoses=(), left_out=())))
        allowed = {mark for mark in planted.times[patient] if planted.was_on_record(patient, mark, time)}
        leaks += [(context.study_id, mark) for mark in facts - allowed]
        leaks += [(context.study_id, word) for word in (LEAK, "___") if word in str(context)]
        seen.update(planted.times[patient][mark][0] for mark in facts)
        kept_out.update(kind for mark, (kind, _) in planted.times[patient].items() if mark not in allowed)
    assert leaks == []
    num_contexts = NUM_STUDIES * len(planted.times)
    assert min(seen[kind] for kind in ("lab", "medication", "diagnosis", "admission", "service")) > num_contexts / 10, seen
    assert min(kept_out.values()) > num_contexts / 2, kept_out


def test_the_target_is_what_was_billed_for_the_admission_that_contains_the_study(planted: Planted, written: Path):
    num_contexts = num_with_target = 0
    for context in read_table(written / CONTEXTS, EhrContext):
        num_contexts += 1
        [stay] = marks(context.admission and context.admission.admission_type) or [None]
        billed = planted.stays[context.subject_id][stay] if stay else []
        assert [mark for code in context.target_diagnoses for mark in marks(code.icd_code)] == billed
        assert not marks(context.text) & set(billed)
        num_with_target += bool(billed)
    assert num_contexts == NUM_STUDIES * len(planted.times)
    assert num_with_target > num_contexts / 10


def test_a_study_in_an_admission_has_one(planted: Planted, written: Path):
    for context in read_table(written / CONTEXTS, EhrContext):
        time = dt.datetime.fromisoformat(context.study_time)
        containing = [stay for stay in planted.stays[context.subject_id] if planted.was_on_record(context.subject_id, stay, time)]
        assert (context.admission is not None) == bool(containing)


def test_the_rules_find_nothing_in_them(hosp: Path, written: Path):
    assert {rule.name: rule.holds(written).passed for rule in rules(hosp)} == {
        "no_future_information": True,
        "targets_are_of_the_same_admission": True,
        "every_diagnosis_has_its_title": True,
        "columns_are_as_declared": True,
    }


WEAKER = {
    "a result stored in the second of the study": ("when stored >= study_time", "when stored > study_time", "lab"),
    "a result that nobody says when it was stored": ("moment(storetime)", "coalesce(moment(storetime), moment(charttime))", "lab"),
    "a result charted in the second of the study": ("(charted < study_time and", "(charted <= study_time and", "lab"),
    "a drug begun in the second of the study": ("(started < study_time and", "(started <= study_time and", "medication"),
    "an admission that ends in the second of the study": ("ended < study_time", "ended <= study_time", "diagnosis"),
    "an admission that nobody says when it ended": (
        "began <= ended and ended < study_time",
        "coalesce(ended, began) < study_time",
        "diagnosis",
    ),
    "a service that takes over in the second of the study": ("moment(transfertime) < study", "moment(transfertime) <= study", "service"),
    "an admission that begins later": ("where began <= study_time and", "where began is not null and", "admission"),
}
"""What a join would let in with one comparison weaker than it is."""


@pytest.mark.slow
@pytest.mark.parametrize("planted", [60], indirect=True)
@pytest.mark.parametrize("name", WEAKER)
def test_a_weaker_join_is_caught_by_the_rule(name: str, planted: Planted, hosp: Path, tmp_path: Path, monkeypatch):
    strict, weak, kind = WEAKER[name]
    join = JOIN.read_text(encoding="utf-8")
    assert strict in join
    (tmp_path / "weaker.sql").write_text(join.replace(strict, weak), encoding="utf-8")
    monkeypatch.setattr("medvl_lib.ehr.contexts.JOIN", tmp_path / "weaker.sql")
    write_contexts(tmp_path, hosp, studies(planted), Limits(max_length=1_000_000))
    found = {rule.name: rule.holds(tmp_path) for rule in rules(hosp)}["no_future_information"]
    assert not found.passed
    assert kind in found.offenders[0]
