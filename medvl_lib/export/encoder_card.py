"""The card of an exported encoder: its graphs, how far they are from torch, its data and its licence.

In: what was measured and what it was trained on. Out: a ``README.md`` with front matter as the hub reads it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from medvl_lib.export.card import OUT_OF_SCOPE, DataUsed, data_table, front_matter, licence_lines
from medvl_lib.models.spec import ModelSpec

MAX_DIFFERENCE = (
    1e-4  # of one number of a unit vector; a similarity of two of them is then off by less than 1e-4 times the root of the width
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedEncoder:
    """Everything that the card says."""

    line: str
    spec: ModelSpec
    is_trained: bool
    data: Sequence[DataUsed]
    differences: Mapping[str, float]
    """File -> largest difference from torch."""
    num_pairs: int
    made_by: str

    @property
    def refusals(self) -> tuple[str, ...]:
        """The graphs that are not the model; empty where all are."""
        astray = ((name, value) for name, value in self.differences.items() if not value < MAX_DIFFERENCE)
        return tuple(f"encoder: {name} differs from torch by {value:.2g} (allowed: {MAX_DIFFERENCE:g})" for name, value in astray)


def render(described: DescribedEncoder) -> str:
    """The whole card."""
    return "\n".join(_lines(described)) + "\n"


def _lines(described: DescribedEncoder) -> Iterator[str]:
    spec = described.spec
    yield from front_matter(described.spec, described.data, library="transformers", task="zero-shot-image-classification",
                            name=f"{described.line} (encoder)", relation="finetune")  # fmt: skip
    yield ""
    yield f"# {described.line}: encoder"
    yield ""
    made = "as it was trained" if described.is_trained else "as it came"
    yield f"SigLIP {made}, of `{spec.hub_id}`{f' at commit `{spec.revision}`' if spec.revision else ''}: weights for transformers, and two"
    yield "graphs for onnxruntime. Similar pictures and texts have unit vectors whose product is large; it answers nothing."
    yield f"Exported by {described.made_by}."
    yield ""
    yield "```python"
    yield "import onnxruntime"
    yield "from PIL import Image"
    yield "from transformers import AutoImageProcessor, AutoTokenizer"
    yield ""
    yield 'look = AutoImageProcessor.from_pretrained("encoder", backend="pil")'
    yield 'seen = look(Image.open("picture.png").convert("RGB"), return_tensors="np")["pixel_values"]'
    yield '[picture] = onnxruntime.InferenceSession("encoder/pictures.onnx").run(None, {"pixel_values": seen})[0]'
    yield 'padded = {"padding": "max_length", "truncation": True, "max_length": 64}'
    yield 'read = AutoTokenizer.from_pretrained("encoder")(["moderate osteoarthritis"], **padded)'
    yield '[text] = onnxruntime.InferenceSession("encoder/texts.onnx").run(None, {"input_ids": read["input_ids"]})[0]'
    yield "print(picture @ text)"
    yield "```"
    yield ""
    yield "Texts are lower-cased and without punctuation, padded to 64 tokens, without a mask of the padding."
    yield ""
    yield "## Is it the same model?"
    yield ""
    yield "Largest difference of one number of a unit vector between onnxruntime and torch, both in 32 bits, on"
    yield (
        f"{described.num_pairs} captioned pictures of the test set: "
        + ", ".join(f"`{name}` {value:.2g}" for name, value in described.differences.items())
        + "."
    )
    yield from (f"**{reason}**" for reason in described.refusals)
    yield ""
    yield from OUT_OF_SCOPE
    yield ""
    yield from data_table(described.data)
    yield ""
    yield from licence_lines(described.spec, described.data)
