"""One thread for what a run computes: the same bits everywhere, and no waiting for a busy core."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Matrices of 48 rows gain little from a second thread, and wait for it long where a core is busy.

    The order of sums depends on threads too: runs with one are the same bits on machines of any size.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):  # numpy's own
            yield
    finally:
        torch.set_num_threads(before)
