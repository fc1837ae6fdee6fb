"""A server process: a socket that listens, and uvicorn on it.

In: what is served, and an address. Out: nothing; it runs until it is told to end. The command line and the parity step start the very same
one. On the loopback interface anyone on this machine may ask; on any other only who has the key.
"""

import ipaddress
import logging
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import uvicorn
from fastapi import FastAPI

from medvl_lib.errors import MedVLError
from medvl_lib.hardware import Profile
from medvl_lib.lines import Line
from medvl_lib.serving.app import make_app
from medvl_lib.serving.counter import Counter
from medvl_lib.serving.desk import ANSWER_SECONDS
from medvl_lib.serving.keys import MIN_KEY_CHARACTERS, Keys, read_keys
from medvl_lib.serving.page.routes import add_page
from medvl_lib.serving.resident import exchange_adapter, fits_beside, load_resident
from medvl_lib.serving.served import ServedModel, is_current, served_model
from medvl_lib.serving.slack import keep_little
from medvl_lib.serving.wire import MAX_HEAD_BYTES, Wire
from medvl_lib.workspace import Workspace

LOOPBACK = "127.0.0.1"
KEY_VARIABLE, KEYS_VARIABLE = "MEDVL_API_KEY", "MEDVL_API_KEYS"
"""One key for all, and keys with names; of the environment alone: a command line can be read by every process of the machine."""
GRACE_SECONDS = 30  # for the answer that is being written
SWITCH_SECONDS = 0.0005  # after which the model's thread lets the one that talks to clients run; Python's own 0.005 is one wait of many


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What a server process is told."""

    model: ServedModel
    compared: str
    """How its answers were compared with those that were judged, in words."""
    line: Line
    profile: Profile
    workspace: Workspace
    keys: Keys | None
    benchmark_url: str = ""
    """Where a copy of the benchmark goes, when a rating publishes it; empty: nowhere."""
    answer_seconds: float = ANSWER_SECONDS
    """From a request to its whole answer, the wait included; then the one who asked is told so, and the place is free."""
    compare: Callable[[ServedModel], str] | None = None
    """How what the pointer comes to name was compared; raises MedVLError where it may not be served. None: it is not followed."""


def keys_for(host: str) -> Keys | None:
    """The keys of which every request must show one; raises MedVLError where there is none and others can reach the address."""
    keys = read_keys(os.environ.get(KEY_VARIABLE), os.environ.get(KEYS_VARIABLE), where=(KEY_VARIABLE, KEYS_VARIABLE))
    if keys is None and not _is_loopback(host):
        raise MedVLError(
            found=f"the address {host}, which other machines reach, and no key", where=KEY_VARIABLE,
            do=f"set {KEY_VARIABLE} to a secret of at least {MIN_KEY_CHARACTERS} characters, or serve on {LOOPBACK}",
        )  # fmt: skip
    return keys


def _is_loopback(host: str) -> bool:
    return all(ipaddress.ip_address(address[4][0]).is_loopback for address in _resolved(host, 0))


def _resolved(host: str, port: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)  # pyright: ignore[reportReturnType]  # IPv6 addresses have four parts
    except OSError as error:
        raise MedVLError(
            found=f"no address ({error.strerror})", where=f"--host {host}", do=f"name an interface, such as {LOOPBACK}"
        ) from error


def listen(host: str, port: int) -> socket.socket:
    """A socket at this address; port 0 takes any that is free. Raises MedVLError where the system gives none."""
    family, _, _, _, address = _resolved(host, port)[0]
    try:
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise MedVLError(
            found=f"{error.strerror}", where=f"{host} port {port}", do="take another --port, or end what listens there"
        ) from error


def run(serving: Serving, listening: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl-C; the answer that is being written is finished."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("medvl_lib.serving").setLevel(logging.INFO)
    sys.setswitchinterval(SWITCH_SECONDS)
    keep_little()
    server(make_app(counter_of(serving), add_page)).run(sockets=[listening])


def counter_of(serving: Serving) -> Counter:
    """What the application serves: this model, until the pointer names another."""
    return Counter(
        model=serving.model, compared=serving.compared, line=serving.line, profile=serving.profile, workspace=serving.workspace,
        load=partial(load_resident, serving.model, serving.line, serving.profile),
        onto=partial(exchange_adapter, model=serving.model), fits=partial(fits_beside, serving.model, serving.profile),
        answer_seconds=serving.answer_seconds, benchmark_url=serving.benchmark_url,
        is_current=partial(is_current, serving.workspace, serving.model), newer=partial(_newer, serving), keys=serving.keys,
    )  # fmt: skip


def _newer(serving: Serving) -> Counter | None:
    if serving.compare is None or is_current(serving.workspace, serving.model):
        return None
    model = served_model(serving.workspace, serving.line)
    return counter_of(replace(serving, model=model, compared=serving.compare(model)))


def server(app: FastAPI) -> uvicorn.Server:
    """Uvicorn around an application, on our own ``wire``, without its log of requests: that one has the query in it."""
    config = uvicorn.Config(
        app, http=Wire, ws="none", h11_max_incomplete_event_size=MAX_HEAD_BYTES, log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )  # fmt: skip
    logging.getLogger("uvicorn.access").disabled = True  # whoever adds a handler to it
    return uvicorn.Server(config)
