"""``medvl override``, ``rollback`` and ``release``: a person's word on what a line serves, recorded with name and reason, and published."""

import argparse
from typing import TYPE_CHECKING

from medvl_lib.cli.arguments import AddVerb, add_person
from medvl_lib.cli.project import checked_settings, line_of, published, workspace_of

if TYPE_CHECKING:
    from medvl_lib.lines import Line
    from medvl_lib.route.pointing import Moved
    from medvl_lib.workspace import Workspace


def add_verbs(add: AddVerb) -> None:
    """What the three take."""
    verb = add("override", help="serve a variant of the current evaluation against the gate's verdict; recorded")
    verb.add_argument("line", metavar="LINE", help="which line")
    verb.add_argument("variant", metavar="VARIANT", help="who is to be served: base, nf4, affine4, int8, adapter or merged")
    add_person(verb)
    verb.set_defaults(run=_and_published, move=_override)

    verb = add("rollback", help="serve again what a line served before, and hold it there until it is released; recorded")
    verb.add_argument("line", metavar="LINE", help="which line")
    add_person(verb)
    verb.set_defaults(run=_and_published, move=_roll_back)

    verb = add("release", help="let a line's pointer move again after a rollback; recorded")
    verb.add_argument("line", metavar="LINE", help="which line")
    add_person(verb)
    verb.set_defaults(run=_and_published, move=_release)


def _and_published(arguments: argparse.Namespace) -> int:
    """Move the pointer as the verb does, and publish: store and report name it as the current decision from now on."""
    settings = checked_settings()
    workspace = workspace_of(settings)
    moved: Moved = arguments.move(workspace, line_of(settings, arguments.line), arguments)
    print(moved.sentence)
    return published(settings, workspace)


def _override(workspace: "Workspace", line: "Line", arguments: argparse.Namespace) -> "Moved":
    from medvl_lib.route.pointing import serve_anyway

    return serve_anyway(workspace, line, arguments.variant, by=arguments.by, reason=arguments.reason)


def _roll_back(workspace: "Workspace", line: "Line", arguments: argparse.Namespace) -> "Moved":
    from medvl_lib.route.pointing import roll_back

    return roll_back(workspace, line, by=arguments.by, reason=arguments.reason)


def _release(workspace: "Workspace", line: "Line", arguments: argparse.Namespace) -> "Moved":
    from medvl_lib.route.pointing import release

    return release(workspace, line, by=arguments.by, reason=arguments.reason)
