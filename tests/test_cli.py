"""``medvl`` from the outside: what a person types, reads, and gets as an exit status.

If these passed wrongly, a mistake would end in a traceback, and invented files could land among a user's own.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from medvl_lib.benchmark.publish import publish
from medvl_lib.cli import main
from medvl_lib.pointer import Served, move_pointer
from medvl_lib.workspace import Workspace
from tests.report.reported import reported
from tests.reviews.sheets import blank, filled_in, rated_by

SETTINGS = 'data_root = "data"\nscale = "tiny"\nprofile = "cpu"\n[datasets.clinical_documents]\n'


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "dagster_project.toml"
    path.write_text(SETTINGS)
    monkeypatch.setenv("MEDVL_SETTINGS", str(path))
    return path


def test_the_doctor_finds_nothing_wrong_in_a_fresh_project(settings: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert f"settings     {settings}: scale tiny" in said
    assert "profile      cpu: profile = 'cpu' in" in said
    assert "run `medvl sample-data clinical_documents`" in said


def test_the_doctor_names_a_misspelt_setting_and_its_cure(settings: Path, capsys: pytest.CaptureFixture[str]):
    settings.write_text(SETTINGS + "enabeld = true\n")
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "WRONG  settings     unknown key 'enabeld'" in said
    assert "did you mean 'enabled'?" in said


@pytest.mark.parametrize(
    ("gate", "found", "do"),
    [
        ('guardrails = [{ metric = "pair_accuracy", margin = 0.05, slice = "languge=*" }]', "slice = 'languge=*'", "mean 'language'?"),
        ('candidates = [{ variant = "adapter" }, { variant = "nf4", margin = 0.9 }]', "candidates = ", "margin = 0.9 of nf4 must be"),
        ('candidates = [{ variant = "adapter", margin = 0.3 }]', "candidates = ", "margin = 0.3 of adapter must be at most 0.1"),
        ('candidates = [{ variant = "merged" }]', "candidates name merged, which never answers", "further_variants = ['merged']"),
        ('candidates = [{ variant = "adaptor" }]', "variant = 'adaptor'", "did you mean 'adapter'?"),
        ('primary_metric = "closed_accuracy"', "primary_metric names closed_accuracy, which no pair of clinical_documents has",
         "name one that they have: pair_accuracy"),
        ('guardrails = [{ metric = "rouge_l", margin = 0.05 }]', "guardrails names rouge_l, which no pair", "pair_accuracy"),
    ],
    ids=["label", "margin", "adapter margin", "merged", "variant", "primary", "guardrail"],
)  # fmt: skip
def test_the_doctor_refuses_a_gate_that_cannot_be_meant(settings: Path, capsys: pytest.CaptureFixture[str], gate: str, found: str, do: str):
    settings.write_text(f"{SETTINGS}[lines.documents.gate]\n{gate}\n")
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert f"WRONG  {'gate' if 'which no pair' in found else 'settings'}" in said
    assert found in said
    assert f"{settings}, [lines.documents.gate]" in said
    assert do in said


def test_the_doctor_lets_a_candidate_pass_that_answers(settings: Path, capsys: pytest.CaptureFixture[str]):
    more = '[lines.documents.evaluation]\nfurther_variants = ["merged"]\n[lines.documents.gate]\ncandidates = [{ variant = "merged" }]\n'
    settings.write_text(SETTINGS + more)
    assert main(["doctor"]) == 0
    assert "WRONG" not in capsys.readouterr().out


def test_sample_data_fills_the_raw_folder_once(settings: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["sample-data", "--count", "train=1", "--count", "test=0", "--count", "validation=0", "--count", "benchmark=0"]) == 0
    folder = settings.parent / "data" / "raw" / "clinical_documents"
    assert (folder / "train" / "records.jsonl").is_file()
    assert main(["sample-data"]) == 0
    assert capsys.readouterr().out.endswith(f"{folder} holds files already and was left alone\n")


def test_nothing_invented_goes_where_the_settings_name_a_users_own_folder(settings: Path, capsys: pytest.CaptureFixture[str]):
    settings.write_text(SETTINGS + 'raw_path = "mine"\n')
    assert main(["sample-data"]) == 2
    assert "that folder is yours and gets nothing invented" in capsys.readouterr().err
    assert not (settings.parent / "mine").exists()


def test_a_refusal_is_three_lines_on_stderr_and_no_traceback(settings: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["sample-data", "clinical_document"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["found", "where", "do"]
    assert "clinical_documents" in lines[2]


def test_a_count_that_is_no_count_is_refused(settings: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        main(["sample-data", "--count", "train=many"])
    assert "'train=many' is not PART=NUMBER" in capsys.readouterr().err


def test_a_question_before_anything_was_published_is_refused_with_the_cure(settings: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["sql", "leaderboard"]) == 2
    assert "benchmark.duckdb" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (SETTINGS.replace("tiny", "huge"), "scale = 'huge'"),
        (SETTINGS + "[datasets.mtsample]\n", "unknown key 'mtsample'"),
        (SETTINGS + "[lines.documents.gate]\nconfidence = 95\n", "confidence = 95"),
        (SETTINGS + "[datasets.clinical_documents.limits]\nmax_imges = 3\n", "unknown key 'max_imges'"),
        (SETTINGS + "= 3\n", "not TOML"),
        (None, "no readable file"),
    ],
    ids=["value", "dataset", "gate", "limits", "no toml", "absent"],
)
@pytest.mark.parametrize("verb", [["sql", "leaderboard"], ["reviews", "read", "x.csv"], ["report"]], ids=lambda verb: verb[0])
def test_bad_settings_are_refused_by_every_verb(
    settings: Path, capsys: pytest.CaptureFixture[str], verb: list[str], text: str | None, found: str
):
    publish(Workspace(root=settings.parent / "data"))
    if text is None:
        settings.unlink()
    else:
        settings.write_text(text)
    assert main(verb) == 2
    said = capsys.readouterr()
    assert found in said.err.splitlines()[0]
    assert [line.split(":")[0].strip() for line in said.err.splitlines()] == ["found", "where", "do"]
    assert said.out == ""


def test_a_published_store_answers_by_name_and_by_question(settings: Path, capsys: pytest.CaptureFixture[str]):
    publish(Workspace(root=settings.parent / "data"))
    assert main(["sql", "leaderboard"]) == 0
    assert capsys.readouterr().out.endswith("(0 rows)\n")
    assert main(["sql", "select 1 as one, 'two' as two"]) == 0
    assert capsys.readouterr().out == "one  two\n---  ---\n  1  two\n(1 row)\n"


def test_an_answer_can_be_had_whole_for_a_program(settings: Path, capsys: pytest.CaptureFixture[str]):
    publish(Workspace(root=settings.parent / "data"))
    question = "select repeat('long ', 100) as words, 1 / 3 as third"
    assert main(["sql", question]) == 0
    assert "…" in capsys.readouterr().out
    assert main(["sql", "--csv", question]) == 0
    assert capsys.readouterr().out == f"words,third\n{'long ' * 100},{1 / 3}\n"
    assert main(["sql", question, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"words": "long " * 100, "third": 1 / 3}]
    with pytest.raises(SystemExit, match="2"):
        main(["sql", question, "--json", "--csv"])


def test_a_question_that_is_no_sql_is_refused_with_the_databases_words(settings: Path, capsys: pytest.CaptureFixture[str]):
    publish(Workspace(root=settings.parent / "data"))
    assert main(["sql", "selec 1"]) == 2
    assert "Parser Error" in capsys.readouterr().err


def test_the_command_line_starts_without_anything_heavy():
    code = "import sys, medvl_lib.cli as c; c.parser(); print([n for n in ('torch', 'duckdb', 'pyarrow', 'pandas') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_seen_enough_is_no_error(settings: Path, monkeypatch: pytest.MonkeyPatch, unbuffered: str):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    code = "import sys; from medvl_lib.cli import main; sys.stdin.read(); sys.exit(main(['doctor']))"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.fixture
def evaluated(settings: Path) -> Path:
    """A data root with an evaluation of the settings' one line."""
    reported(settings.parent / "data")
    return settings.parent / "data"


