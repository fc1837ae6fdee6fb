"""How an exported folder is served by engines that people run: the commands for vLLM and mlx-vlm, and what each of them does not do.

In: what a folder holds. Out: lines of Markdown. Neither engine was run here: what is said of them is what others report.
"""

from collections.abc import Iterator, Mapping

from medvl_lib.evaluation.predictions import Variant
from medvl_lib.export.plain import Loadable
from medvl_lib.models.spec import Family

MOST_IMAGES = 8  # of one pair (lines.PAGES)
LEAST_RANK = 16  # that vLLM takes
NOTES: Mapping[Family, str] = {
    "qwen2_5_vl": (
        "vLLM ignores adapters on the vision tower (`visual.*`) with a warning only (vllm issues 27916, 23796): such an adapter has to be "
        "merged. This line's has none there."
    ),
    "mllama": "Newer releases of vLLM no longer serve Llama 3.2 Vision (`mllama`): see whether yours still lists it.",
    "llava_med": (
        "Its projector was trained whole, and vLLM takes no modules beside low-rank updates (`modules_to_save`): serve the folder "
        "`merged`, never the adapter. mlx-vlm takes it because its text model is written as `llama`."
    ),
}  # fmt: skip


MLX = "python -m mlx_vlm.server --model"
PACKED: frozenset[Variant] = frozenset({"nf4", "int8"})


def lines(what: Loadable, variant: Variant, num_tokens: int) -> Iterator[str]:
    """Commands with their caveats."""
    limits = f"--max-model-len {num_tokens} --limit-mm-per-prompt '{{\"image\": {MOST_IMAGES}}}'"
    if what.is_adapter and what.family == "llava_med":
        yield NOTES[what.family]
        return
    yield "```bash"
    if what.is_adapter:
        at = f" --revision {what.revision}" if what.revision else ""
        lora = f"--enable-lora --max-lora-rank {max(LEAST_RANK, what.lora_rank)} --lora-modules medvl={what.folder}"
        yield f"vllm serve {what.weights}{at} {limits} {lora}"
    elif variant in PACKED:
        yield f"vllm serve {what.folder} --quantization bitsandbytes {limits}"
    else:
        yield f"vllm serve {what.folder} --dtype bfloat16 {limits}"
        yield f"{MLX} {what.folder}"
    yield "```"
    yield ""
    if what.is_adapter:
        yield (
            f"* This puts the adapter on the base in 16 bits{', and it was trained on four' if what.is_packed else ''}: that is what the "
            "folder `merged` holds, and what its card compares. In vLLM `medvl` is the model to ask for. mlx-vlm has adapters of its own "
            "kind: serve `merged` there."
        )
    elif variant in PACKED:
        yield "* These weights are packed by bitsandbytes, which mlx-vlm does not read."
    yield f"* {NOTES[what.family]}"
    yield (
        "* Greedy settings stand in `generation_config.json`, which vLLM reads; a client that sends a temperature overrides them. Neither "
        "engine was run when this was written: both have kernels and a picture processor of their own, so compare some answers."
    )
