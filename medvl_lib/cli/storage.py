"""``medvl gc``: what nothing refers to any more."""

import argparse

from medvl_lib.cli.arguments import AddVerb
from medvl_lib.cli.project import checked_settings, workspace_of


def add_verbs(add: AddVerb) -> None:
    """What it takes."""
    verb = add("gc", help="say which folders nothing refers to any more: no pointer, champion or unfinished run")
    verb.add_argument("--delete", action="store_true", help="remove them; without it nothing is removed")
    verb.set_defaults(run=gc)


def gc(arguments: argparse.Namespace) -> int:
    """Say what no pointer, champion or unfinished run refers to, and remove it when told to."""
    from medvl_lib.route.collecting import find, remove

    workspace = workspace_of(checked_settings())
    found = find(workspace)
    for each in found:
        print(f"{each.num_bytes / 1e6:12,.1f} MB  {each.path.relative_to(workspace.root)}")
    total = f"{len(found)} folders, {sum(each.num_bytes for each in found) / 1e6:,.1f} MB"
    if not arguments.delete:
        print(f"{total}: nothing was removed; `medvl gc --delete` removes them")
        return 0
    removed = remove(workspace, found)
    print(f"{total}; {len(removed)} of them were removed")
    return 0