def test_a_report_is_a_page_below_the_data_root(evaluated: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report"]) == 0
    [page] = (evaluated / "reports").iterdir()
    assert capsys.readouterr().out == f"{page}\n"
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_report_for_machines_is_printed_or_written_where_it_is_wanted(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["report", "documents", "--json"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["decisions"][0]["verdict"] == "promote"
    assert main(["report", "documents", "--json", "--output", str(tmp_path / "r.json")]) == 0
    assert (tmp_path / "r.json").read_text(encoding="utf-8") == printed
    assert main(["report", "--markdown"]) == 0
    assert "# documents: promote" in capsys.readouterr().out
    assert not (evaluated / "reports").exists()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("", "found: '', which names nothing"),
        (" ", "which names nothing"),
        ("{folder}", "found: a folder"),
        ("{file}/r.json", "and no folder"),
    ],
)
def test_a_report_that_can_be_written_nowhere_is_refused_in_three_lines(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, found: str
):
    assert main(["report", "--json", "--output", name.format(folder=tmp_path, file=settings)]) == 2
    said = capsys.readouterr().err
    assert found in said
    assert said.splitlines()[2] == "  do:    name a file, such as report.html"


def test_a_sheet_that_can_be_written_nowhere_is_refused_in_three_lines(settings: Path, capsys: pytest.CaptureFixture[str]):
    for name, found in (("", "'', which names nothing"), (str(settings), "a file")):
        assert main(["reviews", "sheet", "--output", name]) == 2
        assert capsys.readouterr().err.splitlines()[0] == f"found: {found}"


def test_a_report_quotes_only_datasets_whose_cards_allow_it(evaluated: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["examples"]
    assert (found["lowest"], found["lost"]) == ([], [])
    assert [withheld["dataset"] for withheld in found["withheld"]] == ["forms", "forms", "secret"]


def test_a_report_on_an_unknown_line_or_evaluation_is_refused_with_what_there_is(evaluated: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", "document"]) == 2
    assert "name one of documents" in capsys.readouterr().err
    assert main(["report", "--evaluation", "e1"]) == 2
    assert "no evaluation 'e1'" in capsys.readouterr().err


def test_of_two_lines_one_must_be_named(settings: Path, capsys: pytest.CaptureFixture[str]):
    settings.write_text(SETTINGS + '[lines.second]\nlike = "documents"\n')
    assert main(["report"]) == 2
    assert "name one of documents, second" in capsys.readouterr().err


def test_a_report_before_the_first_evaluation_says_what_to_do(settings: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report"]) == 2
    assert "materialize documents/benchmark" in capsys.readouterr().err


def test_a_rating_sheet_goes_out_and_comes_back(settings: Path, capsys: pytest.CaptureFixture[str]):
    reported(settings.parent / "data")
    folder = settings.parent / "sheet"
    assert main(["reviews", "sheet", "--output", str(folder), "--pairs", "3"]) == 2
    assert "none of which may be shown" in capsys.readouterr().err
    assert main(["reviews", "sheet", "documents", "--output", str(folder), "--pairs", "3", "--raters-may-see", "forms"]) == 0
    said = capsys.readouterr().out
    assert f"{folder / 'sheet.csv'}: 6 answers to 3 of 60 test pairs" in said
    assert "3 pairs of it may not be shown there" in said
    rated = filled_in(settings.parent / "anna.csv", rated_by("Anna", blank(folder / "sheet.csv"), lambda _: 3), delimiter=";")
    assert main(["reviews", "read", str(rated)]) == 0
    assert "6 of 6 answers have 6 ratings by 1 raters" in capsys.readouterr().out
    assert main(["sql", "select variant, mean from expert_ratings where question = 'correctness' and variant != 'all'"]) == 0
    assert "(2 rows)" in capsys.readouterr().out


def test_a_bad_rating_is_refused_in_three_lines(settings: Path, capsys: pytest.CaptureFixture[str]):
    path = filled_in(settings.parent / "anna.csv", [{"item": "r1", "rater": "Anna", "correctness": "9"}])
    assert main(["reviews", "read", str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "found: '9'"
    assert lines[1] == f"  where: {path}, line 2, column correctness"


def test_a_sheet_that_cannot_be_meant_is_refused(settings: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        main(["reviews", "sheet", "--output", "x", "--pairs", "0"])
    assert "'0' is no number from 1 on" in capsys.readouterr().err
    assert main(["reviews", "sheet", "--output", "x", "--variants", "base,adaptor"]) == 2
    assert "did you mean 'adapter'?" in capsys.readouterr().err


# -- the pointer -------------------------------------------------------------------------------------------------------
def test_a_pointer_is_rolled_back_and_released_with_name_and_reason(settings: Path, capsys: pytest.CaptureFixture[str]):
    why = ["--by", "Dr. Adler", "--reason", "complaints from the ward"]
    workspace = Workspace(root=settings.parent / "data")
    assert main(["rollback", "documents", *why]) == 2
    assert "nothing was ever promoted" in capsys.readouterr().err
    move_pointer(workspace, Served(
        line="documents", variant="nf4", weights_step="nf4_model", weights_fingerprint="0" * 16, adapter_step=None,
        adapter_fingerprint=None, data_version="1" * 16, decision_step="promotion", decision="2" * 16,
    ))  # fmt: skip
    assert main(["rollback", "documents", *why]) == 0
    said = capsys.readouterr().out
    assert said.startswith("rolled back by Dr. Adler; documents serves the base model as it is")
    assert "held by Dr. Adler since" in said
    assert main(["release", "documents", *why]) == 0
    assert main(["sql", "select action, is_holding from rollbacks"]) == 0
    assert "(2 rows)" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["rollback", "documents"])


@pytest.mark.parametrize("said", ["99999", "65536", "-1", "http", "8000.5"])
def test_a_port_that_is_none_is_refused(settings: Path, said: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "documents", "--port", said])
    assert "port" in capsys.readouterr().err


def test_the_copy_of_the_benchmark_knows_of_a_rollback_and_a_place_that_is_away_takes_none_back(
    settings: Path, capsys: pytest.CaptureFixture[str]
):
    why, place = ["--by", "Dr. Adler", "--reason", "complaints from the ward"], settings.parent / "place"
    settings.write_text(f'benchmark_url = "file://{place}"\n{SETTINGS}')
    workspace = Workspace(root=settings.parent / "data")
    move_pointer(workspace, Served(
        line="documents", variant="nf4", weights_step="nf4_model", weights_fingerprint="0" * 16, adapter_step=None,
        adapter_fingerprint=None, data_version="1" * 16, decision_step="promotion", decision="2" * 16,
    ))  # fmt: skip
    assert main(["rollback", "documents", *why]) == 0
    assert (place / "benchmark.duckdb").read_bytes() == workspace.store.read_bytes()
    capsys.readouterr()
    (place / "benchmark.duckdb").unlink()
    place.rmdir()
    place.write_text("a file, where a folder was")
    assert main(["release", "documents", *why]) == 1  # done, and not refused
    said = capsys.readouterr()
    assert said.out.startswith("released by Dr. Adler")
    assert "the benchmark is published here, and no copy of it arrived" in said.err
    assert main(["sql", "select action, is_holding from rollbacks"]) == 0
    assert "(2 rows)" in capsys.readouterr().out


def test_what_nothing_refers_to_is_listed_and_removed_only_when_told(settings: Path, capsys: pytest.CaptureFixture[str]):
    workspace = Workspace(root=settings.parent / "data")
    assert main(["gc"]) == 0
    assert "0 folders, 0.0 MB: nothing was removed" in capsys.readouterr().out
    aside = workspace.directory("adapter", "documents", ".0123.damaged-0")
    aside.mkdir(parents=True)
    assert main(["gc"]) == 0
    assert "adapter/documents/.0123.damaged-0" in capsys.readouterr().out
    assert aside.is_dir()
    assert main(["gc", "--delete"]) == 0
    assert "1 of them were removed" in capsys.readouterr().out
    assert not aside.exists()
