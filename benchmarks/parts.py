"""The benchmarks: each takes the folder of raw files, the seconds of a turn and the number of turns."""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch

from benchmarks import dataset, loops
from benchmarks.measure import Rate, in_own_process, print_table
from benchmarks.params import ROOT, settings
from unroll.core.errors import UnrollError
from unroll.core.settings import TaskConfig
from unroll.models.inference import predict
from unroll.models.span_classifier import CELLS, SpanClassifier
from unroll.text.batches import iterate_batches
from unroll.text.corpus import load_corpus
from unroll.text.encode import encode_rows, read_batches
from unroll.text.vocabulary import UNKNOWN_ID
from unroll.training.fit import fit
from unroll.training.fold_data import set_vectors
from unroll.training.optimization import make_optimizer
from unroll.training.state import EpochRecord

VECTORS = ROOT / ".cache/vectors"
DVC = (sys.executable, "-m", "dvc")
REPORTED = (0.60, 0.62, 0.63)


def learning(data: Path, seconds: float, rounds: int) -> dict[str, Any]:
    """Seconds of training until the held-out accuracy passes a line: as params.yaml says, and the shortest way."""
    torch.set_num_threads(1)  # as a training of the product has
    config, seed = settings()
    rows = dataset.read(data, config, seed)
    found = {"params.yaml": learn_course("Training with the settings of params.yaml", config, rows, seed)}
    best, _ = settings("best")
    short = best.model_copy(update={"train": best.train.model_copy(update={"epochs": 3, "language_model": 0.0})})
    try:
        title = "Three epochs from the words of the best profile, without its language model"
        found["three epochs"] = learn_course(title, short, rows, seed)
    except UnrollError as error:
        print(f"three epochs from word vectors: left out ({error})")
    return found


