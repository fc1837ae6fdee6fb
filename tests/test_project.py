"""What the project's own files promise: versions for every platform, a Python that is found, walls around every room.

If these passed wrongly, `make` would install something else than what was tried, or a new room would stand outside the import contract.
"""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: list[str] = [line for extra in PROJECT["project"]["optional-dependencies"].values() for line in extra]
DIRECT = [wanted for line in [*PROJECT["project"]["dependencies"], *EXTRAS] if (wanted := Requirement(line)).name != "medvl"]
OF_ANOTHER_NUMBERING = "dagster-postgres"  # 0.29.27 is the one of Dagster 1.13.27
MLX = [Requirement(line) for line in PROJECT["project"]["optional-dependencies"]["mlx"]]
PLATFORMS = {
    "linux-x86_64": {"sys_platform": "linux", "platform_machine": "x86_64"},
    "linux-aarch64": {"sys_platform": "linux", "platform_machine": "aarch64"},
    "macos-arm64": {"sys_platform": "darwin", "platform_machine": "arm64"},
}


def pins(platform: str) -> dict[str, str]:
    lines = (ROOT / "constraints" / f"{platform}.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def commands(folder: Path, **scripts: str) -> dict[str, str]:
    """A PATH with nothing on it but these commands."""
    for name, body in scripts.items():
        path = folder / name.replace("_", ".")
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    return {"PATH": str(folder)}


def find_python(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(ROOT / "scripts" / "find_python.sh")], capture_output=True, text=True, check=False, env=environment
    )


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_dependency_is_pinned_within_its_bounds(platform: str):
    pinned = pins(platform)
    wanted_here = [wanted for wanted in DIRECT if wanted.marker is None or wanted.marker.evaluate(PLATFORMS[platform])]
    outside = [str(wanted) for wanted in wanted_here if not wanted.specifier.contains(pinned[canonicalize_name(wanted.name)])]
    assert not outside


@pytest.mark.parametrize(("platform", "count"), [("linux-x86_64", 2), ("linux-aarch64", 0), ("macos-arm64", 2)])
def test_the_engine_of_apple_silicon_is_pinned_where_it_can_be_installed(platform: str, count: int):
    wanted = [each for each in MLX if each.marker is not None and each.marker.evaluate(PLATFORMS[platform])]
    pinned = pins(platform)
    assert [each.name for each in wanted if not each.specifier.contains(pinned[canonicalize_name(each.name)])] == []
    assert (len(wanted), "mlx" in pinned) == (count, bool(count))


@pytest.mark.parametrize("platform", PLATFORMS)
def test_torch_is_the_same_everywhere_and_its_cuda_parts_are_left_to_it(platform: str):
    pinned = pins(platform)
    assert pinned["torch"] == "2.13.0"
    assert not [name for name in pinned if re.match(r"nvidia|cuda|triton", name)]


@pytest.mark.parametrize("platform", PLATFORMS)
def test_constraints_name_no_index_and_no_hash(platform: str):
    text = (ROOT / "constraints" / f"{platform}.txt").read_text(encoding="utf-8")
    assert not re.search(r"://|--|sha256", text)


def test_every_dependency_has_a_lower_and_an_upper_bound():
    operators = {wanted.name: {part.operator for part in wanted.specifier} for wanted in DIRECT}
    assert not [name for name, found in operators.items() if found != {"=="} and not {">=", "<"} <= found]


def test_the_dagster_family_is_pinned_together():
    family = {wanted.name: str(wanted.specifier) for wanted in DIRECT if wanted.name.startswith("dagster")}
    assert family.pop(OF_ANOTHER_NUMBERING) == "==0.29.27"
    assert set(family.values()) == {"==1.13.27"}


def test_the_newest_python_that_works_is_taken(tmp_path: Path):
    environment = commands(tmp_path, python3_13="exit 127", python3_12="exit 0", python3_11="exit 0")
    assert find_python(environment).stdout == "python3.12\n"


def test_a_python_without_venv_is_named_with_the_cure(tmp_path: Path):
    environment = commands(tmp_path, python3_11='case "$2" in *venv*) exit 1;; esac')
    ran = find_python(environment)
    assert ran.returncode == 1
    assert "python3.11 is here, but its venv module is missing" in ran.stderr


def test_no_python_at_all_is_said_in_one_sentence(tmp_path: Path):
    ran = find_python(commands(tmp_path))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "No Python 3.11, 3.12 or 3.13 is on the PATH: install one of them (python3.11, python3.12 or python3.13).\n"


def test_make_refuses_a_platform_without_versions(tmp_path: Path):
    (tmp_path / "uname").write_text("#!/bin/sh\necho Plan9 mips\n")
    (tmp_path / "uname").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ran = subprocess.run(["make", "install"], capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert ran.returncode != 0
    assert "no versions for this platform" in ran.stderr


def test_every_room_stands_in_the_import_contract():
    contract = next(entry for entry in PROJECT["tool"]["importlinter"]["contracts"] if entry["id"] == "imports-follow-the-route")
    layers = {name.strip() for line in contract["layers"] for name in re.split(r"[:|]", line)}
    split_up = {layer.rpartition(".")[0] for layer in layers if layer.count(".") == 2}
    rooms = [path for path in sorted((ROOT / "medvl_lib").rglob("*")) if path.suffix == ".py" or (path / "__init__.py").is_file()]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in rooms}
    outside = [
        name for name in names if name not in split_up | {"medvl_lib"} and not any(f"{name}.".startswith(f"{layer}.") for layer in layers)
    ]
    assert not outside
