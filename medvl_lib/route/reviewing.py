"""Blinded sheets of a line's evaluation, handed out by hand and not by the graph: what ``medvl reviews sheet`` does.

In: a line's evaluation. Out: a directory written and judged like any step's, and copies of what raters get. A sheet's key never leaves the
data root. What a sheet is stands in ``reviews.sheet``, how ratings come back in ``reviews.reading``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from medvl_lib.errors import MedVLError
from medvl_lib.files import write_bytes
from medvl_lib.provenance import Artifact, ancestor, code_version, fingerprint, require_intact, write_step
from medvl_lib.report.gather import find
from medvl_lib.reviews import sheet
from medvl_lib.reviews.reading import passed
from medvl_lib.reviews.sheet import PAGE, SHEET, Answers, SheetRequest, write_sheet
from medvl_lib.workspace import Workspace


def make_sheet(
    workspace: Workspace, line: str, request: SheetRequest, shown: Mapping[str, Sequence[str]], evaluation_id: str | None = None
) -> Artifact:
    """A blinded sheet of a line's current evaluation, or of a named one; its key stays in the directory.

    ``shown`` names the datasets that may be shown, and the licences under which they may be.
    """
    benchmark = find(workspace, line, evaluation_id).benchmark
    predictions = ancestor(workspace, benchmark, "predictions", line)
    chat = ancestor(workspace, predictions, "chat", line)
    for artifact in (benchmark, predictions, chat):
        require_intact(artifact)
    answers = Answers(predictions=predictions.directory, chat=chat.directory, images=workspace.images)
    inputs = [benchmark, predictions, chat]
    version = code_version(sheet.REVISION, line, request, shown)
    sheet_id = fingerprint(version, inputs)
    facts = {"line": line, "evaluation_id": benchmark.facts["evaluation_id"]}
    made = write_step(
        workspace, sheet.STEP, line, version, inputs,
        lambda directory: {**write_sheet(directory, sheet_id, request, answers, shown), **facts},
    )  # fmt: skip
    return passed(workspace, made, sheet.RULES)


def hand_out(made: Artifact, folder: Path) -> tuple[Path, ...]:
    """Copy what raters get into a folder, and never over a sheet that may be filled in; raises MedVLError instead."""
    copies = {folder / name: (made.directory / name).read_bytes() for name in (SHEET, PAGE)}
    for path, data in copies.items():
        if path.exists() and path.read_bytes() != data:
            raise MedVLError(
                found=f"{path.name} is there already, and another one", where=str(folder), do="it may be filled in: name an empty folder"
            )
    for path, data in copies.items():
        write_bytes(path, data)
    return tuple(copies)
