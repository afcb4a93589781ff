"""Memory that runs out at a batch, by a real limit on the process' address space."""

import subprocess
import sys

import pytest

from tests.faults.conftest import Tell
from tests.support.project import ROOT

PROGRAM = """
import resource, sys
from pathlib import Path
import numpy as np, torch
from unroll.config import read_config
from unroll.corpus import build_corpus, place_rows
from unroll.model import SpanClassifier
from unroll.text import build_vocabulary
from unroll.train import fit

torch.set_num_threads(1)
megabytes = int(sys.argv[1])
rows = [[str((number + place) % 50) for place in range(200)] for number in range(64)]
sequences, spans = place_rows(rows, None)
vocabulary = build_vocabulary(sequences)
folds = np.arange(64) % 2
corpus = build_corpus(vocabulary, sequences, folds, spans, labels=folds, row_ids=np.arange(64))
section = read_config(Path("params.yaml")).task["sentiment"]
plain = {"embedding": 64, "hidden": 256, "embedding_dropout": 0.0, "head_dropout": 0.0}
recipe = {"batch_size": 32, "epochs": 1, "min_steps": 1, "word_dropout": 0.0, "rare_word_dropout": 0.0, "ema": 0.0,
          "schedule": "constant"}
torch.manual_seed(1)
model = SpanClassifier("GRU", section.model.model_copy(update=plain), len(vocabulary), 2)
config = section.train.model_copy(update=recipe)
train, valid = np.flatnonzero(folds == 0), np.flatnonzero(folds == 1)[:1]
if megabytes:
    fit(SpanClassifier("GRU", model_shape := section.model.model_copy(update=plain), len(vocabulary), 2), corpus,
        train[:1], valid, config, seed=1, quiet=True)  # what is loaded at first use is loaded
    used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) // 1024
    resource.setrlimit(resource.RLIMIT_AS, ((used + megabytes) << 20, -1))
history = fit(model, corpus, train, valid, config, seed=1, quiet=True)
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
print(history.epochs[0].loss, *(float(weight.detach().double().sum()) for weight in model.parameters()))
"""


def run(megabytes: int) -> tuple[list[float], str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(megabytes)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return [float(number) for number in done.stdout.split()], done.stderr


@pytest.mark.slow
@pytest.mark.faults
def test_a_batch_that_does_not_fit_is_learned_in_halves(tell: Tell) -> None:
    whole, said = run(0)
    assert "out of memory" not in said
    halved, said = run(60)
    assert said.count("out of memory at a batch of 32 sequences of 200 tokens; it is halved") == 1, said
    assert halved == pytest.approx(whole, rel=1e-3, abs=1e-3)
    tell("out of memory at a batch", "halved, said once; loss and weights are those of the whole batch")
