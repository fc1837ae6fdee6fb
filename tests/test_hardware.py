"""The right profile for a machine, and a reason for it.

If these passed wrongly, a GB10 would be planned with its page cache counted as used, or a CPU build of torch sent to a GPU.
"""

import math
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from medvl_lib.hardware import (
    PROFILES,
    Engine,
    Gpu,
    Machine,
    Numerics,
    Profile,
    Quantization,
    available_bytes,
    choose,
    numerics,
    parse_gpu,
    profile_for,
    profile_named,
    room_bytes,
    torch_device,
    why,
)
from medvl_lib.settings import read_settings

GIB = 2**30
LAPTOP = Machine(
    system="Linux", architecture="x86_64", chip="", num_cores=8, available_bytes=24 * GIB, gpu=None, torch_version="2.13.0+cpu"
)
SERVER = replace(LAPTOP, gpu=Gpu(name="NVIDIA H200", memory_bytes=140 * GIB, compute_capability=9.0), torch_version="2.13.0+cu130")
SPARK = replace(SERVER, architecture="aarch64", gpu=Gpu(name="NVIDIA GB10", memory_bytes=None, compute_capability=12.1))
STUDIO = replace(
    LAPTOP, system="Darwin", architecture="arm64", chip="Apple M3 Ultra", available_bytes=500 * GIB, torch_version="2.13.0",
    mlx_version="0.7.10",
)  # fmt: skip


@pytest.mark.parametrize(("machine", "name"), [(LAPTOP, "cpu"), (SERVER, "cuda"), (SPARK, "gb10"), (STUDIO, "m3_ultra")])
def test_each_machine_gets_its_profile_and_a_reason(machine: Machine, name: str):
    profile, reasons = choose(machine)
    assert profile.name == name
    assert {"name", "num_threads", "memory_budget_bytes"} <= reasons.keys()


def test_a_gpu_that_the_installed_torch_cannot_use_does_not_count():
    profile, reasons = choose(replace(SERVER, torch_version="2.13.0+cpu"))
    assert profile.device == "cpu"
    assert reasons["name"] == "torch 2.13.0+cpu is a CPU build and cannot use the NVIDIA H200"


def test_a_gpu_without_bfloat16_computes_in_float32_never_in_float16():
    old = replace(SERVER, gpu=Gpu(name="Tesla T4", memory_bytes=15 * GIB, compute_capability=7.5))
    profile, reasons = choose(old)
    assert profile.weights_dtype == "float32"
    assert "7.5 has no bfloat16" in reasons["weights_dtype"]


def test_the_budget_is_the_gpus_own_memory_or_what_the_system_can_give():
    assert choose(SERVER).profile.memory_budget_bytes == 140 * GIB
    assert choose(SPARK).profile.memory_budget_bytes == 24 * GIB


def test_a_container_limit_lowers_what_is_available(tmp_path: Path):
    limit = tmp_path / "memory.max"
    limit.write_text("1000\n")
    assert available_bytes(limit) == 1000
    limit.write_text("max\n")
    assert available_bytes(limit) > 1000


def test_room_is_what_the_profile_grants_and_what_is_there():
    laptop, server = (replace(PROFILES[name], memory_budget_bytes=10**15, memory_margin_share=0.5) for name in ("cpu", "cuda"))
    assert room_bytes(server) == 5 * 10**14  # its memory is its own: how much the system has says nothing of it
    assert room_bytes(laptop) == pytest.approx(available_bytes(), rel=0.2)
    assert room_bytes(replace(laptop, memory_budget_bytes=1000)) == 500
    assert room_bytes(replace(server, memory_budget_bytes=0)) == math.inf  # nothing is known


@pytest.mark.parametrize(
    ("line", "gpu"),
    [
        ("NVIDIA H200, 143771, 9.0", Gpu(name="NVIDIA H200", memory_bytes=143771 * 2**20, compute_capability=9.0)),
        ("NVIDIA GB10, [N/A], 12.1", Gpu(name="NVIDIA GB10", memory_bytes=None, compute_capability=12.1)),
    ],
)
def test_what_the_driver_prints_is_read(line: str, gpu: Gpu):
    assert parse_gpu(line) == gpu


def test_settings_name_the_profile_and_change_its_fields(tmp_path: Path):
    path = tmp_path / "dagster_project.toml"
    path.write_text('data_root = "d"\nscale = "tiny"\nprofile = "cuda"\n[datasets]\n[profiles.cuda]\nprediction_batch = 3\n')
    profile, reasons = profile_for(read_settings(path))
    assert (profile.name, profile.prediction_batch) == ("cuda", 3)
    assert reasons["prediction_batch"] == f"set in {path}, [profiles.cuda]"


def test_only_type_engine_and_quantization_bear_identity():
    cpu = PROFILES["cpu"]
    assert numerics(cpu) == Numerics(weights_dtype="float32", engine="torch", quantization="nf4")
    assert numerics(replace(cpu, training_batch=1, num_threads=7, memory_budget_bytes=1)) == numerics(cpu)


