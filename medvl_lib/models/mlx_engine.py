"""MLX behind the library's model: the weights, the loss and the answers are MLX's; names, adapters and the trainer stay as they are.

In: a directory of weights. Out: the library's model of the same shapes without their memory (a *shell*), whose ``forward`` and ``generate``
are computed by mlx-vlm's. PEFT puts adapters on the shell, the trainer trains them, checkpoints and saves them: so there is one route, one
optimizer and one format of adapters for both engines. Before each pass the adapter's values go to MLX, after it their gradients come back;
that is small beside the pass. Masks and token ids are those that ``batches`` made.

Legend: B batch, T tokens, V vocabulary, N scored tokens, F tokens of pictures, D width.
"""

import gc
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import torch
from mlx.utils import tree_flatten, tree_unflatten
from mlx_vlm.models.cache import KVCache
from numpy.typing import NDArray
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig, PreTrainedModel
from transformers.utils import ModelOutput

from medvl_lib.errors import MedVLError
from medvl_lib.hardware import Profile, peak_memory_bytes
from medvl_lib.models.computing import COMPUTED_BY, IS_PACKED
from medvl_lib.models.mlx_weights import QUANTIZATION, family_of, load_module, module_name, packed_linears, use_device
from medvl_lib.models.spec import Family

IGNORED = -100  # of labels, as batches writes them
UNDERSTOOD = {"input_ids", "attention_mask", "mm_token_type_ids", "pixel_values", "image_grid_thw"}
TORCH_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Batch = Mapping[str, NDArray[Any]]


@dataclass
class Scores(ModelOutput):
    """What the trainer reads of a pass (B, T - 1): zero where a label is ignored."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    log_probs: torch.Tensor | None = None
    entropy: torch.Tensor | None = None
    is_top1: torch.Tensor | None = None
    label_mask: torch.Tensor | None = None


class Worn(NamedTuple):
    """A trainable parameter of the shell, and where its values are in MLX."""

    parameter: torch.nn.Parameter
    name: str
    is_transposed: bool


class Dress(NamedTuple):
    """What the shell wears just now: its trainable parameters, and what takes which place in MLX's module."""

    worn: Sequence[Worn]
    changes: Mapping[str, Any]


class Update(nn.Module):
    """PEFT's low-rank update of a linear. mlx-lm's own draws its dropout anew when a layer is computed again, and the gradient is wrong."""

    def __init__(self, linear: nn.Module, down: mx.array, up: mx.array, scale: float, dropout: float) -> None:
        super().__init__()
        self.linear, self.lora_a, self.lora_b, self._scale, self._dropout = linear, down, up, scale, dropout
        # torch's random numbers are part of a checkpoint, MLX's are not: so a run that is resumed draws what it would have drawn
        self._key = mx.random.key(int(torch.randint(2**31, ()))) if dropout else None

    def __call__(self, x: mx.array) -> mx.array:
        """The linear, and the update on top."""
        seen = x
        if self._dropout:
            kept = mx.random.bernoulli(1 - self._dropout, x.shape, key=self._key)
            seen = x * kept / (1 - self._dropout)
        return self.linear(x) + (self._scale * ((seen @ self.lora_a) @ self.lora_b)).astype(x.dtype)


class _ThroughMLX(torch.autograd.Function):
    """Log-probabilities of the labels, with gradients of their sum that MLX computed on the way there."""

    @staticmethod
    def forward(ctx: Any, engine: "Engine", batch: Batch, labels: Any, dress: Dress, is_trained: bool, *_: torch.Tensor) -> Any:
        scored, gradients = engine.score(batch, labels, dress, is_trained=is_trained)
        ctx.gradients, ctx.mask = gradients, scored[3]
        ctx.mark_non_differentiable(*scored[1:])
        return scored

    @staticmethod
    def backward(ctx: Any, *of: Any) -> Any:
        """Each label weighs the same in the losses that are trained here: one factor for all."""
        factors = of[0][ctx.mask]
        factor = factors[0] if factors.numel() else torch.zeros(())
        if not torch.equal(factors, factor.expand_as(factors)):
            raise NotImplementedError("a loss that weighs tokens differently: the engine mlx computes the mean over labels alone")
        return None, None, None, None, None, *(gradient * factor for gradient in ctx.gradients)


