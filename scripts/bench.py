"""Run every script of ``benchmarks/``, one after the other, and say which goals held: ``make bench``.

In: nothing, or names of scripts. Out: what each prints, then one line each with its exit status and time; exit status 1 where one failed.
They compare ratios within one run; the machine should do nothing else. A few need an hour; name those you want to run only some.

    python scripts/bench.py [labeler_speed intervals ...]
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Run them."""
    scripts = {path.stem: path for path in sorted((ROOT / "benchmarks").glob("*.py"))}
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(scripts)}; without one, all")
    names = arguments.parse_args().names or list(scripts)
    if unknown := [name for name in names if name not in scripts]:
        arguments.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(scripts)}")
    told: list[tuple[str, int, float]] = []
    for name in names:
        print(f"== {name}", flush=True)
        started = time.monotonic()
        status = subprocess.run([sys.executable, str(scripts[name])], cwd=ROOT, check=False).returncode
        told.append((name, status, time.monotonic() - started))
    print("== all")
    for name, status, seconds in told:
        print(f"{name:22}  {'held' if status == 0 else f'FAILED ({status})':12}  {seconds:6.0f} s")
    return int(any(status for _, status, _ in told))


if __name__ == "__main__":
    sys.exit(main())
