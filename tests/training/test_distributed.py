"""Several processes that train together, started as a person starts them: torchrun, gloo, and two hosts."""

import json
import math
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import PartialState
from safetensors.torch import load_file

from tests.support.project import Project
from unroll.core.errors import UnrollError
from unroll.core.settings import ModelConfig, TrainConfig
from unroll.models.inference import predict
from unroll.models.language_model import NUM_SAMPLED
from unroll.models.span_classifier import SpanClassifier
from unroll.text.corpus import Corpus
from unroll.text.vocabulary import Vocabulary
from unroll.training.distributed import Processes, join_processes, predict_sharded, shard_batch
from unroll.training.state import TrainState

# Sums of two halves against sums of the whole, over the few dozen steps of these trainings.
TOLERANCE = 1e-5


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_each_row_of_a_batch_belongs_to_one_process(small_corpus: tuple[Corpus, Vocabulary], count: int) -> None:
    corpus, _ = small_corpus
    for sequences in (np.array([1, 0, 2]), np.array([2])):  # the second one has fewer than there are processes
        shares = [shard_batch(corpus, sequences, Processes(index, count)) for index in range(count)]
        spans = [batch.spans for batch, whole in shares if math.isfinite(whole.labelled)]
        assert sorted(torch.cat(spans).tolist()) == sorted(corpus.spans_of(sequences).tolist())
        assert sum(len(batch.targets) / whole.labelled for batch, whole in shares) == pytest.approx(1)
        assert sum(batch.tokens[:, 1:].numel() / whole.pairs for batch, whole in shares) == pytest.approx(1)


def test_shares_of_a_prediction_are_put_in_their_places(
    small_corpus: tuple[Corpus, Vocabulary], small_model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, vocabulary = small_corpus
    model = SpanClassifier("GRU", small_model, len(vocabulary), 5)
    for sequences in (np.array([2, 0, 1]), np.array([1])):
        parts = [sequences[index::2] for index in range(2)]
        gathered = [predict(model, corpus, part) if len(part) else np.empty((0, 5)) for part in parts]
        monkeypatch.setattr(Processes, "gather", lambda self, value, gathered=gathered: gathered)
        together = predict_sharded(model, corpus, sequences, Processes(0, 2))
        np.testing.assert_allclose(together, predict(model, corpus, sequences), atol=1e-6)


@pytest.mark.parametrize("joins_first", [True, False])
def test_a_device_other_than_cuda_is_left_alone(
    small_corpus: tuple[Corpus, Vocabulary], small_model: ModelConfig, plain_recipe: TrainConfig,
    monkeypatch: pytest.MonkeyPatch, joins_first: bool,
) -> None:  # fmt: skip
    """Accelerate would take an Apple computer's."""
    monkeypatch.setattr("accelerate.state.is_mps_available", lambda: True)
    if joins_first:
        assert join_processes() == Processes(0, 1)
        assert PartialState().device.type == "cpu"
    words = len(small_corpus[1])
    model = SpanClassifier("GRU", small_model, words, 5)
    state = TrainState(model, plain_recipe, torch.ones(words), 10, 1, "accuracy")
    assert {weight.device.type for weight in [*state.model.parameters(), state.drop_rates]} == {"cpu"}


def test_processes_that_would_train_alone_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """PartialState is made before torchrun's variables are seen, as in a launcher that sets them too late."""
    join_processes()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UnrollError, match=r"2 processes were started, but 1 would train; use torchrun"):
        join_processes()


def use_no_chance(project: Project) -> None:
    """Each process draws anew what it drops out and which words it samples, so equal results need none of that."""
    for key in ("embedding_dropout", "head_dropout"):
        project.set(f"sentiment.model.{key}", 0.0)
    for key in ("word_dropout", "rare_word_dropout"):
        project.set(f"sentiment.train.{key}", 0.0)
    project.set("sentiment.train.language_model", 0.1)
    project.set("sentiment.text.min_count", 2)  # a vocabulary that is small enough for a softmax over all of it
    project.set("sentiment.train.epochs", 4)
    project.set("sentiment.train.batch_size", 3)


Result = tuple[dict[str, torch.Tensor], pd.DataFrame, pd.DataFrame]


def read_result(project: Project) -> Result:
    folder = project.folder / "models/sentiment/GRU"
    weights = load_file(folder / "fold-0/weights.safetensors")
    tables = [pd.read_parquet(folder / f"{part}.parquet") for part in ("out_of_fold", "test")]
    history = json.loads((folder / "fold-0/history.json").read_text())
    return weights, pd.concat(tables), pd.DataFrame(history["epochs"])


def assert_close(one: Result, other: Result) -> None:
    for name, weight in one[0].items():
        torch.testing.assert_close(weight, other[0][name], atol=TOLERANCE, rtol=TOLERANCE)
    for table, expected in zip(other[1:], one[1:], strict=True):  # probabilities; losses and scores of the epochs
        pd.testing.assert_frame_equal(table, expected, atol=TOLERANCE, rtol=TOLERANCE)


def find_runs(project: Project) -> list[str]:
    """Return the ids of the cell's runs."""
    code = (
        "import mlflow; mlflow.set_tracking_uri('sqlite:///mlflow.db')\n"
        "runs = mlflow.search_runs(experiment_names=['sentiment'], filter_string=\"tags.cell = 'GRU'\")\n"
        "print(*runs['run_id'])"
    )
    return project.run("python", "-c", code).stdout.split()


