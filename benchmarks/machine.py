"""Benchmarks of the whole machine, used as the product uses it: a training of one thread on each core."""

import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import joblib

from benchmarks import dataset, loops
from benchmarks.measure import Rate, Step, Turns, matrix_product, on_all_cores, print_table, race
from benchmarks.params import settings
from unroll.core.settings import CorpusConfig, TaskConfig
from unroll.data.corpora import read_documents
from unroll.models.span_classifier import CELLS
from unroll.text.corpus import load_corpus
from unroll.text.documents import make_document_corpus, tokenize_documents
from unroll.text.vocabulary import Vocabulary, build_vocabulary

PADDED, PEAK = "padded, random batches", "matrix product"
REVIEWS = "corpora/aclImdb_v1.tar.gz"
NUM_REVIEWS = 25_000
LARGE = 16_384  # tokens of a batch, in which 32 reviews have room
WHOLE = 10**6  # tokens of a piece of a document: more than any has

Rates = dict[str, dict[str, Rate]]


def throughput(data: Path, seconds: float, rounds: int) -> dict[str, Any]:
    """Phrases trained on each second by all cores together, for each cell, beside what is commonly written."""
    found = on_all_cores(race_loops, data, seconds=seconds, rounds=rounds)
    return {"cells": {cell: tell_loops(cell, found[cell]) for cell in CELLS}}


def race_loops(turns: Turns, data: Path) -> dict[str, Rates]:
    """Race the loops over short phrases and sentences, a cell after the other."""
    config, seed = settings()
    rows = dataset.read(data, config, seed)
    whole = {context: dataset.tokenize(rows, config, context) for context in ("sentence", "phrase")}
    found = {}
    for cell in CELLS:
        runners: dict[str, Iterator[Step] | None] = {
            PEAK: matrix_product(),
            "unroll, sentence context": loops.ours(cell, config, whole["sentence"], config.train.batch_size),
            "unroll, phrase context": loops.ours(cell, config, whole["phrase"], loops.PHRASES),
            PADDED: loops.padded(cell, config, whole["phrase"], packed=False),
            "… with an Adam that is not fused": loops.padded(cell, config, whole["phrase"], packed=False, fused=False),
            "pack_padded_sequence": loops.padded(cell, config, whole["phrase"], packed=True),
            "torchtext BucketIterator": loops.bucketed(cell, config, whole["phrase"]),
            "Keras (torch backend), padded": loops.keras(cell, config, whole["phrase"]),
        }
        found[cell] = race({name: runner for name, runner in runners.items() if runner is not None}, turns)
    return found


def tell_loops(cell: str, rates: Rates) -> dict[str, Any]:
    """Print a cell's table, and return it."""
    peak, base = rates.pop(PEAK)["flops"], rates[PADDED]["phrases"].median
    table = {
        name: {
            "phrases_per_second": rate["phrases"].median,
            "spread": rate["phrases"].spread,
            "ratio_to_padded": rate["phrases"].median / base,
            "utilisation": rate["flops"].median / peak.median,
        }
        for name, rate in rates.items()
    }
    print_table(
        f"{cell}: training on all cores; matrix product {peak.median / 1e9:,.0f} GFLOP/s (±{peak.spread:.0%})",
        ("loop", "phrases/s", "±", "ratio", "FLOP utilisation"),
        [
            (name, f"{line['phrases_per_second']:,.0f}", f"{line['spread']:.0%}", f"{line['ratio_to_padded']:.1f}",
             f"{line['utilisation']:.1%}")
            for name, line in table.items()
        ],
    )  # fmt: skip
    return {"matrix_product_gflops": peak.median / 1e9, "loops": table}


def busy(data: Path, seconds: float, rounds: int) -> dict[str, Any]:
    """Share of their speed that the trainings keep beside another busy process, and beside one on each core."""
    found, table = {}, []
    for others in (1, joblib.cpu_count()):
        rates = on_all_cores(race_beside, data, seconds=seconds, rounds=rounds, others=others)
        quiet, beside = rates["quiet"]["phrases"], rates["beside"]["phrases"]
        share, fair = beside.median / quiet.median, joblib.cpu_count() / (joblib.cpu_count() + others)
        found[str(others)] = {"quiet": quiet.median, "beside": beside.median, "share": share, "fair_share": fair}
        table.append((str(others), f"{quiet.median:,.0f}", f"{beside.median:,.0f}", f"{share:.0%}", f"{fair:.0%}"))
    header = ("busy processes", "quiet, phrases/s", "beside them", "share", "fair share")
    print_table("LSTM: trainings on all cores beside other busy processes", header, table)
    return {"processes": found}


