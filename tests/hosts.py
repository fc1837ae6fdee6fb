"""Two hosts on this machine, a publisher's and the storage that it redirects to: what the servers of the tests stand on.

In: a handler of requests, what it serves from, and the names of the hosts. Out: their addresses, as long as they listen.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler], hosts: tuple[str, ...], **served: Any) -> Iterator[list[str]]:
    """Serve on a free port for each host; ``served`` and ``host`` are attributes of the handler.

    ``server.released`` is set at the end: what a handler holds back until then is let go.
    """
    servers: list[ThreadingHTTPServer] = []
    for host in hosts:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), {**served, "host": host}))
        server.released = threading.Event()
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
    try:
        yield [f"http://127.0.0.1:{server.server_port}" for server in servers]
    finally:
        for server in servers:
            server.released.set()
            server.shutdown()
            server.server_close()
