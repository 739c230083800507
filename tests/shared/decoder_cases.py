"""Property tests of decoders: how many cases, said once; and damage that bytes on a wire can take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

EVERYDAY = settings(max_examples=500, deadline=None)
SLOW = settings(max_examples=10_000, deadline=None)
KINDS = ("flip", "cut", "drop", "insert", "repeat")


def everyday_and_slow(check: Callable[..., None], *strategies: st.SearchStrategy[Any]) -> tuple[Any, Any]:
    """The same property as two tests: 500 cases every day, 10,000 marked slow."""

    def made(how: settings) -> Callable[[Any], None]:
        @given(st.tuples(*strategies))
        @how
        def test(case: tuple[Any, ...]) -> None:
            check(*case)

        return test

    return made(EVERYDAY), pytest.mark.slow(made(SLOW))


def harmed(whole: bytes, kind: str, where: int, what: int) -> bytes:
    """One damage: a byte is another, the end is missing, bytes are lost, come between, or come twice."""
    where %= max(len(whole), 1)
    if kind == "flip":
        return whole[:where] + bytes([whole[where] ^ (what % 255 + 1)]) + whole[where + 1 :]
    if kind == "cut":
        return whole[:where]
    if kind == "drop":
        return whole[:where] + whole[where + what % 40 + 1 :]
    if kind == "insert":
        return whole[:where] + bytes([what % 256]) * (what % 7 + 1) + whole[where:]
    return whole[:where] + whole[: what % len(whole)] + whole[where:]


DAMAGE = st.tuples(st.sampled_from(KINDS), st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1))
