"""Loops over arrays as machine code."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Any:
    """Return a function of NumPy arrays and numbers that Numba compiles when it is first called, for each kind of them.

    Later processes find the code in a folder beside the source, or in one of the user's; where neither can be written,
    each process compiles it anew, which takes seconds.
    """
    try:
        return numba.njit(function, cache=True, error_model="numpy")
    except RuntimeError:  # no folder for the code can be written
        return numba.njit(function, error_model="numpy")
