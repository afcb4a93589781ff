"""Requests that only read, repeated after a fault that passes: of the network, of the service, or a 429."""

import sys
from collections.abc import Callable
from typing import TypeVar

import requests
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

TRIES = 5
LONGEST_WAIT = 120.0  # seconds
T = TypeVar("T")


def with_retries(call: Callable[[], T], who: str) -> T:
    """Call, and repeat the call after a passing fault, which is reported on standard error.

    Raises:
        requests.RequestException: the error of a call that repeating would not help, or of the last of TRIES.
    """

    def report(state: RetryCallState) -> None:
        found = f"answered {status}" if (status := status_of(_error(state))) else "cannot be reached"
        pause, tries = state.upcoming_sleep, f"{state.attempt_number} of {TRIES - 1}"
        print(f"{who} {found}; trying again in {pause:.0f} s ({tries})", file=sys.stderr)

    stop, condition = stop_after_attempt(TRIES), retry_if_exception(_is_passing)
    return Retrying(retry=condition, wait=_pause, stop=stop, before_sleep=report, reraise=True)(call)


def is_network_fault(error: BaseException) -> bool:
    """Return whether an error is the network's, not a response."""
    kinds = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return status_of(error) is None and isinstance(error, kinds)


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of the response that an error carries."""
    response = getattr(error, "response", None)
    return response.status_code if response is not None else None


def retry_after(error: BaseException) -> float:
    """Return the seconds of a response's Retry-After header, 0 where it has none."""
    response = getattr(error, "response", None)
    value = response.headers.get("Retry-After", "") if response is not None else ""
    return float(value) if value.isdigit() else 0.0


def _is_passing(error: BaseException) -> bool:
    status = status_of(error) or 0
    return is_network_fault(error) or status >= 500 or (status == 429 and retry_after(error) <= LONGEST_WAIT)


def _pause(state: RetryCallState) -> float:
    error, attempt = _error(state), state.attempt_number
    if status_of(error) == 429:
        return retry_after(error) or 5.0 * attempt
    return float(2 ** (attempt - 1))


def _error(state: RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome else None
    return error or AssertionError("called after a failure only")