class Engine:
    """MLX's module behind a shell."""

    def __init__(self, shell: PreTrainedModel, module: Any, family: Family, profile: Profile) -> None:
        self._shell, self._module, self._family, self._profile = shell, module, family, profile
        if profile.gradient_checkpointing:
            for layer in module.language_model.model.layers:
                _checkpoint(layer)

    # -- what the rest of the library asks of it (``computing``) -------------------------------------------------------
    def tensors(self) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """The weights by name, as bytes."""
        for name, item in tree_flatten(self._module.parameters()):
            yield name, np.array(mx.contiguous(item).reshape(-1).view(mx.uint8))

    def held_bytes(self) -> int:
        """What MLX's allocator has given out."""
        gc.collect()
        return mx.get_active_memory()

    def peak_bytes(self) -> int:
        """The most that MLX has given out; on a CPU the process's own peak, which has that in it."""
        return peak_memory_bytes() if self._profile.device == "cpu" else max(peak_memory_bytes(), mx.get_peak_memory())

    def fill(self, name: str, parameter: torch.nn.Parameter) -> None:
        """Values of a parameter that is trained whole, from the base's."""
        values = dict(tree_flatten(self._module.parameters()))[module_name(self._family, name)]
        parameter.data = torch.from_numpy(np.array(values.astype(mx.float32))).to(parameter.dtype)

    def take_over(self) -> None:
        """Put MLX's pass and answers in the place of the shell's."""
        self._shell.forward = self.forward
        self._shell.generate = self.generate

    # -- what the trainer and a speaker call ---------------------------------------------------------------------------
    def forward(self, *, labels: torch.Tensor | None = None, fused_lm_head: bool = False, **batch: Any) -> Scores:
        """Log-probabilities of the labels; with no labels the logits (B, T, V). ``fused_lm_head``: the trainer asks for no loss."""
        arrays = _arrays(batch)
        if labels is None:
            return Scores(logits=torch.from_numpy(self.logits(arrays)))
        dress = self._dress(is_training=self._shell.training)
        weights = [item.parameter for item in dress.worn if item.parameter.requires_grad]
        is_trained = torch.is_grad_enabled() and bool(weights)
        scored = _ThroughMLX.apply(self, arrays, labels.cpu().numpy(), dress, is_trained, *weights)
        log_probs, entropy, is_top1, mask = scored
        loss = None if fused_lm_head else -log_probs.sum() / mask.sum().clamp(min=1)
        return Scores(loss=loss, log_probs=log_probs, entropy=entropy, is_top1=is_top1, label_mask=mask)

    def logits(self, batch: Batch) -> NDArray[np.float32]:
        """Logits (B, T, V) in 32 bits."""
        with self._wearing(self._dress()):
            hidden_BTD, _ = self._read(batch, None)  # noqa: N806 (shape suffix)
            return np.array(self._head(hidden_BTD).astype(mx.float32))

    def generate(self, *, generation_config: GenerationConfig, **batch: Any) -> torch.Tensor:
        """Prompts (B, T), padded on the left, and a greedy answer to each, padded on the right."""
        if generation_config.do_sample or generation_config.num_beams != 1 or generation_config.repetition_penalty != 1.0:
            raise NotImplementedError("the engine mlx answers greedily: no sampling, one beam, no repetition penalty")
        arrays = _arrays(batch)
        with self._wearing(self._dress()):
            answers_BT = self._answers(arrays, generation_config)  # noqa: N806
        return torch.from_numpy(np.concatenate([arrays["input_ids"], answers_BT], axis=1))

    # -- how ----------------------------------------------------------------------------------------------------------
    def _dress(self, *, is_training: bool = False) -> Dress:
        """The shell's active adapter, its values copied to MLX; while it is trained, with masks of dropout."""
        use_device(self._profile)
        worn, changes = list[Worn](), dict[str, Any]()
        linears = dict(self._module.named_modules())
        for name, module in self._shell.named_modules():
            if isinstance(module, LoraLayer):
                worn.extend(self._wear_update(name, module, linears, changes, is_training=is_training))
            elif isinstance(module, ModulesToSaveWrapper):
                worn.extend(self._wear_whole(name, module, changes))
        return Dress(worn, changes)

    @contextmanager
    def _wearing(self, dress: Dress, *, is_training: bool = False) -> Generator[None, None, None]:
        """Put it on, and take it off again."""
        known = {**dict(self._module.named_modules()), **dict(tree_flatten(self._module.parameters()))}
        before = {name: known[name] for name in dress.changes}
        self._put(dress.changes)
        self._module.train(is_training)
        try:
            yield
        finally:
            self._module.eval()
            self._put(before)
            self._module.freeze()

    def _put(self, changes: Mapping[str, Any]) -> None:
        modules = [(name, item) for name, item in changes.items() if isinstance(item, nn.Module)]
        values = [(name, item) for name, item in changes.items() if not isinstance(item, nn.Module)]
        self._module.update_modules(tree_unflatten(modules) if modules else {})
        self._module.update(tree_unflatten(values) if values else {})

    def _wear_update(
        self, name: str, module: Any, linears: Mapping[str, Any], changes: dict[str, Any], *, is_training: bool
    ) -> Iterator[Worn]:
        active = [] if module.disable_adapters else [each for each in module.active_adapters if each in module.lora_A]
        if len(active) > 1:
            raise NotImplementedError(f"{name} has {len(active)} active adapters: the engine mlx speaks with one at a time")
        here = module_name(self._family, name)
        if not isinstance(linears.get(here), nn.Linear | nn.QuantizedLinear):
            raise MedVLError(
                found=f"lora_targets name {name}, which is no linear of mlx-vlm's {self._family}", where="the engine mlx",
                do="name linears that both have, such as those of the language layers, or train with engine = 'torch'",
            )  # fmt: skip
        for each in active:
            down, up = module.lora_A[each].weight, module.lora_B[each].weight
            dropout = getattr(module.lora_dropout[each], "p", 0.0) if is_training else 0.0
            changes[here] = Update(linears[here], _values(down).T, _values(up).T, module.scaling[each], dropout)
            yield Worn(down, f"{here}.lora_a", is_transposed=True)
            yield Worn(up, f"{here}.lora_b", is_transposed=True)

    def _wear_whole(self, name: str, module: Any, changes: dict[str, Any]) -> Iterator[Worn]:
        active = [] if module.disable_adapters else [each for each in module.active_adapters if each in module.modules_to_save]
        for each in active:
            for inner, parameter in module.modules_to_save[each].named_parameters():
                here = module_name(self._family, f"{name}.{inner}")
                changes[here] = _values(parameter)
                yield Worn(parameter, here, is_transposed=False)

    def score(
        self, batch: Batch, labels: NDArray[np.int64], dress: Dress, *, is_trained: bool
    ) -> tuple[tuple[torch.Tensor, ...], list[torch.Tensor]]:
        """(log-probabilities, entropies, hits, mask) of the labels (B, T - 1), and gradients of minus the first's sum."""
        following = labels[:, 1:]
        mask = following != IGNORED
        with self._wearing(dress, is_training=self._shell.training):
            trained = [item for item in dress.worn if item.parameter.requires_grad]
            names = {item.name for item in trained}
            for name, module in self._module.named_modules():
                own = [key for key in module if f"{name}.{key}" in names]
                if own:
                    module.unfreeze(recurse=False, keys=own)

            def scored() -> tuple[mx.array, ...]:
                hidden_BTD, _cache = self._read(batch, None)  # noqa: N806
                return _scores(self._head(_picked(hidden_BTD[:, :-1], mask)), mx.array(following[mask]))

            if is_trained:
                found, gradients = nn.value_and_grad(self._module, scored)()
                mx.eval(found, gradients)
                mx.clear_cache()  # batches differ in length, and MLX keeps every size of buffer that it ever had
                by_name = dict(tree_flatten(gradients))
                back = [_tensor(by_name[item.name], item) for item in trained]
            else:
                found, back = scored(), []
                mx.eval(found)
        return (*(_spread(item, mask) for item in found[1:]), torch.from_numpy(mask)), back

    def _read(self, batch: Batch, caches: Sequence[KVCache] | None) -> tuple[mx.array, NDArray[np.int64]]:
        """Hidden states (B, T, D) of prompts with their pictures, and the position after each row's last one (B,)."""
        ids, seen = batch["input_ids"], batch["attention_mask"].astype(bool)
        language = self._module.language_model.model
        hidden_BTD = language.embed_tokens(mx.array(ids))  # noqa: N806
        if "pixel_values" in batch:
            features_FD = FEATURES[self._family](self._module, batch)  # noqa: N806
            hidden_BTD = _with_pictures(hidden_BTD, features_FD, ids == self._image_token)  # noqa: N806
        length = ids.shape[1]
        # causal, and no padding; a row of padding sees itself, or it would be no number
        sees = np.tril(np.ones((length, length), bool)) & seen[:, None, :] | np.eye(length, dtype=bool)
        more, after = POSITIONS[self._family](self._shell, batch)
        return language(mx.array(ids), inputs_embeds=hidden_BTD, mask=mx.array(sees[:, None]), cache=caches, **more), after

    @property
    def _image_token(self) -> int:
        config = self._shell.config
        return getattr(config, "image_token_id", None) or config.image_token_index

    def _head(self, hidden: mx.array) -> mx.array:
        language = self._module.language_model
        return language.lm_head(hidden) if "lm_head" in language else language.model.embed_tokens.as_linear(hidden)

    def _answers(self, batch: Batch, asked: GenerationConfig) -> NDArray[np.int64]:
        """Greedy tokens (B, T); a row that has ended is padded."""
        caches = [KVCache() for _ in self._module.language_model.model.layers]
        hidden_BTD, after = self._read(batch, caches)  # noqa: N806
        seen, has_ended, answers = batch["attention_mask"].astype(bool), np.zeros(len(after), bool), []
        language = self._module.language_model.model
        for place in range(asked.max_new_tokens):
            logits_BV = self._head(hidden_BTD[:, -1]).astype(mx.float32)  # noqa: N806
            if place < (asked.min_new_tokens or 0):
                logits_BV[:, asked.eos_token_id] = -mx.inf
            chosen = np.where(has_ended, asked.pad_token_id, np.array(mx.argmax(logits_BV, axis=-1)).astype(np.int64))
            answers.append(chosen)
            has_ended |= chosen == asked.eos_token_id
            if has_ended.all() or place + 1 == asked.max_new_tokens:
                break
            seen = np.concatenate([seen, np.ones((len(after), 1), bool)], axis=1)
            hidden_BTD = language(  # noqa: N806
                mx.array(chosen[:, None]), mask=mx.array(seen[:, None, None]), cache=caches, **LATER_POSITIONS[self._family](after + place)
            )  # fmt: skip
        return np.stack(answers, axis=1)


