"""What loading the graph costs. If this passed wrongly, every start of the UI, of a run or of ``medvl`` would load torch first: seconds and
gigabytes, several times over.
"""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = [
    "torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "datasets", "great_expectations", "gradio", "scipy", "sacrebleu",
    "rouge_score",
]  # fmt: skip
SETTINGS = 'data_root = "data"\nscale = "tiny"\nprofile = "auto"\n[datasets.clinical_documents]\n[datasets.mtsamples]\n'
GRAPH = """
from medvl_assets.definitions import definitions
from medvl_assets.jobs import EVERYTHING
from medvl_lib.settings import read_settings

made = definitions(read_settings())
assert made.resolve_job_def(EVERYTHING).graph.node_defs
"""
REQUEST = "import medvl_lib.launch"  # a heavy process says what is wrong with its request before it loads anything
COMMAND = "import medvl_lib.cli"


@pytest.mark.parametrize("code", [GRAPH, REQUEST, COMMAND], ids=["graph", "request", "command"])
def test_nothing_heavy_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str):
    (tmp_path / "dagster_project.toml").write_text(SETTINGS)
    monkeypatch.setenv("MEDVL_SETTINGS", str(tmp_path / "dagster_project.toml"))
    code += f"\nimport sys\nprint(sorted(set({HEAVY}) & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent)
    assert (ran.returncode, ran.stdout) == (0, "[]\n"), ran.stderr
