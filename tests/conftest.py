"""What holds for every test: no network, no hub, and a real-data test that cannot be forgotten.

If this passed wrongly, a test could fetch something from the internet unseen, and CI could skip the real data in silence.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest_plugins = ["tests.torch_fixtures", "tests.matching_fixtures", "tests.llava_fixtures"]

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin are tens of times slower beside another process (docs/log.md)

LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")  # noqa: S104 (an address to compare with, not to bind to)
NETWORK_FAMILIES = {socket.AF_INET, socket.AF_INET6}
REAL_DATA_REQUIRED = "MEDVL_REQUIRE_REAL_DATA"


def _refuse_strangers(family: int, address: object) -> None:
    host = str(address[0]) if isinstance(address, tuple) else ""
    if family in NETWORK_FAMILIES and not host.startswith(LOOPBACK):
        raise RuntimeError(f"a test may not open a connection to {address!r}: mark it `network`, or let it use this machine only")


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let sockets reach this machine only, unless the test is marked ``network``."""
    if request.node.get_closest_marker("network") is None:
        connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

        def guarded(self: socket.socket, address: object) -> None:
            _refuse_strangers(self.family, address)
            connect(self, address)

        def guarded_ex(self: socket.socket, address: object) -> int:
            _refuse_strangers(self.family, address)
            return connect_ex(self, address)

        monkeypatch.setattr(socket.socket, "connect", guarded)
        monkeypatch.setattr(socket.socket, "connect_ex", guarded_ex)
    yield


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot do."""
    if item.get_closest_marker("network") and os.environ.get("MEDVL_TEST_NETWORK") != "1":
        pytest.skip("needs the internet: set MEDVL_TEST_NETWORK=1")
    if item.get_closest_marker("gpu") and not Path("/proc/driver/nvidia/version").exists():
        pytest.skip("needs a GPU: no NVIDIA driver here")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """With ``MEDVL_REQUIRE_REAL_DATA=1`` a real-data test that skips has failed."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and item.get_closest_marker("real_data") and os.environ.get(REAL_DATA_REQUIRED) == "1":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} skipped although {REAL_DATA_REQUIRED}=1: {report.longrepr}"