# -- what differs between families -------------------------------------------------------------------------------------
def _qwen_features(module: Any, batch: Batch) -> mx.array:
    dtype = module.vision_tower.patch_embed.proj.weight.dtype
    return module.vision_tower(mx.array(batch["pixel_values"]).astype(dtype), mx.array(batch["image_grid_thw"]), output_hidden_states=False)


def _llava_features(module: Any, batch: Batch) -> mx.array:
    tower = module.vision_tower.vision_model
    pixels = mx.array(batch["pixel_values"]).astype(tower.embeddings.patch_embedding.weight.dtype)
    *_, states = module.vision_tower(pixels.transpose(0, 2, 3, 1), output_hidden_states=True)
    features = module.multi_modal_projector(states[module.vision_feature_layer][:, 1:])  # "default": without the class token
    return features.reshape(-1, features.shape[-1])


def _grid_positions(shell: Any, batch: Batch) -> tuple[dict[str, mx.array], NDArray[np.int64]]:
    """Time, height and width of every token, by the library's own function."""
    tensors = {name: torch.from_numpy(item) for name, item in batch.items() if name != "pixel_values"}
    tensors.setdefault("mm_token_type_ids", torch.zeros_like(tensors["input_ids"]))
    positions, _ = shell.model.get_rope_index(**tensors)
    seen = tensors["attention_mask"].bool()
    after = positions.masked_fill(~seen, -1).amax(dim=(0, 2)) + 1
    return {"position_ids": mx.array(positions.numpy())}, after.numpy()


