"""Memory that runs out at a batch, by a real limit on the process' address space."""

import re
import subprocess
import sys

import pytest

from tests.faults.conftest import Tell
from tests.support.project import ROOT

PROGRAM = """
import resource
from pathlib import Path
import numpy as np, torch
from unroll.core.errors import run_program
from unroll.core.params import read_config
from unroll.models.span_classifier import SpanClassifier
from unroll.text.corpus import Corpus
from unroll.data.competition import Competition
from unroll.training.fit import fit

torch.set_num_threads(1)
offsets, labels = np.arange(65) * 200, np.arange(64) % 2
spans = np.zeros(64, int)
corpus = Corpus(tokens=np.arange(64 * 200, dtype=np.int32) % 50, offsets=offsets, folds=labels,
                span_offsets=np.arange(65), starts=spans, ends=spans + 200, row_ids=np.arange(64),
                targets=labels[:, None].astype(np.float32))
target = {"columns": ["mood"], "kind": "classes", "labels": ["bad", "good"]}
task = Competition.model_validate({"name": "mood", "title": "mood", "folder": "mood", "train": "train.csv",
                                   "text": ["text"], "target": target, "metric": "accuracy"})
section = read_config(Path("params.yaml")).task["sentiment"]
config = section.train.model_copy(update={"batch_size": 32, "batch_tokens": 9999, "epochs": 1, "min_steps": 1})
train, valid = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:1]

def run(train):
    model = SpanClassifier("GRU", section.model.model_copy(update={"hidden": 256}), 50, 2)
    fit(model, corpus, train, valid, config, task, seed=1, title="mood", quiet=True)

run(train[:1])  # loads what is loaded at first use
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) // 1024
resource.setrlimit(resource.RLIMIT_AS, ((used + 60) << 20, -1))
run_program(lambda: run(train))
"""


@pytest.mark.slow
@pytest.mark.faults
def test_a_batch_that_does_not_fit_ends_with_what_to_lower(tell: Tell) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    pattern = r"error: mood: out of memory at a batch of 32 .+; lower train.batch_size \(now 32\), .+\n"
    assert re.fullmatch(pattern, done.stderr), done.stderr
    tell("out of memory at a batch", "one sentence that names the batch size")
