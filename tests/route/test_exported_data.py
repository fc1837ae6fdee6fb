"""Which data stand behind exported weights. If this passed wrongly, a card would hide data whose licence forbids to publish them."""

from dataclasses import replace
from pathlib import Path

from medvl_lib.lines import DOCUMENTS
from medvl_lib.route.exported_data import data_behind
from medvl_lib.training.recipe import Handover
from medvl_lib.training.steps import TRAINED_ON
from medvl_lib.workspace import Workspace
from tests.route.test_promoting import FORMS, Lab


def test_a_dataset_that_only_an_earlier_stage_took_is_behind_the_last_one_too(tmp_path: Path):
    lab = Lab(workspace=Workspace(root=tmp_path))
    then, now = lab.chat(seed=1), lab.chat(seed=2)
    half = replace(DOCUMENTS.stages[0], share_of_steps=0.5)
    line = replace(
        DOCUMENTS, datasets=(FORMS,), stages=(replace(half, name="first", handover=Handover()), replace(half, share_before=0.5))
    )  # fmt: skip
    before = lab.write("first", "v1", [then, lab.base()], lambda _: {f"{TRAINED_ON}{FORMS}": 3})
    none_of_them = {f"{TRAINED_ON}{FORMS}": 0, f"{TRAINED_ON}mtsamples": 3}
    alone = lab.write("adapter", "alone", [now, lab.base()], lambda _: none_of_them)
    after = lab.write("adapter", "on first", [now, lab.base(), before], lambda _: none_of_them)
    assert list(data_behind(lab.workspace, line, alone)) == []
    [found] = data_behind(lab.workspace, line, after)
    assert (found.dataset, found.licence, found.languages) == (FORMS, "CC0-1.0", ("en",))
