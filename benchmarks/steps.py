"""Where the time of a training step goes."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks import dataset, loops
from benchmarks.measure import Rate, matrix_product, print_table
from benchmarks.params import settings
from unroll.models import span_classifier
from unroll.models.pooling import pool_spans
from unroll.models.recurrent import run_layers
from unroll.models.span_classifier import CELLS
from unroll.training.fit import EagerStep
from unroll.training.state import TrainState

STEPS = 160  # of a turn
BATCH, EMBEDDING, RECURRENT = "reading the batch", "embedding, its dropout and gradient", "recurrent layers"
POOLING, HEAD, UPDATE = "span pooling and its dropout", "head and loss", "clipping, optimizer, averages"
PARTS_OF_A_STEP = (BATCH, EMBEDDING, RECURRENT, POOLING, HEAD, UPDATE)


class Clock:
    """Adds the time since the last mark to the part that ended there; a step passes its parts one after the other."""

    def __init__(self) -> None:
        """Begin with no time spent."""
        self.start()

    def start(self) -> None:
        """Forget the time so far."""
        self.spent, self.last = dict.fromkeys(PARTS_OF_A_STEP, 0.0), time.perf_counter()

    def mark(self, part: str) -> None:
        """End a part."""
        now = time.perf_counter()
        self.spent[part] += now - self.last
        self.last = now

    def mark_both(self, values: Tensor, forward: str, backward: str) -> Tensor:
        """End a part of the way forward at values, and on the way back, at their gradient, another."""
        self.mark(forward)
        values.register_hook(lambda gradient: self.mark(backward))  # type: ignore[no-untyped-call]
        return values


@contextmanager
def clocked(clock: Clock) -> Iterator[None]:
    """Let the product's own training step mark its parts, in a block."""

    def after(function: Any, forward: str, backward: str | None = None) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            found = function(*arguments, **options)
            if backward is None:
                clock.mark(forward)
                return found
            return clock.mark_both(found, forward, backward)

        return call

    update = TrainState.update

    def run_marked(layers: Any, inputs: Tensor, lengths: Any) -> Tensor:
        return clock.mark_both(
            run_layers(layers, clock.mark_both(inputs, EMBEDDING, RECURRENT), lengths), RECURRENT, POOLING
        )

    def update_marked(state: TrainState, *arguments: Any) -> Tensor:
        clock.mark(BATCH)
        backward = after(state.accelerator.backward, EMBEDDING)
        with mock.patch.object(state.accelerator, "backward", backward):
            return update(state, *arguments)

    with ExitStack() as patches:
        for owner, name, marked in (
            (span_classifier, "run_layers", run_marked),
            (span_classifier, "pool_spans", after(pool_spans, POOLING, HEAD)),
            (TrainState, "update", update_marked),
            (EagerStep, "__call__", after(EagerStep.__call__, UPDATE)),
        ):
            patches.enter_context(mock.patch.object(owner, name, marked))
        yield


def steps(data: Path, seconds: float, rounds: int) -> dict[str, Any]:
    """Milliseconds of each part of a training step, forward and backward, with one thread."""
    torch.set_num_threads(1)
    config, seed = settings()
    corpus = dataset.tokenize(dataset.read(data, config, seed), config, "sentence")
    runners = {cell: loops.ours(cell, config, corpus, config.train.batch_size) for cell in CELLS}
    clock, found = Clock(), {cell: {part: list[float]() for part in PARTS_OF_A_STEP} for cell in CELLS}
    for runner in runners.values():
        list(islice(runner, 20))
    with clocked(clock):
        for _ in range(rounds):
            for cell, runner in runners.items():
                clock.start()
                list(islice(runner, STEPS))
                for part, spent in clock.spent.items():
                    found[cell][part].append(1000 * spent / STEPS)
    rates = {cell: {part: Rate(tuple(times)) for part, times in parts.items()} for cell, parts in found.items()}
    rate = product_rate(seconds)
    table = [(part, *(f"{rates[cell][part].median:.1f}" for cell in CELLS)) for part in PARTS_OF_A_STEP]
    table.append(("all", *(f"{sum(each.median for each in rates[cell].values()):.1f}" for cell in CELLS)))
    print_table(f"A training step, one thread, ms; matrix product {rate / 1e9:,.0f} GFLOP/s", ("part", *CELLS), table)
    medians = {cell: {part: each.median for part, each in parts.items()} for cell, parts in rates.items()}
    return {"matrix_product_gflops": rate / 1e9, "milliseconds": medians}


def product_rate(seconds: float) -> float:
    """Return the FLOPs a second of matrix products alone."""
    begin, flops, product = time.perf_counter(), 0.0, matrix_product()
    while time.perf_counter() - begin < seconds:
        flops += next(product)["flops"]
    return flops / (time.perf_counter() - begin)


PARTS = {"steps": steps}
