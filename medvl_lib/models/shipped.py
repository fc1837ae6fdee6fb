"""The small models that come with MedVL, already trained: are they here, and are they what was trained? No torch here.

In: a family's name. Out: the directory of its weights with every byte checked, or None where the package was installed without it.
How they were trained, and what they can do, stands in docs/model-cards; making them again is ``pretraining``'s work.
"""

from collections.abc import Mapping
from pathlib import Path

from medvl_lib.errors import MedVLError
from medvl_lib.files import read_json, sha256_of_file, write_json
from medvl_lib.models.spec import Family
from medvl_lib.provenance import Outcome, Rule, digest

DIRECTORY = Path(__file__).parent / "tiny"
PINNED: Mapping[Family, str] = {
    "qwen2_5_vl": "41dd5ca3c6a46deb", "mllama": "806662cde42d6515", "llava_med": "1784d41c074439b2", "siglip": "f88e78cd593a0601",
}  # fmt: skip
"""``contents`` of each family's directory: the fingerprint of what ``medvl pretrain-tiny`` made."""
ORIGIN = "origin.json"  # in a small model's directory: where its weights come from
RANDOM = "random"


def contents(directory: Path) -> str:
    """A hash over the names and bytes of a directory's files."""
    return digest({path.name: sha256_of_file(path) for path in sorted(directory.iterdir()) if path.is_file()})


def identity(family: Family) -> str:
    """What a small base model is made from: the hash of the shipped files, or ``random`` where there are none."""
    directory = DIRECTORY / family
    return contents(directory) if directory.is_dir() else RANDOM


def require_pinned(family: Family) -> Path | None:
    """The shipped directory, byte for byte what was trained; None where it is absent. Raises MedVLError for anything else."""
    directory = DIRECTORY / family
    if not directory.is_dir():
        return None
    found = contents(directory)
    if found != PINNED[family]:
        raise MedVLError(
            found=f"contents {found}, pinned is {PINNED[family] or 'nothing'}", where=str(directory),
            do="restore the files of this version (git checkout, or install MedVL again); after `medvl pretrain-tiny`, pin the new hash "
            "in medvl_lib/models/shipped.py; without the directory the line runs on random weights",
        )  # fmt: skip
    return directory


def note_origin(directory: Path, weights: str) -> None:
    """Write down where a small model's weights come from: a pinned hash, or ``random``."""
    write_json(directory / ORIGIN, {"weights": weights})


def weights_are_trained(directory: Path) -> Outcome:
    """The weights come from training: random ones run, but cannot read, and no score of theirs means anything."""
    if not (directory / ORIGIN).is_file():
        return Outcome(passed=True, found="a checkpoint of its publisher")
    weights = read_json(directory / ORIGIN)["weights"]
    if weights == RANDOM:
        return Outcome(passed=False, found="random weights, since medvl_lib/models/tiny is not installed: no score means anything")
    return Outcome(passed=True, found=f"the small model that comes with MedVL, contents {weights}")


RULE = Rule(
    name="weights_are_trained", sentence="The weights come from training, not from chance.", holds=weights_are_trained, is_blocking=False
)