@pytest.fixture(scope="module")
def alone(sentiment_project: Project) -> tuple[Project, Result]:
    """The small project, and what one process makes of it."""
    use_no_chance(sentiment_project)
    sentiment_project.run("dvc", "repro", "--single-item", "tokenize@sentiment")
    vocabulary = json.loads((sentiment_project.folder / "data/corpus/sentiment/tokens/vocabulary.json").read_text())
    assert len(vocabulary) <= NUM_SAMPLED
    sentiment_project.run("python", "-m", "unroll.stages.train", "sentiment", "GRU")
    return sentiment_project, read_result(sentiment_project)


@pytest.mark.slow
def test_processes_train_what_one_trains_and_one_of_them_writes(alone: tuple[Project, Result]) -> None:
    """Three processes, so that shares of a batch differ."""
    project, expected = alone
    shutil.rmtree(project.folder / ".cache/folds")
    before = len(find_runs(project))
    done = project.run(
        "python", "-m", "unroll.stages.train", "sentiment", "GRU",
        UNROLL_LAUNCH="torchrun --standalone --nproc-per-node 3",
        GLOO_SOCKET_IFNAME="lo",
    )  # fmt: skip
    assert_close(expected, read_result(project))
    assert len(find_runs(project)) - before == 2, "the main process alone logs its folds"
    assert done.stdout.count("out of fold accuracy") == 1
    assert done.stdout.count("GRU fold 0: best epoch") == 1

    again = project.run("torchrun", "--standalone", "--nproc-per-node", "2", "-m", "unroll.stages.train",
                        "sentiment", "GRU", GLOO_SOCKET_IFNAME="lo")  # fmt: skip
    assert again.stdout.count("from the cache") == 2


@pytest.mark.slow
def test_dvc_starts_processes_too(alone: tuple[Project, Result]) -> None:
    project, expected = alone
    project.run(
        "dvc", "repro", "--single-item", "--force", "train@sentiment",
        UNROLL_LAUNCH="torchrun --standalone --nproc-per-node 2",
        GLOO_SOCKET_IFNAME="lo",
    )  # fmt: skip
    assert_close(expected, read_result(project))


@pytest.mark.slow
def test_a_launch_command_that_is_not_there_is_named(alone: tuple[Project, Result]) -> None:
    done = alone[0].run("python", "-m", "unroll.stages.train", "sentiment", "GRU", check=False, UNROLL_LAUNCH="warp 9")
    assert done.returncode == 1
    assert "error: UNROLL_LAUNCH=warp 9: warp: No such file" in done.stderr
    assert "Traceback" not in done.stderr


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two network namespaces with a cable between them; each is a host to the programs in it."""
    mark = uuid.uuid4().hex[:6]
    names = [f"unroll-{mark}-{side}" for side in "ab"]
    cables = [f"u{mark}{side}" for side in "ab"]
    try:
        ip("link", "add", cables[0], "type", "veth", "peer", "name", cables[1])
        for number, (name, cable) in enumerate(zip(names, cables, strict=True), start=1):
            ip("netns", "add", name)
            ip("link", "set", cable, "netns", name)
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", cable)
            ip("-n", name, "link", "set", cable, "up")
            ip("-n", name, "link", "set", "lo", "up")
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", b"") or str(error).encode()
        _remove(names, cables)
        pytest.skip(f"network namespaces cannot be had: {reason.decode().strip()}; they need root and iproute2")
    yield [f"{name} {cable}" for name, cable in zip(names, cables, strict=True)]
    _remove(names, cables)


def _remove(names: list[str], cables: list[str]) -> None:
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
    subprocess.run(["ip", "link", "delete", cables[0]], check=False, capture_output=True)


@pytest.mark.slow
def test_two_hosts_train_what_one_trains(alone: tuple[Project, Result], hosts: list[str], tmp_path: Path) -> None:
    """The second host holds the project, its params.yaml and the corpus, and shares no folder with the first."""
    project, expected = alone
    shutil.rmtree(project.folder / ".cache/folds")
    other = Project(tmp_path / "other")
    for name in ("src", "data/corpus", "competitions"):
        shutil.copytree(project.folder / name, other.folder / name)
    shutil.copy(project.folder / "params.yaml", other.folder)

    def start(rank: int, folder: Project) -> "subprocess.Popen[str]":
        name, cable = hosts[rank].split()
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(rank),
                    "--nproc-per-node", "1", "--master-addr", "10.77.0.1", "--master-port", "29511"]  # fmt: skip
        command = ["ip", "netns", "exec", name, *torchrun, "-m", "unroll.stages.train", "sentiment", "GRU"]
        environment = folder.environment() | {"GLOO_SOCKET_IFNAME": cable, "TP_SOCKET_IFNAME": cable}
        return subprocess.Popen(
            command, cwd=folder.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    processes = [start(0, project), start(1, other)]
    out = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], out
    assert_close(expected, read_result(project))
    assert not (other.folder / "models").exists()
    assert not (other.folder / ".cache").exists()
    assert not list(other.folder.rglob("mlflow.db"))
