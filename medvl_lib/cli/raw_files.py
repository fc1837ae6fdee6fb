"""``medvl fetch`` and ``sample-data``: raw files where the graph looks for them, a publisher's or invented ones."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from medvl_lib.cli.arguments import AddVerb, amount, counted, dataset, positive
from medvl_lib.cli.project import REFUSED, workspace_of
from medvl_lib.errors import MedVLError
from medvl_lib.settings import Settings, read_settings

if TYPE_CHECKING:
    from medvl_lib.provenance import Fact


def add_verbs(add: AddVerb) -> None:
    """What the two take."""
    verb = add("fetch", help="bring a dataset's raw files from their publisher, or say what to put where")
    verb.add_argument("dataset", metavar="DATASET", type=dataset, help="such as mtsamples; a wrong name is answered with all of them")
    verb.add_argument("--by-hand", action="store_true", help="fetch nothing: say where the files are, under which terms, and where they go")
    verb.add_argument("--only", action="append", default=[], metavar="SOURCE", help="of several sources this one; may be repeated")
    verb.add_argument("--max-patients", type=positive, metavar="N", help="the first N patients, where the publisher's paths name them")
    verb.add_argument("--max-studies", type=positive, metavar="N", help="of each patient the first N studies, whole ones")
    verb.add_argument("--max-bytes", type=amount, metavar="SIZE", help="of the whole set on this machine, such as 20GB")
    verb.add_argument("--max-seconds", type=positive, metavar="N", help="of this call; the next one goes on")
    verb.set_defaults(run=fetch)

    verb = add("sample-data", help="write invented raw files in the publishers' real layouts")
    verb.add_argument("names", nargs="*", metavar="NAME", help="datasets; without one, those in the settings")
    verb.add_argument("--root", metavar="FOLDER", help="write FOLDER/NAME, not the folder that the settings expect")
    verb.add_argument(
        "--count", type=counted, action="append", default=[], metavar="PART=NUMBER",
        help="how many of a part (documents: of each type); may be repeated",
    )  # fmt: skip
    verb.add_argument("--seed", type=int, help="other records of the same kind")
    verb.set_defaults(run=sample_data)


def fetch(arguments: argparse.Namespace) -> int:
    """Bring a dataset's raw files, or say what to put where; 1 where time ran out before all of it was there."""
    from medvl_lib.datasets import DATASETS
    from medvl_lib.fetching.by_hand import by_hand
    from medvl_lib.fetching.downloads import Away
    from medvl_lib.fetching.fetch import fetch as bring
    from medvl_lib.fetching.fetch import sentence
    from medvl_lib.fetching.wanted import Limits

    settings, name = read_settings(), arguments.dataset
    workspace = workspace_of(settings)
    folder = settings.own_raw_folder(name) if name in settings.datasets else workspace.raw(name)
    if arguments.by_hand or not DATASETS[name].acquisition.sources:
        print(by_hand(DATASETS[name], folder))
        return 0 if arguments.by_hand else REFUSED
    limits = Limits(
        max_patients=arguments.max_patients, max_studies_per_patient=arguments.max_studies, max_bytes=arguments.max_bytes,
        max_seconds=arguments.max_seconds,
    )  # fmt: skip
    try:
        found = bring(DATASETS[name], folder, workspace.fetched(name), limits, arguments.only, _tell)
    except Away:
        print(by_hand(DATASETS[name], folder), end="\n\n", flush=True)
        raise
    print(sentence(found, name, folder))
    return int(found.reached == "seconds")


def _tell(facts: Mapping[str, "Fact"]) -> None:
    """Print how far something is."""
    print(", ".join(f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}" for name, value in facts.items()), flush=True)


def sample_data(arguments: argparse.Namespace) -> int:
    """Write invented raw files where a dataset's own are expected, or below ``--root``."""
    from medvl_lib.sample_data import SEED, write

    settings = read_settings()
    for name in arguments.names or settings.enabled_datasets():
        folder = _own_raw_folder(settings, name) if arguments.root is None else Path(arguments.root) / name
        seed = SEED if arguments.seed is None else arguments.seed
        written = write(name, folder, seed=seed, counts=dict(arguments.count))
        if written.is_new:
            print(f"{name}: {written.num_records} invented records in {written.root}")
        else:
            print(f"{name}: {written.root} holds files already and was left alone")
    return 0


def _own_raw_folder(settings: Settings, name: str) -> Path:
    """Where invented files may go: never where the settings say that a user's own lie."""
    if settings.dataset(name).raw_path is None:
        return settings.own_raw_folder(name)
    raise MedVLError(
        found=f"raw_path = {str(settings.raw_folder(name))!r}", where=settings.where("datasets", name),
        do="that folder is yours and gets nothing invented; name another one with --root, or only the datasets to write",
    )  # fmt: skip
