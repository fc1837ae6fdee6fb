"""Write constraints/<platform>.txt: one complete, tested-together set of versions per platform, for Python 3.11 to 3.13.

In: pyproject.toml. Out: three files that ``pip install -c`` reads. They hold no index address and no hash. What torch itself
brings along for CUDA (nvidia-*, cuda-*, triton) is left out: a constraints file only bounds what is installed, so a machine
whose pip finds a CPU build of torch keeps it, and one that takes the CUDA build gets the versions that this torch asks for.

Run it after changing a dependency: ``python scripts/compile_constraints.py`` (it asks the package index).
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLATFORMS = {
    "linux-x86_64": "x86_64-manylinux_2_28",
    "linux-aarch64": "aarch64-manylinux_2_28",
    "macos-arm64": "aarch64-apple-darwin",
}
WITH_MLX = {
    "linux-x86_64": "x86_64-manylinux_2_35",  # MLX has no wheels for older ones; nothing else needs so new a system
    "linux-aarch64": "aarch64-manylinux_2_28",  # the extra is empty there
    "macos-arm64": "aarch64-apple-darwin",
}
EXTRAS = [part for extra in ("dev", "ray", "kubernetes", "s3", "postgres") for part in ("--extra", extra)]
PYTHONS = ("3.11", "3.12", "3.13")
TORCH = "torch==2.13.0"  # the release whose CUDA wheels know every machine of the README, and that exists as a CPU build
BUILT = ("rouge-score",)  # has no wheel: a few lines of Python that pip builds
BROUGHT_BY_TORCH = re.compile(r"(nvidia|cuda|triton)\b")
# torch 2.13 and bitsandbytes ship wheels for macOS 14 and later only; a lower target falls back to bitsandbytes 0.42 unasked.
MACOS_TARGET = "14.0"

HEADER = """\
# Versions that were resolved together for {platform}, Python {pythons}. Written by scripts/compile_constraints.py: do not edit.
# pip install -c constraints/{platform}.txt -e '.[dev]'
"""


def resolve(platform: str, python: str, bounds: list[str], *more: str) -> list[str]:
    """The ``name==version`` lines of one resolution within ``bounds``; a failure of uv is told in its own words."""
    command = [
        sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", *EXTRAS, *more, "--constraints", "-",
        "--python-platform", (WITH_MLX if more else PLATFORMS)[platform], "--python-version", python,
        "--only-binary", ":all:", *(part for name in BUILT for part in ("--no-binary", name)), "--no-header", "--no-annotate", "--quiet",
    ]  # fmt: skip
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS_TARGET}
    ran = subprocess.run(command, input="\n".join(bounds), capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    if ran.returncode:
        raise SystemExit(f"{platform}, Python {python}: uv found no set of versions\n{ran.stderr}")
    return [line for line in ran.stdout.splitlines() if "==" in line]


def compile_platform(platform: str) -> list[str]:
    """One set that holds for every Python: a later one keeps the versions of the first and may only add packages."""
    lines = [TORCH]
    for more in ((), ("--extra", "mlx")):
        for python in PYTHONS:
            known = {name_of(line) for line in lines}
            lines += [line for line in resolve(platform, python, lines, *more) if name_of(line) not in known]
    return sorted(line for line in lines if not BROUGHT_BY_TORCH.match(line))


def name_of(line: str) -> str:
    """The package's name."""
    return line.partition("==")[0].strip().lower()


def main() -> None:
    """Write all three files."""
    for platform in PLATFORMS:
        lines = compile_platform(platform)
        path = ROOT / "constraints" / f"{platform}.txt"
        header = HEADER.format(platform=platform, pythons=f"{PYTHONS[0]} to {PYTHONS[-1]}")
        path.write_text(header + "\n".join(lines) + "\n", encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {len(lines)} versions")


if __name__ == "__main__":
    main()
