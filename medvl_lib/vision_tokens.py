"""Vision tokens: how a picture is resized and how many tokens it becomes, per model family. Pure arithmetic, no torch.

In: a model directory's ``config.json`` and processor configuration. Out: a function from (height, width) to ``SeenPicture``.
What the tokens are worth to a model, and whether they fit, is the ``audit``'s business.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from medvl_lib.errors import MedVLError
from medvl_lib.files import read_json

REVISION = 1  # first version
CLIP_PATCH_PIXELS = 14  # of every LLaVA's vision tower
MAX_ASPECT_RATIO = 200  # Qwen's processor refuses more


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPicture:
    """A picture as a model sees it."""

    height_pixels: int
    width_pixels: int
    num_tokens: int
    """Placeholders that it fills in the text."""


Sizing = Callable[[int, int], SeenPicture]
"""(height, width) of the upright picture -> what the model sees of it; raises ValueError for a shape that it refuses."""


def read_sizing(model_directory: Path, *, max_pixels: int) -> Sizing:
    """The sizing of a model directory, with ``max_pixels`` (height x width) in place of the processor's own upper limit."""
    path = model_directory / "config.json"
    if not path.is_file():
        raise MedVLError(found="no config.json", where=str(model_directory), do="point to a complete model directory in the hub's layout")
    model_type = read_json(path).get("model_type")
    if model_type not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise MedVLError(
            found=f"model_type {model_type!r}", where=str(path), do=f"use one of: {known}; or add its arithmetic to vision_tokens.py"
        )
    return FAMILIES[model_type](_read_processor(model_directory), max_pixels)


def _read_processor(model_directory: Path) -> dict[str, Any]:
    """The picture processor's settings: nested in processor_config.json, else preprocessor_config.json (transformers' own order)."""
    nested, flat = model_directory / "processor_config.json", model_directory / "preprocessor_config.json"
    if nested.is_file() and "image_processor" in (processor := read_json(nested)):
        return processor["image_processor"]
    if not flat.is_file():
        do = "take both files from the model's own repository, at the revision of its weights"
        raise MedVLError(
            found="neither preprocessor_config.json nor an image_processor in processor_config.json", where=str(model_directory), do=do
        )
    return read_json(flat)


def qwen2_5_vl(processor: Mapping[str, Any], max_pixels: int) -> Sizing:
    """Qwen2.5-VL: sides become multiples of patch x merge within a pixel budget; one token per merged square of patches."""
    if not processor.get("do_resize", True):
        raise MedVLError(
            found="do_resize = false", where="the picture processor's configuration", do="set it to true: Qwen2.5-VL needs resized sides"
        )
    try:
        patch, merge = int(processor["patch_size"]), int(processor["merge_size"])
        min_pixels = processor.get("min_pixels")  # the older spelling; transformers lets it win
        min_pixels = int(processor["size"]["shortest_edge"] if min_pixels is None else min_pixels)
    except KeyError as error:
        do = "take the file from the model's own repository: patch_size, merge_size and size.shortest_edge (or min_pixels)"
        raise MedVLError(found=f"no {error.args[0]!r}", where="the picture processor's configuration", do=do) from error
    return partial(_qwen_picture, factor=patch * merge, min_pixels=min_pixels, max_pixels=max_pixels)


def _qwen_picture(height: int, width: int, *, factor: int, min_pixels: int, max_pixels: int) -> SeenPicture:
    """``smart_resize`` of transformers 5.23, models/qwen2_vl/image_processing_pil_qwen2_vl.py, and one token per factor x factor."""
    if max(height, width) / min(height, width) > MAX_ASPECT_RATIO:
        raise ValueError(f"{width} x {height} pixels: longer than {MAX_ASPECT_RATIO} times its shorter side")
    rows, columns = round(height / factor), round(width / factor)
    if rows * columns * factor**2 > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        rows, columns = max(1, math.floor(height / shrink / factor)), max(1, math.floor(width / shrink / factor))
    elif rows * columns * factor**2 < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        rows, columns = math.ceil(height * grow / factor), math.ceil(width * grow / factor)
    return SeenPicture(height_pixels=rows * factor, width_pixels=columns * factor, num_tokens=rows * columns)


