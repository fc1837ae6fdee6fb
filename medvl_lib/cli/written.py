"""``medvl report`` and ``sql``: what was found out, as a page for a reviewer and as answers to questions. Nothing is computed here."""

import argparse

from medvl_lib.cli.arguments import AddVerb, add_line
from medvl_lib.cli.project import checked_settings, line_of, workspace_of, writable
from medvl_lib.files import write_bytes


def add_verbs(add: AddVerb) -> None:
    """What the two take."""
    verb = add("report", help="write the report of a line's evaluation, to be read, printed and signed")
    add_line(verb)
    form = verb.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the same content for machines; printed, without --output")
    form.add_argument("--markdown", action="store_true", help="the same content as Markdown; printed, without --output")
    verb.add_argument("--evaluation", metavar="ID", help="an earlier evaluation, as the store names it; without it the current one")
    verb.add_argument("--output", metavar="FILE", help="where to write; without it a page goes below the data root")
    verb.set_defaults(run=report)

    verb = add("sql", help="ask the published benchmark")
    verb.add_argument("question", metavar="QUESTION", help="an SQL question, or the name of a table or view: leaderboard")
    form = verb.add_mutually_exclusive_group()
    form.add_argument("--csv", dest="form", action="store_const", const="csv", help="print every value whole, as comma-separated lines")
    form.add_argument("--json", dest="form", action="store_const", const="json", help="print every value whole, as a list of objects")
    verb.set_defaults(run=sql, form="table")


def report(arguments: argparse.Namespace) -> int:
    """Write what is known of a line's evaluation: a page by default, Markdown or JSON to the terminal when asked for."""
    from medvl_lib.benchmark.terms import Terms
    from medvl_lib.datasets import SHOWN_LICENCES
    from medvl_lib.report import content, gather, html, markdown

    wanted = None if arguments.output is None else writable(arguments.output)
    settings = checked_settings()
    workspace, line = workspace_of(settings), line_of(settings, arguments.line)
    now = Terms(gate=line.gate, evaluation=line.evaluation)
    found = gather.gather(workspace, gather.find(workspace, line.name, arguments.evaluation), SHOWN_LICENCES, now)
    text = (content.as_json if arguments.json else markdown.render_markdown if arguments.markdown else html.render_html)(found)
    if wanted is None and (arguments.json or arguments.markdown):
        print(text, end="")
        return 0
    path = workspace.page(line.name, found.evaluation_id) if wanted is None else wanted
    write_bytes(path, text.encode())
    print(path)
    return 0


def sql(arguments: argparse.Namespace) -> int:
    """Ask the published benchmark, read-only."""
    from medvl_lib.benchmark.publish import ask
    from medvl_lib.benchmark.terminal import render_csv, render_json, render_table

    answer = ask(workspace_of(checked_settings()), arguments.question)
    render = {"table": render_table, "csv": render_csv, "json": render_json}[arguments.form]
    print(render(answer.columns, answer.rows))
    return 0