def learn_course(title: str, config: TaskConfig, rows: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Train each cell with fold 0 held out, and print when the held-out accuracy passed a line."""
    read = dataset.tokenize(rows, config, "sentence")
    vectors = dataset.load_words(config.text, read.vocabulary, VECTORS)
    known = np.bincount(read.corpus.tokens_of(read.train), minlength=len(read.vocabulary)) > 0
    if vectors is not None:
        known |= np.isfinite(vectors).all(1)
    known[UNKNOWN_ID] = True
    vocabulary, new_ids = read.vocabulary.restrict(known)
    corpus = replace(read.corpus, tokens=new_ids[read.corpus.tokens])
    cells, table = {}, []
    for cell in CELLS:
        torch.manual_seed(seed)
        model = SpanClassifier(cell, config.model, len(vocabulary), loops.CLASSES)
        if vectors is not None:
            set_vectors(model, vectors[known], "sentiment.model.embedding")
        course: list[tuple[float, float]] = []
        begin = time.perf_counter()

        def note(
            record: EpochRecord, speed: float | None, begin: float = begin, course: list[tuple[float, float]] = course
        ) -> None:
            course.append((time.perf_counter() - begin, record.scores["accuracy"]))

        fit(model, corpus, read.train, read.valid, config.train, dataset.TASK, seed=seed, on_epoch=note, quiet=True)
        passed = {line: next((at for at, score in course if score >= line), None) for line in REPORTED}
        table.append(
            (cell, f"{max(score for _, score in course):.4f}", f"{course[-1][0]:.1f}",
             *(f"{at:.1f}" if at is not None else "–" for at in passed.values()))
        )  # fmt: skip
        cells[cell] = {"course": course, "seconds_to": {str(line): at for line, at in passed.items()}}
    header = ("cell", "best", "whole training, s", *(f"to {line:.2f}, s" for line in REPORTED))
    print_table(f"{title}, one fold held out", header, table)
    return {"cells": cells}


def stages(data: Path, seconds: float, rounds: int) -> dict[str, Any]:
    """Seconds to read and tokenize the files, and to predict the test part after loading."""
    config, seed = settings()
    times: dict[str, list[float]] = {"read the files": [], "tokenize": [], "predict the test part": []}
    for _ in range(rounds):
        begin = time.perf_counter()
        rows = dataset.read(data, config, seed)
        times["read the files"].append(time.perf_counter() - begin)
        begin = time.perf_counter()
        read = dataset.tokenize(rows, config, "sentence")
        times["tokenize"].append(time.perf_counter() - begin)
        model = SpanClassifier("LSTM", config.model, len(read.vocabulary), loops.CLASSES)
        begin = time.perf_counter()
        answered = len(predict(model, read.corpus, read.test))
        times["predict the test part"].append(time.perf_counter() - begin)
    rates = {name: Rate(tuple(values)) for name, values in times.items()}
    print_table(
        f"Stages: {len(rows):,} rows, {answered:,} of them in the test part (LSTM)",
        ("stage", "s", "±"),
        [(name, f"{rate.median:.2f}", f"{rate.spread:.0%}") for name, rate in rates.items()],
    )
    return {"rows": len(rows), "test_rows": answered, "seconds": {name: rate.median for name, rate in rates.items()}}


def growth(data: Path, seconds: float, rounds: int) -> dict[str, Any]:
    """Time and memory at 1, 4 and 16 times the data, each copy with fresh words, arrays memory-mapped."""
    config, seed = settings()
    rows = dataset.read(data, config, seed)
    found, table = [], []
    with tempfile.TemporaryDirectory() as folder:
        for times in (1, 4, 16):
            table_file, corpus = Path(folder, f"{times}.parquet"), Path(folder, str(times))
            corpus.mkdir()
            repeated = dataset.repeat(rows, times)
            repeated.to_parquet(table_file, index=False)
            size = len(repeated)
            del repeated
            (tokenized, words), tokenizing = in_own_process(tokenize, table_file, corpus, config)
            (trained, batches, own), mapped = in_own_process(epoch, corpus, words, config)
            found.append({
                "times": times, "rows": size, "tokenize_seconds": tokenized, "tokenize_mib": tokenizing,
                "epoch_seconds": trained, "batches": batches, "epoch_own_mib": own, "epoch_with_mapped_mib": mapped,
            })  # fmt: skip
    one = found[0]
    for line in found:
        factor = line["rows"] / one["rows"]
        table.append((
            f"{line['times']} ×", f"{line['rows']:,}",
            f"{line['tokenize_seconds']:.1f}", f"{line['tokenize_seconds'] / one['tokenize_seconds'] / factor:.2f}",
            f"{line['tokenize_mib']:,.0f}",
            f"{line['epoch_seconds']:.1f}", f"{line['epoch_seconds'] / one['epoch_seconds'] / factor:.2f}",
            f"{line['epoch_own_mib']:,.0f}", f"{line['epoch_with_mapped_mib']:,.0f}",
        ))  # fmt: skip
    header = ("data", "rows", "tokenize, s", "of linear", "MiB", "epoch, s", "of linear", "MiB", "with mapped")
    print_table("Growth: tokenizing, and an epoch of training over memory-mapped arrays", header, table)
    return {"sizes": found}


def tokenize(rows: Path, folder: Path, config: TaskConfig) -> tuple[float, int]:
    """Tokenize a parquet file as the stage does, and return the seconds and the size of the vocabulary."""
    begin = time.perf_counter()
    encoded = encode_rows(read_batches(rows), config.text)
    vocabulary = encoded.build_vocabulary(config.text.min_count, config.text.max_size)
    encoded.with_vocabulary(vocabulary).save(folder)
    return time.perf_counter() - begin, len(vocabulary)


def epoch(folder: Path, words: int, config: TaskConfig) -> tuple[float, int, float]:
    """Train one epoch; words share 20,000 embedding rows, so that the optimizer's pass does not grow with them.

    Returns:
        Seconds, batches, and the most memory in MiB that is the process' own: no pages of the mapped arrays, which the
        system takes back when it needs them.
    """
    corpus = load_corpus(folder)
    model = SpanClassifier("LSTM", config.model, min(words, 20_000), loops.CLASSES)
    optimizer = make_optimizer(model, config.train)
    generator = np.random.default_rng(1)
    begin, batches, own = time.perf_counter(), 0, 0
    recipe, train = config.train, np.flatnonzero(corpus.folds > 0)
    for batch in iterate_batches(corpus, train, recipe.batch_size, recipe.batch_tokens, generator):
        logits = model(replace(batch, tokens=batch.tokens % min(words, 20_000)))
        loops.learn(model, optimizer, logits, batch.targets[:, 0].long())
        batches += 1
        if batches % 50 == 1:
            memory = psutil.Process().memory_info()
            own = max(own, memory.rss - getattr(memory, "shared", 0))
    return time.perf_counter() - begin, batches, own / 2**20


def nothing(data: Path, seconds: float, rounds: int) -> dict[str, Any]:
    """Seconds of a `dvc repro` with nothing to do, in this project as it stands."""
    status = subprocess.run([*DVC, "status", "--json"], cwd=ROOT, capture_output=True, text=True)
    if status.returncode or json.loads(status.stdout):
        print("\ndvc repro: there is something to do; run `make repro` first")
        return {"seconds": None}
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        subprocess.run([*DVC, "repro"], cwd=ROOT, capture_output=True, check=True)
        times.append(time.perf_counter() - begin)
    rate = Rate(tuple(times))
    print(f"\ndvc repro with nothing to do: {rate.median:.2f} s (±{rate.spread:.0%})")
    return {"seconds": rate.median}


PARTS = {"learning": learning, "stages": stages, "growth": growth, "nothing": nothing}
