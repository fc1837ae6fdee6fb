"""What a device is asked. If these passed wrongly, a GB10 with an old compiler would fail in the middle of the first picture, or a device
that computes would be refused because of a warning. The probes' answers are faked, what is made of them is not.
"""

import pytest
import torch

from medvl_lib.errors import MedVLError
from medvl_lib.hardware import PROFILES
from medvl_lib.models.probes import (
    integer_product,
    matrix_product,
    multiplies_integers,
    multiply_integers_on_the_cpu,
    prepare,
    require_products,
)

NVRTC = "nvrtc: error: invalid value for --gpu-architecture (-arch)"


def _refusing(_: str) -> float:
    raise RuntimeError(NVRTC)


def test_a_device_that_computes_passes_both_probes():
    require_products("cpu", matrix_product)
    assert multiplies_integers("cpu", integer_product)


def test_products_in_32_bits_are_not_rounded_to_tf32():
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    prepare(PROFILES["cpu"])
    assert not (torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)


def test_a_device_that_fails_or_multiplies_wrongly_is_refused_with_what_it_said():
    with pytest.raises(MedVLError, match="no kernel image"):
        require_products("cuda", lambda _: (_ for _ in ()).throw(RuntimeError("CUDA error: no kernel image is available")))
    with pytest.raises(MedVLError, match="gives 63.0 where 64 is right"):
        require_products("cuda", lambda _: 63.0)


def test_an_integer_product_that_the_compiler_refuses_or_that_is_wrong_is_seen():
    assert not multiplies_integers("cuda", _refusing)
    assert not multiplies_integers("cuda", lambda _: 5.0)


def test_the_mend_changes_no_product_and_touches_integers_of_that_device_alone():
    grid, numbers = torch.tensor([[1, 8, 6]]), torch.tensor([[0.5, 3.0]])
    calls: list[torch.Tensor] = []
    original = torch.Tensor.cpu
    undo = multiply_integers_on_the_cpu("cpu")
    torch.Tensor.cpu = lambda tensor: calls.append(tensor) or original(tensor)
    try:
        assert grid.prod(-1).tolist() == [48]
        assert numbers.prod(-1).tolist() == [1.5]
    finally:
        torch.Tensor.cpu = original
        undo()
    assert [call is grid for call in calls] == [True]
    assert torch.Tensor.prod.__name__ == "prod"
    assert grid.prod().item() == 48
