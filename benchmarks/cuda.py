"""Training on a CUDA device: `python -m benchmarks.cuda data/corpus/sentiment/tokens`, after `dvc repro tokenize`.

Steps as the product takes them, beside the padded loop of tutorials on the same device, and what the device does in
them. Without a CUDA device the same code runs on the CPU.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.profiler import ProfilerActivity, profile

from benchmarks.loops import CLASSES, GATES, PHRASES, Plain, learn
from benchmarks.measure import print_table
from benchmarks.params import settings
from unroll.core.settings import TaskConfig
from unroll.models.span_classifier import SpanClassifier
from unroll.text.batches import plan_batches
from unroll.training.distributed import count_labelled
from unroll.training.fit import EagerStep, TrainStep, make_train_step, train_epoch
from unroll.training.fold_data import TrainingData, load_training_data
from unroll.training.optimization import make_optimizer
from unroll.training.progress import open_bar
from unroll.training.state import TrainState

WARM_UP, ROUNDS = 250 if torch.cuda.is_available() else 5, 5  # steps, which capture the graphs; rounds
Run = Callable[[int], int]  # takes so many steps, returns how many phrases they trained on


def product(
    cell: str, config: TaskConfig, data: TrainingData, batch_size: int, make_step: Callable[..., TrainStep]
) -> Run:
    """Return a runner of the product's own training steps."""
    corpus = data.corpus
    train = np.flatnonzero(corpus.folds > 0)
    plan = partial(plan_batches, np.diff(corpus.offsets)[train], batch_size, config.train.batch_tokens)
    counts = torch.from_numpy(np.bincount(corpus.tokens_of(train), minlength=len(data.vocabulary)))
    model = SpanClassifier(cell, config.model, len(data.vocabulary), CLASSES)
    state = TrainState(model, config.train, counts, 10**6, 1, "accuracy")

    def batches() -> Iterator[Any]:
        for epoch in itertools.count():
            for chunk in plan(np.random.default_rng(epoch)):
                yield train[chunk], count_labelled(corpus, train[chunk])

    stream, train_step = batches(), make_step(state, corpus)

    def run(steps: int) -> int:
        taken = list(itertools.islice(stream, steps))
        with open_bar(cell, 1, 0, quiet=True) as bar:
            train_epoch(cell, train_step, taken, bar)
        return sum(spans for _, spans in taken)

    return run


def padded(cell: str, config: TaskConfig, data: TrainingData, device: torch.device) -> Run:
    """Return a runner of random batches of phrases, padded to their longest."""
    corpus = data.corpus
    sequences = np.flatnonzero(corpus.folds > 0)
    spans = corpus.spans_of(sequences)
    owner = np.repeat(sequences, np.diff(corpus.span_offsets)[sequences])
    first, labels = corpus.offsets[owner] + corpus.starts[spans], corpus.targets[spans, 0].astype(np.int64)
    lengths = corpus.ends[spans] - corpus.starts[spans]
    model = Plain(cell, config, len(data.vocabulary)).to(device)
    optimizer = make_optimizer(model, config.train)
    generator = np.random.default_rng(1)

    def run(steps: int) -> int:
        for _ in range(steps):
            chosen = generator.integers(0, len(spans), PHRASES)
            texts = [torch.from_numpy(corpus.tokens[first[n] : first[n] + lengths[n]] + 1).long() for n in chosen]
            tokens = pad_sequence(texts, batch_first=True).to(device, non_blocking=True)
            sizes = torch.from_numpy(lengths[chosen]).to(device, non_blocking=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                logits = model(tokens, sizes, packed=False)
            learn(model, optimizer, logits.float(), torch.from_numpy(labels[chosen]).to(device, non_blocking=True))
        return steps * PHRASES

    return run


def rate_of(run: Run, steps: int, device: torch.device) -> tuple[float, float, float]:
    """Return the median round's phrases a second, the rounds' spread as a share of it, and the warm-up's seconds."""
    began = time.perf_counter()
    run(WARM_UP)
    synchronize(device)
    warm_up, rates = time.perf_counter() - began, []
    for _ in range(ROUNDS):
        synchronize(device)
        began = time.perf_counter()
        phrases = run(steps)
        synchronize(device)
        rates.append(phrases / (time.perf_counter() - began))
    middle = sorted(rates)[len(rates) // 2]
    return middle, (max(rates) - min(rates)) / middle, warm_up


def busy_share(run: Run, steps: int, device: torch.device) -> tuple[float, list[tuple[str, float]]]:
    """Return the share of the time in which the device computes, and its kernels that take longest, in ms a step."""
    if device.type != "cuda":
        return float("nan"), []
    run(WARM_UP)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        began = time.perf_counter()
        run(steps)
        synchronize(device)
        seconds = time.perf_counter() - began
    kernels = sorted(profiler.key_averages(), key=lambda each: -each.self_device_time_total)
    total = sum(each.self_device_time_total for each in kernels) / 1e6
    return total / seconds, [(each.key[:60], each.self_device_time_total / 1e3 / steps) for each in kernels[:6]]


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Print the tables and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, help="the folder that the tokenize stage wrote")
    parser.add_argument("--steps", type=int, default=150, help="of a round")
    parser.add_argument("--output", type=Path, default=Path("reports/benchmarks/cuda.json"))
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    (config, _), data = settings(), load_training_data(options.corpus)
    found: dict[str, Any] = {"device": name, "torch": torch.__version__, "cells": {}}
    for cell in GATES:
        size = config.train.batch_size
        kinds: dict[str, Callable[..., TrainStep]] = {"": make_train_step}
        if device.type == "cuda":
            kinds[", no graphs"] = EagerStep
        runners = {
            f"unroll, {many} sequences{note}": product(cell, config, data, many, make_step)
            for many in (size, 8 * size)
            for note, make_step in kinds.items()
        }
        runners["padded, random batches"] = padded(cell, config, data, device)
        rates = {title: rate_of(run, options.steps, device) for title, run in runners.items()}
        base = rates["padded, random batches"][0]
        rows = [
            (title, f"{each:,.0f}", f"{spread:.0%}", f"{each / base:.1f}", f"{warm_up:.1f}")
            for title, (each, spread, warm_up) in rates.items()
        ]
        print_table(
            f"{cell}: training on {name}", ("loop", "phrases/s", "±", "ratio", f"{WARM_UP} first steps, s"), rows
        )
        share, kernels = busy_share(runners[f"unroll, {size} sequences"], options.steps, device)
        print(f"{size} sequences: device busy {share:.0%}; " + ", ".join(f"{key} {ms:.2f} ms" for key, ms in kernels))
        named = {
            title: dict(zip(("median", "spread", "warm_up_seconds"), rate, strict=True))
            for title, rate in rates.items()
        }
        found["cells"][cell] = {"phrases_per_second": named, "device_busy": share, "kernels_ms_a_step": kernels}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
