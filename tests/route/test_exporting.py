"""`medvl export` on a line that was really trained, evaluated and decided. If these passed wrongly, a folder could be handed on that says
something else than what was judged, or that nobody ever compared.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from medvl_lib.cli import main
from medvl_lib.export import plain
from medvl_lib.models import exporting
from tests import demo_runs

pytestmark = pytest.mark.soak
LINE = "documents"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project after its demo, whose adapter a person serves."""
    found = demo_runs.project(tmp_path_factory.mktemp("project"))
    status, said = demo_runs.run(found)
    assert status == 0, said
    return found


@pytest.fixture
def _here(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDVL_SETTINGS", str(settings))


def export(folder: Path, *more: str) -> int:
    return main(["export", LINE, "--output", str(folder), *more])


@pytest.mark.usefixtures("_here")
def test_a_base_model_that_is_served_is_exported_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(tmp_path / "out", "--pairs", "2") == 0
    said = capsys.readouterr().out
    assert "documents serves the base model as it is" in said
    assert "model: 2 of 2 answers by plain transformers are MedVL's own" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model"]
    found = json.loads((tmp_path / "out" / "model" / "parity.json").read_text())
    assert (found["holds"], found["is_judged"], found["comparisons"][1]["against"]) == (True, True, "evaluated")


@pytest.mark.usefixtures("_here")
def test_an_adapter_is_exported_loaded_by_the_lines_of_its_card_and_refused_where_it_says_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["override", LINE, "adapter", "--by", "Dr. Secret", "--reason", "for the test"]) == 0
    assert export(tmp_path / "out", "--pairs", "3") == 0
    said = capsys.readouterr().out
    assert "adapter: 3 of 3 answers by plain transformers are MedVL's own" in said
    assert "merged: 3 of 3 answers by plain transformers are MedVL's own" in said
    out = tmp_path / "out"
    for kind in ("adapter", "base", "merged"):
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=out / kind, check=True)
        card = (out / kind / "README.md").read_text()
        assert ModelCard(card).data.license == "apache-2.0"
        assert "Dr. Secret" not in card
        assert "for the test" not in card
    card = (out / "adapter" / "README.md").read_text()
    for words in ("Out of scope: clinical decisions", "## The gate's verdict", "| pair_accuracy |", "| `lora_rank` | 32 |", "CC0-1.0"):
        assert words in card
    _the_cards_lines_answer(out, card)

    assert export(out) == 2  # it is there already
    whole = exporting.write_how_it_is_asked

    def shorter(directory: Path, base: Path, spec: object, max_answer_tokens: int) -> None:
        whole(directory, base, spec, 3 if directory.name == "adapter" else max_answer_tokens)

    monkeypatch.setattr(exporting, "write_how_it_is_asked", shorter)  # the damage: the folder asks for three tokens
    capsys.readouterr()
    assert export(tmp_path / "other", "--pairs", "2") == 2
    assert "adapter: 0 of 2 answers are those of MedVL with the same weights" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert export(tmp_path / "other", "--pairs", "2", "--unchecked") == 0
    assert "**Unchecked**: adapter: 0 of 2 answers" in (tmp_path / "other" / "adapter" / "README.md").read_text()
    assert json.loads((tmp_path / "other" / "adapter" / "parity.json").read_text())["holds"] is False


def _the_cards_lines_answer(out: Path, card: str) -> None:
    """The block of the card, run as it stands, in a process that cannot import MedVL."""
    from medvl_lib.pages import text_page
    from tests.torch_fixtures import STYLE

    (out / "page.png").write_bytes(text_page(["Potassium: 4.1 mmol/L"], STYLE))
    found = re.search(r"```python\n(.+?)```", card, re.DOTALL)
    assert found
    ran = subprocess.run([sys.executable, "-I", "-c", f"{plain.BARRED}\n{found[1]}"], cwd=out, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()
    (out / "page.png").unlink()