def race_beside(turns: Turns, data: Path) -> Rates:
    """Train in quiet turns and in busy ones: a process beyond the cores' own is idle, and then busy."""
    if turns.is_extra:
        race({"quiet": idle(), "beside": matrix_product()}, turns)
        return {}
    config, seed = settings()
    corpus = dataset.tokenize(dataset.read(data, config, seed), config, "sentence")
    training = loops.ours("LSTM", config, corpus, config.train.batch_size)
    return race({"quiet": training, "beside": training}, turns)


def idle() -> Iterator[Step]:
    """Do nothing for ever."""
    while True:
        time.sleep(0.01)
        yield {}


def documents(data: Path, seconds: float, rounds: int) -> dict[str, Any]:
    """Tokens of whole movie reviews trained on each second by all cores, beside PyTorch's layers alone."""
    archive = data / REVIEWS
    if not archive.is_file():
        print(f"\ndocuments: left out, for {archive} is missing")
        return {"cells": None}
    config, seed = settings()
    config = config.model_copy(update={"model": config.model.model_copy(update={"embedding": 128})})
    with tempfile.TemporaryDirectory() as folder:
        labelled = (each for each in read_documents(archive, CorpusConfig(source=str(archive))) if each.label)
        begin = time.perf_counter()
        tokenized = tokenize_documents(islice(labelled, NUM_REVIEWS), config.text, "basic_english")
        reading = time.perf_counter() - begin
        vocabulary = build_vocabulary(Counter(tokenized.counts()), min_count=2)
        corpus = make_document_corpus(tokenized, vocabulary, WHOLE, seed)
        corpus.save(Path(folder))
        tokens, count = len(corpus.tokens), len(corpus)
        found = on_all_cores(race_documents, folder, vocabulary, config, seconds=seconds, rounds=rounds)
    cells, table = dict[str, Any](), []
    for cell, most in itertools.product(CELLS, (config.train.batch_tokens, LARGE)):
        ours, base = (found[cell][f"{name} {most}"]["tokens"] for name in ("unroll", "padded"))
        epoch = tokens / ours.median * joblib.cpu_count()  # of one training, which has one core
        cells[f"{cell} {most}"] = {"tokens_per_second": ours.median, "padded": base.median, "epoch_seconds": epoch}
        table.append((cell, f"{most:,}", f"{ours.median:,.0f}", f"{ours.spread:.0%}", f"{base.median:,.0f}",
                      f"{base.spread:.0%}", f"{base.median / ours.median:.2f}", f"{epoch:,.0f}"))  # fmt: skip
    header = ("cell", "batch_tokens", "tokens/s", "±", "layers alone", "±", "time of layers", "epoch on one core, s")
    title = f"{count:,} movie reviews of {tokens / count:.0f} tokens, read in {reading:.0f} s: training on all cores"
    print_table(title, header, table)
    return {"reviews": count, "tokens": tokens, "reading_seconds": reading, "cells": cells}


def race_documents(turns: Turns, folder: str, vocabulary: Vocabulary, config: TaskConfig) -> dict[str, Rates]:
    """Race the loops over whole documents, a cell after the other."""
    data = dataset.split(load_corpus(Path(folder)), vocabulary)
    found = {}
    for cell in CELLS:
        runners: dict[str, Iterator[Step]] = {}
        for most in (config.train.batch_tokens, LARGE):
            runners[f"unroll {most}"] = loops.ours(cell, config, data, config.train.batch_size, most)
            runners[f"padded {most}"] = loops.ours_padded(cell, config, data, most)
        found[cell] = race(runners, turns)
    return found


PARTS: Mapping[str, Any] = {"throughput": throughput, "busy": busy, "documents": documents}
