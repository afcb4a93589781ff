"""Loops over arrays as machine code."""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]


def compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Return a function of NumPy arrays and numbers that Numba compiles when it is first called, for each set of types.

    Later processes find the code in a folder beside the source, or in one of the user's; where neither can be written,
    each process compiles it anew, which takes seconds. Loading Numba takes 0.2 seconds, so it waits for a call as well.
    Indices are not checked: one outside an array reads or writes other memory.
    """

    @cache
    def make() -> Any:
        import numba

        try:
            return numba.njit(function, cache=True, error_model="numpy")
        except RuntimeError:  # no folder for the code can be written
            return numba.njit(function, error_model="numpy")

    @wraps(function)
    def call(*arguments: Any) -> None:
        make()(*arguments)

    return call
