"""What a person does who brings the files without ``medvl fetch``: from where, under which terms, and what lies where then.

In: a dataset and its raw folder. Out: text. Nothing is asked of the network.
"""

from pathlib import Path

from medvl_lib.pairs import Dataset
from medvl_lib.sources import Hub, PhysioNet, Source


def by_hand(dataset: Dataset, folder: Path) -> str:
    """The whole of it, for a terminal."""
    wanted = dataset.acquisition
    lines = [f"{dataset.title}", f"licence: {dataset.licence}", f"terms:   {wanted.terms}", ""]
    if wanted.sources:
        lines += ["from:", *(f"    {line}" for source in wanted.sources for line in _words(source)), ""]
    lines += [] if wanted.sources else [f"from: {dataset.source}", ""]
    return "\n".join([*lines, f"into {folder}{':' if wanted.layout else ''}", *(f"    {line}" for line in wanted.layout)])


def _words(source: Source) -> list[str]:
    """Where a source is found, and which of its files are wanted."""
    if isinstance(source, Hub):
        at = f" at commit {source.revision}" if source.revision else ""
        return [f"{source.page}{at}: {', '.join(source.files)}"]
    if isinstance(source, PhysioNet):
        return [source.page, *([f"    below {source.into}/"] if source.into else [])]
    return [f"{source.page}: {source.url}, unpacked"]
