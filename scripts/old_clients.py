"""Do older clients of DuckDB read the published store, and does each of them say the same?

    python scripts/old_clients.py [STORE] [--versions 1.2 1.5]

In: a published store, by default the one of the settings' data root; the versions to try. Each is installed by pip into a folder that is
thrown away, so this needs a package index and is no test; that the file is written in the storage format of DuckDB 1.2 is one. Out: for
each version which tables, views and questions of ``docs/sql.md`` it does not answer as today's version does, in its own words. The exit
status is 1 where there is one. What it printed stands in ``docs/log.md``.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from medvl_lib.settings import read_settings
from medvl_lib.workspace import Workspace

PAGE = Path(__file__).parents[1] / "docs" / "sql.md"
ASKED = """
import json, sys
import duckdb

questions = json.load(sys.stdin)
answers = {}
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    for question in questions:
        try:
            rows = connection.execute(question).fetchall()
            answers[question] = [[column[0] for column in connection.description], [[str(value) for value in row] for row in rows]]
        except duckdb.Error as error:
            answers[question] = str(error)
print(json.dumps([duckdb.__version__, answers]))
"""
"""What a client of any version runs: it knows nothing of MedVL."""


def questions(store: Path) -> list[str]:
    """Every table and view of a store, and every question of the documentation."""
    names = "select table_name from duckdb_tables() union all select view_name from duckdb_views() where not internal order by all"
    with duckdb.connect(str(store), read_only=True) as connection:
        found = [f"from {name}" for (name,) in connection.execute(names).fetchall()]
    return [*found, *re.findall(r"^```sql\n(.+?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)]


def ask_with(folder: Path | None, store: Path, asked: list[str]) -> tuple[str, dict[str, object]]:
    """Version and answers of the client in a folder; of the one that is installed without one."""
    environment = {**os.environ, **({} if folder is None else {"PYTHONPATH": str(folder)})}
    ran = subprocess.run(
        [sys.executable, "-c", ASKED, str(store)], input=json.dumps(asked), capture_output=True, text=True, check=True, env=environment
    )
    version, answers = json.loads(ran.stdout)
    return version, answers


def main() -> int:
    """Ask each version; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", nargs="?", type=Path)
    parser.add_argument("--versions", nargs="+", default=["1.2"], metavar="VERSION")
    arguments = parser.parse_args()
    store = arguments.store or Workspace(root=read_settings().data_root).store
    asked = questions(store)
    today, wanted = ask_with(None, store, asked)
    print(f"{store}: {len(asked)} questions, as DuckDB {today} answers them")
    num_different = 0
    for version in arguments.versions:
        with TemporaryDirectory() as folder:
            install = ["install", "--quiet", "--no-deps", "--target", folder, f"duckdb=={version}.*"]
            subprocess.run([sys.executable, "-m", "pip", *install], check=True)
            old, answers = ask_with(Path(folder), store, asked)
        different = {question: answers[question] for question in asked if answers[question] != wanted[question]}
        num_different += len(different)
        print(f"DuckDB {old}: {len(asked) - len(different)} answered alike, {len(different)} not")
        for question, answer in different.items():
            print(f"  {' '.join(question.split())[:100]}: {answer if isinstance(answer, str) else 'other rows'}")
    return int(num_different > 0)


if __name__ == "__main__":
    sys.exit(main())
