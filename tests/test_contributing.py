"""CONTRIBUTING.md, "Add a dataset", done step by step for a set that does not exist.

If this passed wrongly, a user who follows the page would end with a dataset that the graph does not have, or have to write Dagster code.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NAME = "wrist_xray"

READER = '''"""Wrists: invented for a test. Licence: CC0-1.0. A file ``left.png`` becomes a pair that says so."""

import functools
from collections.abc import Iterator
from pathlib import Path

from medvl_lib.datasets import picture_files, raw_folder
from medvl_lib.datasets.descriptions import DESCRIBE
from medvl_lib.pairs import Dataset, Draft, ImageSource, Pair, Reading

NAME = "wrist_xray"


def read(root: Path) -> Iterator[Reading]:
    """A draft per picture; raises InputMissing where there is none."""
    pictures = list(picture_files.pictures(root))
    if not pictures:
        raise raw_folder.missing(NAME, root, "*.png")
    for path in pictures:
        pair = Pair(
            pair_id=f"{NAME}/{path.stem}", dataset=NAME, image_ids=(), request=DESCRIBE["en"], expected=(),
            response=f"Radiograph of a {path.stem} wrist.", subject_id=path.stem, document_id=path.stem,
            publisher_split=None, language="en", source=path.name, licence="CC0-1.0", metadata={},
        )
        yield Draft(pair=pair, images=(ImageSource(name=path.name, data=functools.partial(Path.read_bytes, path)),))


DATASET = Dataset(
    name=NAME, title="Wrists", licence="CC0-1.0", source="invented", may_be_shown=True, read=read, revision=1, rejected_share_budget=0.5,
)
'''
GENERATOR = '''"""Invented wrists: two pictures, and one that is cut short."""

from collections.abc import Mapping
from pathlib import Path

from medvl_lib.sample_data import draws
from medvl_lib.sample_data.knees import draw_knee
from medvl_lib.sample_data.pathvqa import encoded

COUNTS = {"wrists": 2}


def write_raw(root: Path, counts: Mapping[str, int], seed: int) -> int:
    """Fill an empty folder."""
    (root / "README.md").write_text("# Invented data: wrists", encoding="utf-8")
    names = ["left", "right", "broken"]
    for name in names:
        data = encoded(draw_knee(draws.seeded(f"wrist/{seed}/{name}"), 0, shows_side=True).image(), "PNG")
        (root / f"{name}.png").write_bytes(data[: len(data) // 2] if name == "broken" else data)
    return len(names)
'''
CARD = """# wrist_xray

| | |
|---|---|
| licence | CC0-1.0 |
| source | invented |
| may be shown | yes |
| reader | `medvl_lib/datasets/wrist_xray.py` |
"""
TEST = '''"""Wrists. If this passed wrongly, a left wrist could be called a right one."""

from pathlib import Path

from medvl_lib.datasets import wrist_xray as dataset
from tests.datasets.readings import pairs


def test_a_picture_says_which_wrist_it_is(tmp_path: Path):
    (tmp_path / "left.png").write_bytes(b"wrist")
    assert [pair.response for pair in pairs(dataset.read(tmp_path))] == ["Radiograph of a left wrist."]
'''
TABLE = "\n[datasets.wrist_xray]\nenabled = true\n"
MATERIALIZE = """
import json
import dagster as dg
from medvl_assets.definitions import definitions
from medvl_assets.jobs import EVERYTHING
from medvl_lib.settings import read_settings

made = definitions(read_settings())
keys = [dg.AssetKey(["wrist_xray", step]) for step in ("raw_records", "pairs", "validated_pairs")]
done = made.resolve_job_def(EVERYTHING).execute_in_process(asset_selection=keys, instance=dg.DagsterInstance.ephemeral())
rows = done.asset_materializations_for_node("wrist_xray__validated_pairs")[0].metadata
counts = [rows["num_pairs"].value, rows["rejected_image_unreadable"].value]
passed = [check.passed for check in done.get_asset_check_evaluations()]
print(json.dumps([done.success, *counts, len(passed), all(passed)]))
"""


def copy_of_the_project(root: Path) -> Path:
    """What a contributor has checked out, without what git ignores."""
    for folder in ("medvl_lib", "medvl_assets", "tests", "docs"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("dagster_project.toml", "pyproject.toml", "README.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / file, root / file)
    return root


def put(root: Path, place: str, text: str) -> None:
    (root / place).write_text(text, encoding="utf-8")


def insert(root: Path, place: str, before: str, text: str) -> None:
    """One more entry in a file, before a line that is there."""
    found = (root / place).read_text(encoding="utf-8")
    assert found.count(before) == 1, f"{place} has {found.count(before)} times {before!r}"
    put(root, place, found.replace(before, text + before))


def run(root: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(root), "MEDVL_SETTINGS": str(root / "dagster_project.toml")}
    ran = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=root, env=environment)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    return ran.stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.py")}


def test_the_page_has_five_steps_and_names_each_place():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Add a dataset")[2].partition("## ")[0]
    assert re.findall(r"^(\d)\. `([^`]+)`", page, flags=re.MULTILINE) == [
        ("1", "medvl_lib/datasets/<name>.py"), ("2", "medvl_lib/datasets/__init__.py"), ("3", "medvl_lib/sample_data/<name>.py"),
        ("4", "docs/data-cards/<name>.md"), ("5", "tests/datasets/test_<name>.py"),
    ]  # fmt: skip
    assert "No Dagster code." in page


@pytest.mark.slow
def test_the_five_steps_are_enough(tmp_path: Path):
    root = copy_of_the_project(tmp_path / "project")
    put(root, f"medvl_lib/datasets/{NAME}.py", READER)  # 1
    insert(root, "medvl_lib/datasets/__init__.py", "    slake,\n)\nfrom", f"    {NAME},\n")  # 2
    insert(root, "medvl_lib/datasets/__init__.py", "knee_xray, pad_ufes_20, slake,", f"{NAME}, ")
    put(root, f"medvl_lib/sample_data/{NAME}.py", GENERATOR)  # 3
    insert(root, "medvl_lib/sample_data/__init__.py", "    slake,\n)\n", f"    {NAME},\n")
    entry = f'    "{NAME}": Generator(write_raw={NAME}.write_raw, counts={NAME}.COUNTS),\n'
    insert(root, "medvl_lib/sample_data/__init__.py", '    "slake": Generator', entry)
    put(root, f"docs/data-cards/{NAME}.md", CARD)  # 4
    put(root, f"tests/datasets/test_{NAME}.py", TEST)  # 5
    put(root, "dagster_project.toml", (root / "dagster_project.toml").read_text(encoding="utf-8") + TABLE)

    assert f"{NAME}: 3 invented records" in run(root, "-m", "medvl_lib.cli", "sample-data", NAME)
    said = run(root, "-c", MATERIALIZE).splitlines()[-1]
    num_checks = 1 + 3 + 7  # of raw records, pairs and validated pairs
    assert said == f"[true, 2, 1, {num_checks}, true]"
    own = [f"tests/datasets/test_{NAME}.py", "tests/test_docs.py", "-k", f"{NAME} or wrist or settings_file"]
    passed = run(root, "-m", "pytest", "-q", "-p", "no:cacheprovider", *own)
    assert re.search(r"3 passed", passed), passed
    assert contents(root / "medvl_assets") == contents(ROOT / "medvl_assets")
