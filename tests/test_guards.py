"""The guards of the suite itself.

If these passed wrongly, a test could reach the internet unseen, and CI could skip the real data without anyone noticing.
"""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
import pytest

@pytest.mark.real_data
def test_reads_real_rows():
    pytest.skip("mtsamples: no ../shared/data/mtsamples")
"""


def test_a_connection_to_another_machine_is_refused():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stranger, pytest.raises(RuntimeError, match=r"203\.0\.113\.1"):
        stranger.connect(("203.0.113.1", 443))


def test_a_connection_to_this_machine_is_allowed():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5) as client:
        assert client.getpeername() == server.getsockname()


def test_the_hub_is_offline():
    assert os.environ["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize(("required", "status", "says"), [("0", 0, "1 skipped"), ("1", 1, "skipped although MEDVL_REQUIRE_REAL_DATA=1")])
def test_a_skipped_real_data_test_fails_where_real_data_is_required(tmp_path: Path, required: str, status: int, says: str):
    shutil.copy(Path(__file__).parent / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = real_data: x\n")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path)], capture_output=True, text=True, check=False,
        env={**os.environ, "MEDVL_REQUIRE_REAL_DATA": required},
    )  # fmt: skip
    assert ran.returncode == status
    assert says in ran.stdout