def test_a_profile_refuses_what_no_machine_can_do():
    with pytest.raises(ValueError, match="training_batch = 0 must be at least 1"):
        replace(PROFILES["cpu"], training_batch=0)


@pytest.mark.parametrize(("engine", "quantization"), [("mlx", "nf4"), ("torch", "mlx-affine4")])
def test_an_engine_packs_weights_in_its_own_way(engine: Engine, quantization: Quantization):
    with pytest.raises(ValueError, match=f"quantization = '{quantization}' and engine = '{engine}'"):
        replace(PROFILES["cpu"], engine=engine, quantization=quantization)


def test_mlx_has_no_place_beside_cuda():
    with pytest.raises(ValueError, match="engine = 'mlx' and device = 'cuda'"):
        replace(PROFILES["cuda"], engine="mlx", quantization="none")


def test_a_mac_without_mlx_trains_on_torch_and_says_why():
    profile, reasons = choose(STUDIO)
    assert (profile.engine, profile.quantization) == ("mlx", "mlx-affine4")
    profile, reasons = choose(replace(STUDIO, mlx_version=""))
    assert (profile.engine, profile.quantization) == ("torch", "none")
    assert reasons["engine"].startswith("mlx-vlm is not installed")


def test_torchs_own_tensors_stay_where_the_engine_hands_them_over():
    assert [torch_device(PROFILES[name]) for name in ("cpu", "cuda", "m3_ultra")] == ["cpu", "cuda", "cpu"]
    assert torch_device(replace(PROFILES["m3_ultra"], engine="torch", quantization="none")) == "mps"


def test_every_profile_is_named_after_itself_and_none_trains_in_float16_or_without_a_limit_on_mps():
    assert {profile.name for profile in PROFILES.values()} == set(PROFILES)
    environment = PROFILES["m3_ultra"].environment
    high, low = (float(environment[f"PYTORCH_MPS_{level}_WATERMARK_RATIO"]) for level in ("HIGH", "LOW"))
    assert 0 < low <= high < 1


def test_the_peak_is_in_bytes_outlives_what_was_held_and_is_not_the_parents():
    child = "from medvl_lib.hardware import peak_memory_bytes as p; held = b'x' * {held}; del held; print(p())"
    small, large = child.format(held=1), child.format(held=300_000_000)
    parent = (
        f"import subprocess, sys; held = b'x' * 500_000_000; [subprocess.run([sys.executable, '-c', c]) for c in ({small!r}, {large!r})]"
    )
    printed = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True).stdout.split()
    assert int(printed[0]) < 200_000_000
    assert 300_000_000 < int(printed[1]) < 500_000_000


@pytest.mark.parametrize(("machine", "name"), [(LAPTOP, "cpu"), (SERVER, "cuda"), (SPARK, "gb10"), (STUDIO, "m3_ultra")])
def test_every_field_of_a_profile_has_a_reason(machine: Machine, name: str):
    reasons = dict(why(choose(machine)))
    assert list(reasons) == [field.name for field in fields(Profile) if field.name != "name"]
    assert all(len(reason.split()) >= 3 for reason in reasons.values())


def test_memory_that_is_shared_is_neither_pinned_nor_mapped_twice():
    for name in ("gb10", "m3_ultra"):
        assert (PROFILES[name].pin_memory, PROFILES[name].maps_weights) == (False, False)
    assert (PROFILES["m3_ultra"].num_workers, PROFILES["cuda"].pin_memory) == (2, True)


def test_float16_is_no_profiles_own_and_may_be_set(tmp_path: Path):
    assert "float16" not in {profile.weights_dtype for profile in PROFILES.values()}
    path = tmp_path / "dagster_project.toml"
    path.write_text('data_root = "d"\nscale = "tiny"\nprofile = "cpu"\n[datasets]\n[profiles.m3_ultra]\nweights_dtype = "float16"\n')
    assert profile_named(read_settings(path), "m3_ultra").weights_dtype == "float16"


def test_flash_attention_is_taken_where_it_is_installed_and_not_on_a_gb10():
    assert choose(SERVER).profile.attention == "sdpa"
    found = choose(replace(SERVER, flash_attention_version="2.8.3"))
    assert (found.profile.attention, found.reasons["attention"]) == ("flash_attention_2", "flash-attn 2.8.3 is installed")
    assert choose(replace(SPARK, flash_attention_version="2.8.3")).profile.attention == "sdpa"


def test_ceilings_are_a_known_gpus_or_not_stated():
    assert choose(SERVER).profile.compute_per_second == 989e12
    other = replace(SERVER, gpu=Gpu(name="NVIDIA Something", memory_bytes=GIB, compute_capability=9.0))
    assert choose(other).profile.compute_per_second == 0


def test_detection_imports_no_torch():
    code = "import sys, medvl_lib.hardware as h; h.choose(h.look()); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
