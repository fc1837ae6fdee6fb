"""``medvl reviews sheet`` and ``reviews read``: blinded ratings by experts, out and back."""

import argparse
import secrets
from pathlib import Path

from medvl_lib.cli.arguments import AddVerb, add_line, positive
from medvl_lib.cli.project import checked_settings, line_of, published, workspace_of, writable


def add_verbs(add: AddVerb) -> None:
    """What the two take."""
    verb = add("reviews", help="blinded ratings by experts: make a sheet, read what came back")
    doings = verb.add_subparsers(dest="doing", required=True, metavar="WHAT")

    doing = doings.add_parser("sheet", help="write a blinded rating sheet of a line's evaluation")
    add_line(doing)
    doing.add_argument("--output", metavar="FOLDER", required=True, help="gets sheet.csv, to be filled in, and sheet.html, to look at")
    doing.add_argument("--pairs", type=positive, default=20, metavar="N", help="how many test pairs, drawn at random; 20 without it")
    doing.add_argument("--variants", default="base,adapter", metavar="NAME,NAME", help="whose answers; base,adapter without it")
    doing.add_argument("--evaluation", metavar="ID", help="an earlier evaluation, as the store names it; without it the current one")
    doing.add_argument(
        "--raters-may-see", action="append", default=[], metavar="DATASET",
        help="put texts of a dataset that may not be shown into the table: your word that these raters may read them; may be repeated",
    )  # fmt: skip
    doing.add_argument("--seed", metavar="TEXT", help="keep it secret: the same seed makes the same sheet; without it one is drawn")
    doing.set_defaults(run=sheet)

    doing = doings.add_parser("read", help="read filled-in sheets into the store")
    doing.add_argument("files", nargs="+", metavar="FILE", help="sheets as they came back, CSV in UTF-8")
    doing.add_argument("--replace", action="store_true", help="let these ratings take the place of earlier ones by the same rater")
    doing.set_defaults(run=read)


def sheet(arguments: argparse.Namespace) -> int:
    """Write a blinded rating sheet into a folder; whose answers are on it stays in the data root."""
    from medvl_lib.datasets import SHOWN_LICENCES
    from medvl_lib.reviews.sheet import SheetRequest, named_variants
    from medvl_lib.route.reviewing import hand_out, make_sheet

    settings = checked_settings()
    request = SheetRequest(
        num_pairs=arguments.pairs, variants=named_variants(arguments.variants), seed=arguments.seed or secrets.token_hex(16),
        seen_by_raters=tuple(sorted(set(arguments.raters_may_see))),
    )  # fmt: skip
    line, folder = line_of(settings, arguments.line), writable(arguments.output, is_folder=True)
    made = make_sheet(workspace_of(settings), line.name, request, SHOWN_LICENCES, arguments.evaluation)
    table, page = hand_out(made, folder)
    facts = made.facts
    print(
        f"{table}: {facts['num_items']} answers to {facts['num_pairs']} of {facts['num_pairs_to_choose_from']} test pairs, to be filled in"
    )
    print(f"{page}: their pictures, questions and answers; {facts['num_pairs_without_picture']} pairs of it may not be shown there")
    if facts["num_pairs_withheld"]:
        print(f"left out: {facts['num_pairs_withheld']} pairs that the data card does not allow to show (--raters-may-see DATASET)")
    print(f"the key stays in {made.directory}; `medvl reviews read FILE.csv` reads what comes back")
    return 0


def read(arguments: argparse.Namespace) -> int:
    """Read filled-in sheets, and publish what they say."""
    from medvl_lib.reviews.reading import read_reviews

    settings = checked_settings()
    workspace = workspace_of(settings)
    for found in read_reviews(workspace, [Path(name) for name in arguments.files], is_replacing=arguments.replace):
        for filled in found.files:
            print(f"{filled.path}: {len(filled.ratings)} answers rated, {len(filled.empty)} rows left empty")
        facts = found.reviews.facts
        print(
            f"sheet {found.sheet.fingerprint} of {facts['line']}: {facts['num_items_rated']} of {found.sheet.facts['num_items']} answers"
            f" have {facts['num_reviews']} ratings by {facts['num_raters']} raters, {facts['num_comments']} with a comment"
        )
    status = published(settings, workspace)
    print(f"published; `medvl sql expert_ratings` shows means and agreement, `medvl report` has them as well: {workspace.store}")
    return status