def _plain_positions(_: Any, batch: Batch) -> tuple[dict[str, mx.array], NDArray[np.int64]]:
    """The place in the row: a rotation depends on distances alone, so padding on the left only shifts it."""
    return {}, np.full(len(batch["input_ids"]), batch["input_ids"].shape[1])


def _later_on_the_grid(positions: NDArray[np.int64]) -> dict[str, mx.array]:
    return {"position_ids": mx.array(np.broadcast_to(positions[None, :, None], (3, len(positions), 1)))}


FEATURES: Mapping[Family, Callable[[Any, Batch], mx.array]] = {"qwen2_5_vl": _qwen_features, "llava_med": _llava_features}
"""Pictures of a batch -> what stands in the place of their tokens (F, D), in their order."""
POSITIONS: Mapping[Family, Callable[[Any, Batch], Any]] = {"qwen2_5_vl": _grid_positions, "llava_med": _plain_positions}
LATER_POSITIONS: Mapping[Family, Callable[[NDArray[np.int64]], dict[str, mx.array]]] = {
    "qwen2_5_vl": _later_on_the_grid, "llava_med": lambda _: {},
}  # fmt: skip


# -- arrays ------------------------------------------------------------------------------------------------------------
def _arrays(batch: Mapping[str, Any]) -> Batch:
    tensors = {name: item for name, item in batch.items() if isinstance(item, torch.Tensor)}
    if unknown := sorted(tensors.keys() - UNDERSTOOD):
        raise TypeError(f"the engine mlx reads {sorted(UNDERSTOOD)}, not {unknown}")
    return {name: item.detach().cpu().numpy() for name, item in tensors.items()}


