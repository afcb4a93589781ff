"""Calls to a service with retries: after a 429 as late as it asks, after other faults with pauses.

A room of its own below kaggle.py: other downloads are asked for in the same way.
"""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

import requests

TRIES = 5
LONGEST_WAIT = 120.0  # seconds
T = TypeVar("T")


def with_retries(call: Callable[[], T], who: str) -> T:
    """Call, and call again after a 429, a fault of the service or of the network, with a line that says so.

    Raises:
        requests.RequestException: the last answer, where it is none of those or the last of TRIES.
    """
    for attempt in range(1, TRIES + 1):
        try:
            return call()
        except requests.RequestException as error:
            pause = _pause(error, attempt)
            if pause is None or attempt == TRIES or pause > LONGEST_WAIT:
                raise
            status = status_of(error)
            found = f"answers {status}" if status else "cannot be reached"
            print(f"{who} {found}; trying again in {pause:.0f} s ({attempt} of {TRIES - 1})", file=sys.stderr)
            time.sleep(pause)
    raise AssertionError("unreachable")


def is_network_fault(error: Exception) -> bool:
    """Return whether an error is the network's, not an answer."""
    kinds = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return status_of(error) is None and isinstance(error, kinds)


def status_of(error: Exception) -> int | None:
    """Return the HTTP status of the answer that an error carries."""
    response = getattr(error, "response", None)
    return response.status_code if response is not None else None


def asked_wait(error: Exception) -> float:
    """Return the seconds of an answer's Retry-After, 0 where it gives none."""
    response = getattr(error, "response", None)
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    return float(asked) if asked.isdigit() else 0.0


def _pause(error: requests.RequestException, attempt: int) -> float | None:
    """Return after how many seconds to call again, None where that would not help."""
    status = status_of(error)
    if status == 429:
        return asked_wait(error) or 5.0 * attempt
    if is_network_fault(error) or (status is not None and status >= 500):
        return float(2 ** (attempt - 1))
    return None
