"""The card of an export. If these passed wrongly, the hub would refuse it, or weights stand there without what they were made from."""

import re
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from medvl_lib.export.card import DataUsed, Described, render, render_base
from medvl_lib.export.plain import Loadable, asking, imports, lines, loading, program
from medvl_lib.lines import DOCUMENTS, IMAGING, RADIOLOGY, tiny, tiny_model
from medvl_lib.models.spec import Family

CLEAN = DataUsed(dataset="slake", title="SLAKE", source="hub @ 1", licence="CC-BY-4.0", num_pairs=10, languages=("en", "zh"))
REPORTS = replace(CLEAN, dataset="mimic_cxr", licence="PhysioNet Credentialed Health Data License 1.5.0", languages=("en",))
LOADABLE = Loadable(
    folder="adapter", family="qwen2_5_vl", weights=DOCUMENTS.model.hub_id, revision=DOCUMENTS.model.revision, is_adapter=True,
    is_packed=True, device="cuda", lora_rank=64, dtype="bfloat16",
)  # fmt: skip
DESCRIBED = Described(
    line="documents", kind="adapter", variant="adapter", served="it was promoted", what="An adapter.", spec=DOCUMENTS.model,
    loadable=LOADABLE, data=(CLEAN,), recipe={"lora_rank": 64}, recipe_note="", training={"num_steps": 3}, report=None, parity=None,
    unchecked="nobody asked", num_context_tokens=4608, made_by="MedVL 0",
)  # fmt: skip
VALID_LICENCES = re.compile(r"[a-z0-9.-]+")


def test_the_front_matter_is_what_the_hub_reads() -> None:
    data = ModelCard(render(DESCRIBED)).data
    assert (data.license, data.base_model, data.library_name) == ("cc-by-4.0", "Qwen/Qwen2.5-VL-7B-Instruct", "peft")
    assert (data.pipeline_tag, data.language, data.base_model_relation) == ("image-text-to-text", ["en", "zh"], "adapter")
    assert "not-for-clinical-use" in data.tags


def test_weights_behind_an_agreement_are_not_called_free() -> None:
    data = ModelCard(render(replace(DESCRIBED, data=(CLEAN, REPORTS)))).data
    assert (data.license, data.license_link) == ("other", "README.md")
    assert data.license_name == "physionet-credentialed-health-data-license-1.5.0"
    assert "do not publish" in render(replace(DESCRIBED, data=(CLEAN, REPORTS)))


def test_a_small_model_names_no_base_that_the_hub_does_not_have() -> None:
    spec = tiny_model("qwen2_5_vl")
    data = ModelCard(render(replace(DESCRIBED, spec=spec))).data
    assert "base_model" not in data.to_dict()
    assert ModelCard(render_base(spec)).data.license == "apache-2.0"


def test_it_says_what_it_is_not_for_and_that_nobody_compared_it() -> None:
    text = render(DESCRIBED)
    for words in ("Out of scope: clinical decisions", "**Unchecked**: nobody asked", "It was never evaluated", "| `lora_rank` | 64 |"):
        assert words in text


def test_the_vllm_command_says_what_it_leaves_out() -> None:
    text = render(DESCRIBED)
    assert f"vllm serve {DOCUMENTS.model.hub_id} --revision {DOCUMENTS.model.revision}" in text
    assert "--enable-lora --max-lora-rank 64 --lora-modules medvl=adapter" in text
    assert "ignores adapters on the vision tower" in text
    projector = replace(LOADABLE, family="llava_med")
    text = render(replace(DESCRIBED, spec=RADIOLOGY.model, loadable=projector))
    assert "--enable-lora" not in text  # vLLM would drop the projector that was trained
    assert "modules_to_save" in text


@pytest.mark.parametrize("line", [DOCUMENTS, IMAGING, RADIOLOGY], ids=lambda line: line.name)
@pytest.mark.parametrize("is_adapter", [True, False])
def test_ten_lines_lead_from_weights_to_an_answer(line: object, is_adapter: bool) -> None:
    family: Family = tiny(line).model.family
    what = replace(LOADABLE, family=family, is_adapter=is_adapter, is_packed=is_adapter)
    assert len(loading(what)) + len(asking(what)) <= 11 + (what.device == "cpu")
    names = {found.split()[1].partition(".")[0] for found in imports(what)}
    assert names <= {"re", "torch", "peft", "PIL", "transformers"}
    compile(lines(what), "README.md", "exec")
    compile(program(what), "program", "exec")
    assert f'revision="{DOCUMENTS.model.revision}"' in lines(what)