def _values(parameter: torch.Tensor) -> mx.array:
    return mx.array(parameter.detach().float().cpu().numpy())


def _tensor(gradient: mx.array, item: Worn) -> torch.Tensor:
    found = torch.from_numpy(np.array((gradient.T if item.is_transposed else gradient).astype(mx.float32)))
    return found.to(item.parameter.dtype)


def _with_pictures(hidden_BTD: mx.array, features_FD: mx.array, is_picture: NDArray[np.bool_]) -> mx.array:  # noqa: N803 (shape suffix)
    if is_picture.sum() != features_FD.shape[0]:
        raise ValueError(f"{is_picture.sum()} tokens of pictures in the text, and {features_FD.shape[0]} in the pictures")
    order = np.maximum(np.cumsum(is_picture.reshape(-1)) - 1, 0).reshape(is_picture.shape)
    return mx.where(mx.array(is_picture)[..., None], features_FD[mx.array(order)].astype(hidden_BTD.dtype), hidden_BTD)


def _picked(hidden_BTD: mx.array, mask: NDArray[np.bool_]) -> mx.array:  # noqa: N803
    return hidden_BTD.reshape(-1, hidden_BTD.shape[-1])[mx.array(np.flatnonzero(mask))]


def _scores(logits_NV: mx.array, labels_N: mx.array) -> tuple[mx.array, ...]:  # noqa: N803
    """The sum of the labels' log-probabilities; and of each label that, the entropy there, and whether it is the likeliest."""
    wide_NV = logits_NV.astype(mx.float32)  # noqa: N806
    all_NV = wide_NV - mx.logsumexp(wide_NV, axis=-1, keepdims=True)  # noqa: N806
    found_N = mx.take_along_axis(all_NV, labels_N[:, None], axis=-1)[:, 0]  # noqa: N806
    return found_N.sum(), found_N, -(mx.exp(all_NV) * all_NV).sum(axis=-1), mx.argmax(wide_NV, axis=-1) == labels_N


def _spread(values_N: mx.array, mask: NDArray[np.bool_]) -> torch.Tensor:  # noqa: N803
    held = np.array(values_N)
    found = np.zeros(mask.shape, held.dtype)
    found[mask] = held
    return torch.from_numpy(found)


def _checkpoint(layer: Any) -> None:
    """Let a layer be computed again on the way back instead of being kept."""
    kind = type(layer)

    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        def inner(parameters: Any, *arguments: Any, **named: Any) -> Any:
            self.update(parameters)
            return kind.__call__(self, *arguments, **named)

        return mx.checkpoint(inner)(self.trainable_parameters(), *arguments, **named)

    layer.__class__ = type(kind.__name__, (kind,), {"__call__": call})


# -- the shell ---------------------------------------------------------------------------------------------------------
def load_shell(directory: Path, profile: Profile) -> PreTrainedModel:
    """The library's model of a directory with its shapes and types, and MLX behind it."""
    family = family_of(directory)
    module = load_module(directory, profile)
    config = AutoConfig.from_pretrained(directory)
    if hasattr(config, QUANTIZATION):
        delattr(config, QUANTIZATION)
    with torch.device("meta"):
        shell = AutoModelForImageTextToText.from_config(config, dtype=TORCH_DTYPES[profile.weights_dtype])
    _empty(shell, {f"{name}.weight" for name in packed_linears(module)}, family)
    engine = Engine(shell, module, family, profile)
    setattr(shell, COMPUTED_BY, engine)
    engine.take_over()
    return shell.eval()


def _empty(shell: PreTrainedModel, packed: set[str], family: Family) -> None:
    """Zeros that take the memory of one in the place of every weight: PEFT and the trainer ask for shapes and types."""
    made: dict[int, torch.nn.Parameter] = {}
    for name, module in shell.named_modules():
        for key, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) not in made:
                held = torch.nn.Parameter(torch.zeros((), dtype=parameter.dtype).expand(parameter.shape), requires_grad=False)
                setattr(held, IS_PACKED, module_name(family, f"{name}.{key}") in packed)
                made[id(parameter)] = held
            module._parameters[key] = made[id(parameter)]
        for key, buffer in list(module.named_buffers(recurse=False)):
            module._buffers[key] = torch.zeros((), dtype=buffer.dtype).expand(buffer.shape)
