"""What every benchmark shares: interleaved rounds on all cores, their spread, the machine's own rate, memory."""

import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

import joblib
import torch

Step = Mapping[str, float]  # the amounts that a step has worked off, such as phrases and FLOPs
SPAWN = multiprocessing.get_context("spawn")


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


@dataclass(frozen=True)
class Turns:
    """How runners take turns."""

    seconds: float  # of each turn
    rounds: int  # turns of each runner, after one step that is not counted
    is_extra: bool  # whether this process is one beyond the cores' own


def race(runners: Mapping[str, Iterator[Step]], turns: Turns) -> dict[str, dict[str, Rate]]:
    """Let endless iterators take turns, so that a busy minute of a shared machine hits all of them.

    It runs within `on_all_cores`, whose processes take each turn together.

    Returns:
        For each runner the rate of each amount.
    """
    for runner in runners.values():
        next(runner)
    found: dict[str, dict[str, list[float]]] = {name: {} for name in runners}
    for _ in range(turns.rounds):
        for name, runner in runners.items():
            BARRIERS[0].wait()
            begin, sums = time.perf_counter(), dict[str, float]()
            while time.perf_counter() - begin < turns.seconds:
                for amount, value in next(runner).items():
                    sums[amount] = sums.get(amount, 0.0) + value
            passed = time.perf_counter() - begin
            for amount, value in sums.items():
                found[name].setdefault(amount, []).append(value / passed)
    return {name: {amount: Rate(tuple(values)) for amount, values in rates.items()} for name, rates in found.items()}


def on_all_cores(call: Callable[..., Any], *arguments: Any, seconds: float, rounds: int, others: int = 0) -> Any:
    """Call a function of Turns and arguments in a process of one thread on each core, and add up the rates it returns.

    Args:
        call: returns rates in dictionaries, and calls `race` equally often in every process.
        arguments: of the function.
        seconds: see Turns.
        rounds: see Turns.
        others: processes beyond the cores' own, whose rates do not count.
    """
    cores = joblib.cpu_count()
    barrier = SPAWN.Barrier(cores + others)  # also keeps a process from taking two of the calls
    with ProcessPoolExecutor(cores + others, SPAWN, initializer=_prepare, initargs=(barrier,)) as pool:
        turns = [Turns(seconds, rounds, number >= cores) for number in range(cores + others)]
        calls = [pool.submit(_call_with_others, call, each, *arguments) for each in turns]
        for error in [each.exception() for each in calls]:
            if error is not None and not isinstance(error, BrokenBarrierError):  # which the others have for it
                raise error
        return _add_up([each.result() for each in calls][:cores])


BARRIERS: list[Any] = []  # the one of this process


def _prepare(barrier: Any) -> None:
    BARRIERS.append(barrier)
    torch.set_num_threads(1)


def _call_with_others(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except BaseException:
        BARRIERS[0].abort()  # the others would wait for ever
        raise


def _add_up(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], Rate):
        return Rate(tuple(map(sum, zip(*(part.rounds for part in parts), strict=True))))
    return {name: _add_up([part[name] for part in parts]) for name in parts[0]}


def matrix_product(size: int = 1024) -> Iterator[Step]:
    """Multiply square matrices for ever: the rate that the recurrent layers are compared with."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    while True:
        torch.mm(left, right)
        yield {"flops": 2.0 * size**3}


def in_own_process(call: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Return what a call gives in a fresh process, and the most memory that a process of it held, in MiB."""
    with ProcessPoolExecutor(1, SPAWN) as pool:
        result: tuple[Any, float] = pool.submit(_call_and_weigh, call, arguments).result()
    return result


def _call_and_weigh(call: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float]:
    result = call(*arguments)
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return result, most / 1024


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
