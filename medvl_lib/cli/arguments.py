"""What the verbs take: the arguments that several of them share, and the kinds of words that they understand.

In: a word as it was typed. Out: a typed value, or ``argparse.ArgumentTypeError`` that quotes the word. Nothing here reads the settings.
"""

import argparse
import math
import re
from collections.abc import Callable

AddVerb = Callable[..., argparse.ArgumentParser]
"""``add_parser`` of a parser's verbs: a name and its help -> the verb's own parser."""

MAX_PORT = 65_535
WHICH_LINE = "which line; may be left out where there is only one"


def add_line(verb: argparse.ArgumentParser) -> None:
    """``medvl report documents``: a line by its place."""
    verb.add_argument("line", nargs="?", metavar="LINE", help=WHICH_LINE)


def add_line_option(verb: argparse.ArgumentParser) -> None:
    """``--line documents``, of a verb whose place is taken by something else."""
    verb.add_argument("--line", metavar="LINE", help=WHICH_LINE)


def add_person(verb: argparse.ArgumentParser) -> None:
    """``--by`` and ``--reason``: whatever moves a pointer by hand is recorded with both."""
    verb.add_argument("--by", metavar="NAME", required=True, help="who decides")
    verb.add_argument("--reason", metavar="TEXT", required=True, help="why")


def add_largest(verb: argparse.ArgumentParser) -> None:
    """``--tokens`` and ``--pixels``: the largest pair that memory has to hold."""
    verb.add_argument("--tokens", type=positive, metavar="N", help="of the longest conversation; without it audit.max_tokens")
    verb.add_argument("--pixels", type=positive, metavar="N", help="of the largest picture; without it the model's max_pixels")


# -- kinds of words ----------------------------------------------------------------------------------------------------
def positive(text: str) -> int:
    """``20`` -> 20."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def port(text: str) -> int:
    """``8000`` -> 8000; 0 for any that is free."""
    if not text.isdigit() or int(text) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 0 to {MAX_PORT}")
    return int(text)


def counted(text: str) -> tuple[str, int]:
    """``test=20`` -> ("test", 20)."""
    part, _, number = text.partition("=")
    if not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not PART=NUMBER, such as test=20")
    return part, int(number)


def amount(text: str) -> int:
    """``20GB`` -> 20000000000."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?", text)
    number = 0 if found is None else round(float(found[1]) * 1000 ** " kMGT".index(found[2] or " "))
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size, such as 500MB or 20GB")
    return number


def gigabytes(text: str) -> float:
    """``119.7`` -> 119.7."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of gigabytes above 0")
    return found


def dataset(text: str) -> str:
    """The name of a dataset; what is none is refused with their names. They are imported when one is asked for."""
    from medvl_lib.datasets import DATASETS

    if text not in DATASETS:
        raise argparse.ArgumentTypeError(f"{text!r} is no dataset; there are {', '.join(DATASETS)}")
    return text
