"""What every benchmark shares: interleaved rounds, their spread, the machine's own rate, memory of a process."""

import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Rate:
    """Amounts a second over several rounds."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the middle round."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """Return half the distance of the fastest and the slowest round, as a share of the median."""
        return (max(self.rounds) - min(self.rounds)) / 2 / self.median if self.median else 0.0


def race(
    runners: Mapping[str, Iterator[Mapping[str, float]]], seconds: float, rounds: int
) -> dict[str, dict[str, Rate]]:
    """Let endless iterators take turns, so that a busy minute of a shared machine hits all of them.

    Args:
        runners: by name; each step yields the amounts that it has worked off, such as phrases and FLOPs.
        seconds: of each turn.
        rounds: turns of each runner, after one step that is not counted.

    Returns:
        For each runner the rate of each amount.
    """
    for runner in runners.values():
        next(runner)
    found: dict[str, dict[str, list[float]]] = {name: {} for name in runners}
    for _ in range(rounds):
        for name, runner in runners.items():
            begin, sums = time.perf_counter(), dict[str, float]()
            while time.perf_counter() - begin < seconds:
                for amount, value in next(runner).items():
                    sums[amount] = sums.get(amount, 0.0) + value
            passed = time.perf_counter() - begin
            for amount, value in sums.items():
                found[name].setdefault(amount, []).append(value / passed)
    return {name: {amount: Rate(tuple(values)) for amount, values in rates.items()} for name, rates in found.items()}


def matrix_product(size: int = 1024) -> Iterator[Mapping[str, float]]:
    """Multiply square matrices for ever: the rate that the recurrent layers are compared with."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    while True:
        torch.mm(left, right)
        yield {"flops": 2.0 * size**3}


def in_own_process(call: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Return what a call gives in a fresh process, and the most memory that the process held, in MiB."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        result: tuple[Any, float] = pool.submit(_call_and_weigh, call, arguments).result()
    return result


def _call_and_weigh(call: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float]:
    result = call(*arguments)
    return result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print lines in columns."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    print(f"\n{title}")
    for row in [header, *rows]:
        first, *rest = (cell.ljust(width) if not place else cell.rjust(width)
                        for place, (cell, width) in enumerate(zip(row, widths, strict=True)))  # fmt: skip
        print("  ".join([first, *rest]).rstrip())


def write(name: str, content: Mapping[str, Any], folder: Path) -> None:
    """Write one benchmark's figures as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
