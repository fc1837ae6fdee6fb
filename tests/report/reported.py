"""An evaluation to report on: sixty pages that may be shown, four closed questions of a dataset that may not, words planted in both.

Page 3: neither base nor adapter states a fact; so too page 5, which is under another licence and may not be shown. Page 7: base states
both, the adapter none. Every other page: the adapter states one of two facts, or both on odd pages, and base none.
"""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image

from medvl_lib import audit, chat
from medvl_lib.audit import AuditRow
from medvl_lib.benchmark.gate import Gate
from medvl_lib.benchmark.publish import publish
from medvl_lib.benchmark.terms import Terms
from medvl_lib.evaluation.predictions import PREDICTIONS, REFERENCES, Prediction, Reference
from medvl_lib.files import write_json
from medvl_lib.images import ImageStore
from medvl_lib.lines import DOCUMENTS
from medvl_lib.provenance import Artifact, write_step
from medvl_lib.tables import read_table, write_table
from medvl_lib.workspace import Workspace
from tests.benchmark.evaluated import Evaluated, run
from tests.chats import write_conversations

SHOWN = {"forms": ("CC0-1.0",)}
NOW = Terms(gate=Gate(), evaluation=DOCUMENTS.evaluation)
"""The settings under which it is decided."""
PLANTED = "<script>alert('zebra')</script> | `zebra`"
HIDDEN = "octopus"
CLOSED = (("yes", "no", "yes"), ("yes", "yes", "yes and no"), ("no", "no", HIDDEN), ("perhaps", "no", "no"))
"""(wanted, said by base, said by the adapter); no metric can score against "perhaps"."""


def png(width: int, height: int) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(written, "PNG")
    return written.getvalue()


def _questions() -> Iterator[Reference]:
    for number, (wanted, _, _) in enumerate(CLOSED):
        yield Reference(
            pair_id=f"q{number}", dataset="secret", split="test", group_id=f"patient{number}", language="en", licence="CC0-1.0",
            request=f"is it {HIDDEN}?", response=wanted, expected=(), slices={"answer_type": "closed"}, glyph_height_pixels=None,
        )  # fmt: skip


def _answers() -> Iterator[Prediction]:
    for number, (_, *said) in enumerate(CLOSED):
        for variant, answer in zip(("base", "adapter"), said, strict=True):
            yield Prediction(
                pair_id=f"q{number}", variant=variant, condition="as_is", answer=answer, num_prompt_tokens=5, num_answer_tokens=1,
                is_cut=False, batch_id=0, batch_size=4, latency_seconds=0.5,
            )  # fmt: skip


def _plant(folder: Path) -> None:
    """Page 3 asks for, wants and gets markup; page 5 is a user's own; the questions of the other dataset are asked as well."""
    changes = {"p003": {"request": PLANTED, "response": PLANTED}, "p005": {"request": HIDDEN, "licence": "not stated"}}
    references = [replace(row, **changes.get(row.pair_id, {})) for row in read_table(folder / REFERENCES, Reference)]
    answers = [
        replace(row, answer=PLANTED) if (row.pair_id, row.variant) == ("p003", "adapter") else row
        for row in read_table(folder / PREDICTIONS, Prediction)
    ]
    write_table(folder / REFERENCES, Reference, [*references, *_questions()])
    write_table(folder / PREDICTIONS, Prediction, [*answers, *_answers()])


def _chat(workspace: Workspace) -> Artifact:
    store = ImageStore(workspace.images)
    pictures = {3: store.put(png(1280, 320))}
    page = store.put(png(56, 56))

    def write(folder: Path) -> dict[str, int]:
        turns = [
            chat.single_turn(f"p{number:03}", image_ids=(pictures.get(number, page),), request="?", response="") for number in range(60)
        ]
        write_conversations(folder, "test", turns)
        return {}

    return write_step(workspace, "chat", "documents", "v1", [], write)


def _audit(workspace: Workspace, chat_artifact: Artifact) -> Artifact:
    def write(folder: Path) -> dict[str, int]:
        rows = (
            AuditRow(
                pair_id=f"p{number:03}", dataset="forms", split="test", num_tokens=100 + number, num_prompt_tokens=60, num_target_tokens=40,
                has_exact_target=True, num_image_tokens=16, num_foreign_special_tokens=0, num_lost_texts=0, glyph_height_pixels=8.0,
                pictures=(),
            ) for number in range(60)
        )  # fmt: skip
        write_table(folder / audit.AUDIT, AuditRow, rows)
        write_json(folder / audit.SPEC, {"max_tokens": 4096, "max_pixels": 200704, "min_glyph_height_pixels": 6.0})
        return {}

    return write_step(workspace, "audit", "documents", "v1", [chat_artifact], write)


def reported(root: Path, gate: Gate | None = None) -> Evaluated:
    """The evaluation described above, judged and published."""
    workspace = Workspace(root=root)
    talked = _chat(workspace)
    evaluated = run(
        root, 60, reads=(talked, _audit(workspace, talked)), also=_plant, gate=gate,
        base=lambda number: 2 if number == 7 else 0, adapter=lambda number: 0 if number in {3, 5, 7} else 1 + number % 2,
    )  # fmt: skip
    publish(workspace)
    return evaluated
