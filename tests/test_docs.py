"""The documents say what is there.

If these passed wrongly, the README would draw a tree that is gone, and a dataset would come without its licence.
"""

import argparse
import re
import subprocess
from pathlib import Path

import pytest

from medvl_lib.cli import parser
from medvl_lib.datasets import DATASETS
from medvl_lib.evaluation.metrics import METRICS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
OPENED = ("medvl_lib/", "medvl_assets/", "docs/")
"""Folders whose entries the README's tree lists as well."""


def tree() -> list[str]:
    """The paths that the README's tree names, indentation resolved, folders with a slash at the end."""
    block = README.partition("## What lies where")[2].partition("## ")[0]
    found: list[str] = []
    folder = ""
    for line in re.findall(r"^ {4}( *)(\S+)", block, flags=re.MULTILINE):
        folder = "" if not line[0] else folder
        found.append(folder + line[1])
        folder = line[1] if not line[0] else folder
    return found


def on_disk() -> set[str]:
    """What git would commit, as deep as the tree goes."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if listed.returncode:
        pytest.skip("not a git checkout: what belongs to the project is not known")
    found: set[str] = set()
    for name in filter(None, listed.stdout.splitlines()):
        if not (ROOT / name).exists():
            continue
        first, *rest = Path(name).parts
        if first.startswith(".") and not rest:
            continue
        found.add(f"{first}/" if rest else first)
        if rest and f"{first}/" in OPENED and rest[0] != "__init__.py":
            found.add(f"{first}/{rest[0]}{'/' if len(rest) > 1 else ''}")
    return found


def test_the_readmes_tree_equals_the_disk():
    assert sorted(tree()) == sorted(on_disk())


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_has_a_card_with_its_licence_source_and_what_may_be_shown(name: str):
    card = (ROOT / "docs" / "data-cards" / f"{name}.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([a-z ]+) \| (.+) \|$", card, flags=re.MULTILINE))
    assert {"licence", "source", "may be shown", "reader"} <= rows.keys()
    assert rows["may be shown"].startswith("yes") == DATASETS[name].may_be_shown


def test_every_dataset_is_in_the_settings_file():
    settings = (ROOT / "dagster_project.toml").read_text(encoding="utf-8")
    assert not [name for name in DATASETS if f"[datasets.{name}]" not in settings]


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_a_definition_and_a_source_that_exists(name: str):
    metric = METRICS[name]
    paths = re.findall(r"medvl_lib/\S+", metric.source)
    assert metric.definition.endswith(".")
    assert "https://" in metric.source or paths
    assert not [path for path in paths if not (ROOT / path).is_file()]


def test_every_verb_of_the_command_line_is_in_the_readme():
    verbs = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    assert not [verb for verb in verbs.choices if f"`medvl {verb}" not in README]


def test_every_make_target_is_told_by_make_help():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    told = subprocess.run(["make", "help"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert targets is not None
    assert not [target for target in targets[1].split() if target != "help" and f"make {target}" not in told]


def test_every_link_between_the_documents_leads_somewhere():
    broken = [
        f"{page.name}: {target}"
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert not broken


def test_every_picture_of_the_ui_is_small_and_shown():
    pictures = sorted((ROOT / "docs" / "images").iterdir())
    pages = "".join(page.read_text(encoding="utf-8") for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    assert pictures
    assert not [path.name for path in pictures if path.stat().st_size > 250_000 or f"images/{path.name})" not in pages]


def test_nothing_under_data_is_committed_but_its_readme():
    listed = subprocess.run(["git", "ls-files", "data"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert set(listed.stdout.split()) <= {"data/README.md"}
