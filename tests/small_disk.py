"""A disk that takes little: what a full one does to a write, without filling one."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def small_disk(num_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond ``num_bytes``; the kernel cuts the write that would (EFBIG).

    Around one call only, never as a fixture: pytest's own output may be a file, and would be cut as well.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