def mllama(processor: Mapping[str, Any], max_pixels: int) -> Sizing:
    """Llama 3.2 Vision: a picture fills up to ``max_image_tiles`` square tiles in a row, column or block, and is one token.

    The tiles are of one size, and the model knows each arrangement by a number: neither can be had smaller. So a budget of pixels that is
    not that of all tiles is refused.
    """
    try:
        tile, most = int(processor["size"]["height"]), int(processor["max_image_tiles"])
    except KeyError as error:
        do = "take the file from the model's own repository: size.height and max_image_tiles"
        raise MedVLError(found=f"no {error.args[0]!r}", where="the picture processor's configuration", do=do) from error
    if max_pixels != tile * tile * most:
        raise MedVLError(
            found=f"max_pixels = {max_pixels}, and a processor that always fills up to {most} tiles of {tile} x {tile} pixels",
            where="[lines.<line>.model]", do=f"write max_pixels = {tile * tile * most}: tiles of this family have no other size",
        )  # fmt: skip
    return partial(_tiled_picture, tile=tile, max_tiles=most)


def _tiled_picture(height: int, width: int, *, tile: int, max_tiles: int) -> SeenPicture:
    """The smallest canvas that holds the picture, or the largest that it must shrink to, and the picture's size on it.

    ``get_optimal_tiled_canvas`` and ``get_image_size_fit_to_canvas`` of transformers 5.23, models/mllama/image_processing_pil_mllama.py.
    """
    sides = range(1, max_tiles + 1)
    canvases = [(rows * tile, columns * tile) for rows in sides for columns in sides if rows * columns <= max_tiles]
    scales = [min(canvas_height / height, canvas_width / width) for canvas_height, canvas_width in canvases]
    best = min((scale for scale in scales if scale >= 1), default=max(scales))
    fitting = [canvas for canvas, scale in zip(canvases, scales, strict=True) if scale == best]
    canvas_height, canvas_width = min(fitting, key=lambda canvas: canvas[0] * canvas[1])
    wanted_height, wanted_width = (min(max(height, tile), canvas_height), min(max(width, tile), canvas_width))
    if wanted_width / width < wanted_height / height:
        seen_height, seen_width = min(math.floor(height * (wanted_width / width)) or 1, wanted_height), wanted_width
    else:
        seen_height, seen_width = wanted_height, min(math.floor(width * (wanted_height / height)) or 1, wanted_width)
    return SeenPicture(height_pixels=seen_height, width_pixels=seen_width, num_tokens=1)


def llava(processor: Mapping[str, Any], max_pixels: int) -> Sizing:
    """LLaVA: a picture is padded to a square, or its middle cut out, and resized; one token per patch of 14 x 14 pixels.

    The square is of one size, since the vision tower has learned its positions: a budget of pixels that is not that is refused.
    """
    try:
        side = int(processor["crop_size"]["height"])
    except KeyError as error:
        do = "take the file from the model's own repository: crop_size.height"
        raise MedVLError(found=f"no {error.args[0]!r}", where="the picture processor's configuration", do=do) from error
    if max_pixels != side * side:
        raise MedVLError(
            found=f"max_pixels = {max_pixels}, and a processor that always fills {side} x {side} pixels", where="[lines.<line>.model]",
            do=f"write max_pixels = {side * side}: pictures of this family have no other size",
        )  # fmt: skip
    return partial(_squared_picture, side=side, is_padded=bool(processor.get("do_pad")))


def _squared_picture(height: int, width: int, *, side: int, is_padded: bool) -> SeenPicture:
    """The picture's own size within the square, and a token per patch of all of it."""
    scale = side / (max(height, width) if is_padded else min(height, width))
    seen_height, seen_width = (max(1, min(side, round(pixels * scale))) for pixels in (height, width))
    return SeenPicture(height_pixels=seen_height, width_pixels=seen_width, num_tokens=(side // CLIP_PATCH_PIXELS) ** 2)


FAMILIES: dict[str, Callable[[Mapping[str, Any], int], Sizing]] = {"qwen2_5_vl": qwen2_5_vl, "mllama": mllama, "llava": llava}
