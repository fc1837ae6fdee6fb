"""Heavy processes, stopped and killed. If these passed wrongly, a cancelled training would hold the device all night, or a person would not
know what of its work is lost.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from medvl_lib.launch import PARENT_PIPE, left_off, stop_group
from medvl_lib.training.checkpoints import seal
from medvl_lib.workspace import DEVICE_LOCKS, Workspace

ROOT = Path(__file__).parents[1]
CHILD = "import subprocess, sys, time; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True)"


def _start(body: str, **more: object) -> tuple[subprocess.Popen[bytes], int]:
    """A process of its own group that has started another one: its number is what it says first."""
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(body)], stdout=subprocess.PIPE, start_new_session=True, **more)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def _is_gone(pid: int, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_who_does_not_end_in_the_grace_time_is_killed_with_everyone_it_started():
    process, child = _start(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{CHILD}\ntime.sleep(600)")
    started = time.monotonic()
    stop_group(process, grace_seconds=0.5)
    assert 0.5 <= time.monotonic() - started < 5
    assert process.returncode == -signal.SIGKILL
    assert _is_gone(child)


def test_who_ends_in_time_is_waited_for_and_what_it_left_behind_is_ended():
    stubborn = CHILD.replace("time.sleep(600)", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)")
    body = f"import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n{stubborn}\ntime.sleep(600)"
    process, child = _start(body)
    time.sleep(0.3)  # the child has to come so far as to ignore it
    stop_group(process, grace_seconds=20)
    assert process.returncode == 7
    assert _is_gone(child)


def test_when_the_parent_dies_the_process_and_everyone_it_started_die():
    reading, writing = os.pipe()
    body = f"from medvl_lib.launch import die_with_parent\ndie_with_parent()\n{CHILD}\ntime.sleep(600)"
    process, child = _start(body, env={**os.environ, PARENT_PIPE: str(reading)}, pass_fds=(reading,))
    os.close(reading)
    assert process.poll() is None
    os.close(writing)  # what the kernel does when the parent is killed
    assert process.wait(10) == -signal.SIGKILL
    assert _is_gone(child)


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ((), "the training was stopped after step 5, before its first checkpoint: 5 steps are lost, and are done again when it goes on"),
        (
            (2, 4),
            "the training was stopped after step 5; its newest checkpoint is of step 4: 1 steps are lost, and are done again when "
            "it goes on",
        ),
        ((5,), "the training was stopped after step 5; its newest checkpoint is of step 5: 0 steps are lost; it goes on from there"),
    ],
)
def test_what_is_lost_of_a_training_is_said(tmp_path: Path, kept: tuple[int, ...], said: str):
    workspace = Workspace(root=tmp_path)
    folder = workspace.checkpoints("adapter", "documents", "0" * 16)
    for step in (*kept, 9):
        (folder / f"checkpoint-{step}").mkdir(parents=True)
        (folder / f"checkpoint-{step}" / "adapter_model.safetensors").write_bytes(b"weights")
        if step != 9:  # cut off while it was written
            seal(folder / f"checkpoint-{step}")
    (folder / "steps.jsonl").write_text("".join(json.dumps({"step": step + 1}) + "\n" for step in range(5)) + '{"step":')
    assert left_off(workspace, ["adapter"], "documents") == said


def test_of_what_does_not_train_nothing_is_said(tmp_path: Path):
    assert left_off(Workspace(root=tmp_path), ["predictions"], "documents") is None


# -- the device --------------------------------------------------------------------------------------------------------
HOLDER = """
import sys
from pathlib import Path
from medvl_lib.hardware import PROFILES
from medvl_lib.launch import holding_device
from medvl_lib.workspace import Workspace
with holding_device(Workspace(root=Path(sys.argv[1])), PROFILES["cuda"], lambda facts: print("waits", flush=True)):
    print("holds", flush=True)
    sys.stdin.read()
"""
CONTAINED = 'mount --bind "$1" /mnt && mount -t tmpfs none /tmp && shift && exec "$@"'  # a /tmp of its own, and one folder of the machine
CONTAINER = ["unshare", "--mount", "--pid", "--uts", "--fork", "sh", "-c", CONTAINED, "sh"]


def _can_contain(shared: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*CONTAINER, shared, sys.executable, "-c", ""], check=False, capture_output=True).returncode == 0


def _holder(command: list[str], root: Path, locks: str) -> subprocess.Popen[str]:
    """A process that holds the GPU until its input ends; it has a home and a data root of its own."""
    environment = {**os.environ, "HOME": str(root), "PYTHONPATH": str(ROOT), DEVICE_LOCKS: locks}
    asked = [*command, sys.executable, "-c", HOLDER, str(root)]
    return subprocess.Popen(asked, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)


def _said_beside_another(command: list[str], roots: tuple[Path, Path], locks: str) -> list[str]:
    """What a process says that wants the device while another one holds it, and after that one has ended."""
    with _holder(command, roots[0], locks) as first, _holder(command, roots[1], locks) as second:
        assert first.stdout is not None
        assert second.stdout is not None
        told = {process: process.stdout.readline().strip() for process in (first, second)}
        holds = first if told[first] == "holds" else second  # whichever came first
        other = second if holds is first else first
        assert told[holds] == "holds"
        holds.communicate(timeout=60)  # its input ends, and it does
        rest, _ = other.communicate(timeout=60)
        return [told[other], *rest.split()]


def test_two_data_roots_of_two_users_wait_for_one_device_where_its_lock_is_one_file(tmp_path: Path):
    roots, shared = (tmp_path / "one", tmp_path / "two"), tmp_path / "locks"
    for folder in (*roots, shared):
        folder.mkdir()
    assert _said_beside_another([], roots, str(shared)) == ["waits", "holds"]
    assert [path.name for path in shared.iterdir()] == ["medvl-cuda.lock"]


@pytest.mark.slow
def test_two_containers_wait_for_one_device_by_a_folder_that_both_mount_and_by_nothing_else(tmp_path: Path):
    """Containers as the kernel knows them: namespaces of their own for mounts, processes and the host's name, a /tmp of their own."""
    if not _can_contain(tmp_path):
        pytest.skip("no namespaces here: it takes Linux's unshare, the right to mount, and a Python that does not lie below /tmp")
    command, roots = [*CONTAINER, str(tmp_path)], (tmp_path / "one", tmp_path / "two")  # neither is there inside: both are made anew
    assert _said_beside_another(command, roots, "/mnt") == ["waits", "holds"]
    assert _said_beside_another(command, roots, "") == ["holds"]  # each has its own: the GPU would be taken twice
