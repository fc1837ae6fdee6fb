"""Questions that are read beside the answers. If these passed wrongly, answers would wait for pictures, or be about another one."""

import threading
from collections.abc import Mapping

import pytest
import torch

from medvl_lib.models.ahead import LOOKED, PIXELS, Ahead, Coming, looked_at
from tests.models.test_writing import Hearing


def test_questions_come_in_their_order_as_they_are_read():
    let, started = threading.Event(), threading.Event()

    def slow() -> Mapping[str, torch.Tensor]:
        started.set()
        assert let.wait(10)
        return {"input_ids": torch.tensor([[0]])}

    hearers = [Hearing() for _ in range(3)]
    with Ahead() as ahead:
        ahead.read(Coming(slow, hearers[0]))
        for number in (1, 2):
            ahead.read(Coming(lambda number=number: {"input_ids": torch.tensor([[number]])}, hearers[number]))
        assert started.wait(10)
        assert ahead.ready(waits=False) is None  # nobody comes before the first
        assert len(ahead) == 3
        let.set()
        came = [ahead.ready(waits=True) for _ in range(3)]
        assert (len(ahead), ahead.ready(waits=True)) == (0, None)
        assert [coming.hearer for coming in came if coming] == hearers
        assert [int((coming.read() or {})["input_ids"]) for coming in came if coming] == [0, 1, 2]


def test_what_cannot_be_read_is_said_to_whoever_takes_it():
    def broken() -> Mapping[str, torch.Tensor]:
        raise OSError("no picture")

    with Ahead() as ahead:
        ahead.read(Coming(broken, Hearing()))
        coming = ahead.ready(waits=True)
        assert coming is not None
        with pytest.raises(OSError, match="no picture"):
            coming.read()


def test_what_was_not_taken_is_read_no_more():
    let, read = threading.Event(), list[int]()

    def slow() -> Mapping[str, torch.Tensor]:
        let.wait(10)
        return {}

    with Ahead() as ahead:
        ahead.read(Coming(slow, Hearing()))
        ahead.read(Coming(lambda: read.append(1) or {}, Hearing()))
        threading.Timer(0.1, let.set).start()
    assert read == []


class Tower(torch.nn.Module):
    """A model whose forward takes what its tower made, or does not."""

    def __init__(self, *, takes: bool, device: str = "cpu") -> None:
        super().__init__()
        self.device, self.base_model, self.asked = torch.device(device), self, list[torch.Tensor]()
        if takes:
            self.forward = lambda input_ids, mm_encoder_outputs=None: input_ids  # type: ignore[method-assign]
        else:
            self.forward = lambda input_ids, pixel_values=None: input_ids  # type: ignore[method-assign]

    def get_image_features(self, pixel_values: torch.Tensor, image_grid_thw: torch.Tensor, return_dict: bool = False) -> str:
        self.asked = [pixel_values, image_grid_thw]
        return "seen"


def test_the_tower_looks_where_its_words_are_taken_and_the_device_is_not_another_queue():
    prompts = {"input_ids": torch.ones(1), PIXELS: torch.zeros(2), "image_grid_thw": torch.ones(3)}
    assert looked_at(Tower(takes=False), prompts) is prompts  # pyright: ignore[reportArgumentType]
    assert looked_at(Tower(takes=True, device="cuda"), prompts) is prompts  # pyright: ignore[reportArgumentType]
    assert looked_at(Tower(takes=True), {"input_ids": prompts["input_ids"]}).keys() == {"input_ids"}  # pyright: ignore[reportArgumentType]
    tower = Tower(takes=True)
    seen = looked_at(tower, prompts)  # pyright: ignore[reportArgumentType]
    assert seen[LOOKED] == {"image": "seen"} and PIXELS not in seen
    assert seen["image_grid_thw"] is prompts["image_grid_thw"]  # positions are counted from it
    assert [tensor is prompts[name] for tensor, name in zip(tower.asked, (PIXELS, "image_grid_thw"), strict=True)] == [True, True]
