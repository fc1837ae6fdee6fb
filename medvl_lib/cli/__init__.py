"""``medvl``: what needs no Dagster. For the graph, Dagster's own commands are used (``dg dev``, ``dg launch``).

In: the command line. Out: text for a person, and an exit status: 0 done, 1 all is not well (the doctor found something wrong, a plan does
not fit, or time ran out), 2 refused, in three parts on stderr. There is one module for each group of verbs, in the order in which
``medvl --help`` lists them. A verb parses and prints; what it does stands in the room it calls, which is imported when the verb runs, so
that ``medvl`` starts at once.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from medvl_lib.cli import machine, making, pointing, raw_files, reviewing, served, storage, written
from medvl_lib.cli.project import REFUSED
from medvl_lib.errors import MedVLError

VERBS = (
    machine,  # doctor, plan, bench
    raw_files,  # fetch, sample-data
    written,  # report, sql
    reviewing,  # reviews sheet, reviews read
    pointing,  # override, rollback, release
    served,  # serve, export, describe, similar
    storage,  # gc
    making,  # pretrain-tiny
)


def parser() -> argparse.ArgumentParser:
    """The verbs and what they take."""
    whole = argparse.ArgumentParser(prog="medvl", description="What needs no Dagster; the graph is opened with `make ui`.")
    verbs = whole.add_subparsers(dest="verb", required=True, metavar="VERB")
    for group in VERBS:
        group.add_verbs(verbs.add_parser)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line's entry point; what a person can mend is told in three parts, without a traceback."""
    parsed = parser().parse_args(arguments)
    try:
        status = int(parsed.run(parsed))
        sys.stdout.flush()  # here, where a closed pipe is still ours to notice
        return status
    except MedVLError as error:
        print(error, file=sys.stderr)
        return REFUSED
    except BrokenPipeError:  # the reader has seen enough: `medvl sql leaderboard | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more when it flushes
        return 0
