"""``medvl pretrain-tiny``: a small model made anew. The graph never does this; it uses the ones that come with MedVL."""

import argparse
from pathlib import Path
from typing import get_args

from medvl_lib.cli.arguments import AddVerb
from medvl_lib.models.spec import Family
from medvl_lib.settings import read_settings

FAMILIES = sorted(get_args(Family))


def add_verbs(add: AddVerb) -> None:
    """What it takes."""
    verb = add("pretrain-tiny", help="train a small model from scratch, as the shipped one was: up to two hours on two cores")
    verb.add_argument("model", metavar="MODEL", choices=FAMILIES, help=f"one of {', '.join(FAMILIES)}")
    verb.add_argument("--output", metavar="FOLDER", required=True, help="gets the model, its card, log and figures, and checkpoints")
    verb.set_defaults(run=pretrain_tiny)


def pretrain_tiny(arguments: argparse.Namespace) -> int:
    """Make a small model anew: about two hours on two cores; started again with the same folder it goes on."""
    from medvl_lib.pretraining.making import make

    make(arguments.model, Path(arguments.output), read_settings(), lambda sentence: print(sentence, flush=True))
    return 0
