"""Rows that are written token by token, each with an answer of its own: they may come and go between any two tokens.

In: a model that torch computes, and batches as ``batches.prompt_batch`` makes them, padded on the left. Out: ``Rows``, and the most likely
next token of each. Whose rows they are, and when one has ended, is ``writing``'s. That answers join and leave between tokens
is iteration-level scheduling (Yu et al., Orca, OSDI 2022).

Shapes: B rows, T tokens of the longest, read and written; H heads of D numbers; P kinds of places that a family counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import Cache, GenerationConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer

ROOM_TOKENS = 64  # that a layer makes at a time: copying all that it holds costs more than a token of a small model does
SEEN = "cross_attention_mask"  # (B, T, pictures, tiles): what each token sees, of a family whose pictures stand beside the text


class RoomyLayer(DynamicLayer):
    """The library's growing layer, copied once in ``ROOM_TOKENS`` tokens instead of at each."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values (B, H, T, D), these behind the others."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._key_room, self._value_room = self.keys, self.values
        self.keys, self._key_room = _behind(self.keys, self._key_room, key_states)
        self.values, self._value_room = _behind(self.values, self._value_room, value_states)
        return self.keys, self.values


def _behind(held: torch.Tensor, room: torch.Tensor, new: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What is held with ``new`` behind it, as a view, and the room that it is a view of."""
    start = held.shape[-2] if held.numel() else 0
    end = start + new.shape[-2]
    if not start or room.shape[-2] < end or room.data_ptr() != held.data_ptr():  # the last: rows came or went
        room = new.new_empty((*new.shape[:-2], end + ROOM_TOKENS, new.shape[-1]))
        if start:
            room[..., :start, :] = held
    room[..., start:end, :] = new
    return room[..., :end, :], room


def roomy_cache() -> Cache:
    """An empty cache for one call of ``generate``."""
    return Cache(layer_class_to_replicate=RoomyLayer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows that are being written."""

    tokens_B1: torch.Tensor  # noqa: N815 (shape suffix)
    """The newest token of each, which no layer has seen yet."""
    mask_BT: torch.Tensor  # noqa: N815
    """Which tokens before it are a row's own, and which are padding, on the left."""
    places_PB1: torch.Tensor  # noqa: N815
    """Where the newest token stands in its row; without P where a family counts one kind."""
    cache: Cache
    beside: frozenset[int]
    """Layers that hold pictures instead of tokens."""
    seen: torch.Tensor | None
    """What the newest token sees of these (B, 1, pictures, tiles)."""

    @property
    def num_rows(self) -> int:
        """B."""
        return self.tokens_B1.shape[0]


def opened(model: PreTrainedModel, batch: Mapping[str, torch.Tensor], greedy: GenerationConfig) -> Rows:
    """Read prompts, and write the first token of each, as ``generate`` does with the settings ``greedy``."""
    first = GenerationConfig.from_dict({**greedy.to_dict(), "max_new_tokens": 1, "return_dict_in_generate": True})
    written = model.generate(**batch, generation_config=first, past_key_values=roomy_cache())
    mask_BT = batch["attention_mask"]  # noqa: N806 (shape suffix)
    places_B1 = mask_BT.sum(1, keepdim=True)  # noqa: N806
    shift_B1 = getattr(model.model, "rope_deltas", None)  # noqa: N806 (of the prompts just read: Qwen2.5-VL counts pictures otherwise)
    seen = batch.get(SEEN)
    return Rows(
        tokens_B1=written.sequences[:, -1:], mask_BT=mask_BT, cache=written.past_key_values,
        places_PB1=places_B1 if shift_B1 is None else torch.stack([places_B1, *[places_B1 + shift_B1] * 3]),
        beside=frozenset(getattr(model.config.get_text_config(), "cross_attention_layers", None) or ()),
        seen=None if seen is None else seen[:, -1:],
    )  # fmt: skip


def next_token(model: PreTrainedModel, rows: Rows) -> Rows:
    """The same rows, each one token longer."""
    mask_BT = torch.cat([rows.mask_BT, torch.ones_like(rows.tokens_B1)], dim=1)  # noqa: N806
    said = model(
        input_ids=rows.tokens_B1, attention_mask=mask_BT, position_ids=rows.places_PB1, past_key_values=rows.cache, use_cache=True,
        **({} if rows.seen is None else {SEEN: rows.seen}),
    )  # fmt: skip
    tokens_B1 = said.logits[:, -1].float().argmax(-1, keepdim=True)  # noqa: N806
    return replace(rows, tokens_B1=tokens_B1, mask_BT=mask_BT, places_PB1=rows.places_PB1 + 1)


def kept(rows: Rows, indices: Sequence[int]) -> Rows:
    """Some of the rows, in this order, without padding that none of them needs; the others are given up with their cache."""
    chosen = torch.tensor(indices, device=rows.mask_BT.device)
    mask_BT = rows.mask_BT[chosen]  # noqa: N806
    start = int(mask_BT.any(0).int().argmax())  # the first column where anybody has a token
    for number, layer in _used(rows):
        first = 0 if number in rows.beside else start
        layer.keys, layer.values = (held[chosen, :, first:] for held in (layer.keys, layer.values))
    return replace(
        rows, tokens_B1=rows.tokens_B1[chosen], mask_BT=mask_BT[:, start:], places_PB1=rows.places_PB1[..., chosen, :],
        seen=None if rows.seen is None else rows.seen[chosen],
    )  # fmt: skip


def joined(rows: Rows, others: Rows) -> Rows:
    """Rows with others behind them: text is padded on the left, pictures that stand beside it on the right, where nobody looks."""
    length, pictures = max(rows.mask_BT.shape[1], others.mask_BT.shape[1]), _most_pictures(rows, others)
    mask_BT = torch.cat([pad(some.mask_BT, (length - some.mask_BT.shape[1], 0)) for some in (rows, others)])  # noqa: N806
    for (number, layer), (_, other) in zip(_used(rows), _used(others), strict=True):
        layer.keys = _stacked(layer.keys, other.keys, is_text=number not in rows.beside)
        layer.values = _stacked(layer.values, other.values, is_text=number not in rows.beside)
    seen = [pad(some.seen, (0, 0, 0, pictures - some.seen.shape[2])) for some in (rows, others) if some.seen is not None]
    return replace(
        rows, tokens_B1=torch.cat([rows.tokens_B1, others.tokens_B1]), mask_BT=mask_BT,
        places_PB1=torch.cat([rows.places_PB1, others.places_PB1], dim=-2), seen=torch.cat(seen) if seen else None,
    )  # fmt: skip


def _used(rows: Rows) -> Iterator[tuple[int, Any]]:
    """The layers that hold anything, by number: one for pictures holds nothing where there are none."""
    return ((number, layer) for number, layer in enumerate(rows.cache.layers) if layer.is_initialized)


def _most_pictures(*several: Rows) -> int:
    return max(0 if rows.seen is None else rows.seen.shape[2] for rows in several)


def _stacked(upper: torch.Tensor, lower: torch.Tensor, *, is_text: bool) -> torch.Tensor:
    """Two layers' keys or values (B, H, T, D), of one length."""
    length = max(upper.shape[-2], lower.shape[-2])

    def padded(held: torch.Tensor) -> torch.Tensor:
        missing = length - held.shape[-2]
        return pad(held, (0, 0, missing, 0) if is_text else (0, 0, 0, missing))

    return torch.cat([padded(upper), padded(lower)])
