"""The stage pretrain through real DVC, MLflow and the command line, on letters."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from safetensors.torch import load_file

from tests.support.command import unroll
from tests.support.project import Project
from unroll.models.bundle import load_bundle

CELLS = ("LSTM", "GRU")


@pytest.fixture(scope="module")
def project(small_project: Project) -> Project:
    """Surnames pretrained on a file of other names, one of its cells not."""
    names = [f"{first}{last}" for first in ("Ros", "Bian", "Mor", "Fer") for last in ("si", "chi", "etti", "rari", "o")]
    (small_project.folder / "names.txt").write_text("\n".join(names * 3) + "\n")
    pretrain = {"corpus": "names", "min_count": 1, "passes": 4, "min_steps": 20}
    small_project.set("corpora.names", {"source": "names.txt"})
    small_project.set("pretrained", ["surnames"])
    small_project.set("surnames.pretrain", pretrain)
    small_project.run("dvc", "repro", "evaluate@surnames")
    return small_project


def pretrained_runs(client: MlflowClient) -> dict[str, Run]:
    experiment = client.get_experiment_by_name("surnames")
    assert experiment is not None
    wanted = "tags.fold = 'pretrained' AND attributes.status = 'FINISHED'"
    found = client.search_runs([experiment.experiment_id], wanted)
    assert len({run.data.tags["cell"] for run in found}) == len(found), "one a cell"
    return {run.data.tags["cell"]: run for run in found}


def test_the_stage_is_there_for_the_tasks_named_and_training_begins_from_it(project: Project) -> None:
    assert project.run("dvc", "stage", "list", "--name-only").stdout.split().count("pretrain@surnames") == 1
    assert "pretrain@sentiment" not in project.run("dvc", "stage", "list", "--name-only").stdout
    folder = project.folder / "data/corpus/surnames/pretrained"
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["GRU", "LSTM"]
    words = json.loads((folder / "vocabulary.json").read_text())
    assert {"<unk>", "<s>", "</s>"} <= set(words)
    for cell in ("RNN", *CELLS):
        known = load_bundle(project.folder / f"models/surnames/{cell}/fold-0").vocabulary.tokens
        assert ("<s>" in known) == (cell in CELLS), "a pretrained model's tokens stay"
    details = json.loads((project.folder / "reports/details/surnames.json").read_text())["pretraining"]
    assert {cell: found["corpus"] for cell, found in details.items()} == dict.fromkeys(CELLS, "names")
    assert all(found["perplexity"] < len(words) for found in details.values())
    assert "Data and pipelines are up to date" in project.run("dvc", "repro", "evaluate@surnames").stdout


def test_its_runs_are_logged_and_brought_back(project: Project, tmp_path: Path) -> None:
    """Copies of the store are read: MLflow keeps a connection to a file, also when it is deleted."""
    for when in ("live", "from the outputs"):
        if when == "from the outputs":
            for file in project.folder.glob("mlflow.db*"):
                file.unlink()
            assert "LSTM pretrained" in project.run("unroll", "track", "surnames").stdout
        copy = shutil.copy(project.folder / "mlflow.db", tmp_path / f"{when.replace(' ', '-')}.db")
        client = MlflowClient(f"sqlite:///{copy}")
        runs = pretrained_runs(client)
        assert set(runs) == set(CELLS), when
        for cell, run in runs.items():
            history = json.loads((project.folder / f"data/corpus/surnames/pretrained/{cell}/history.json").read_text())[
                "epochs"
            ]
            assert run.data.metrics["valid_perplexity"] == pytest.approx(history[-1]["valid_perplexity"])
            assert run.data.params["pretrain.corpus"] == "names"
            assert len(client.get_metric_history(run.info.run_id, "loss")) == len(history)


def test_what_it_learned_can_be_read(project: Project) -> None:
    asked = ("generate", "names", "Ro", "--count", "3", "--length", "12")
    texts = unroll(project.folder, *asked).stdout
    assert [line[:2].lower() for line in texts.splitlines()] == ["ro"] * 3
    assert unroll(project.folder, *asked).stdout == texts
    done = unroll(project.folder, "generate", "surnames", "--label", "Italian", "--cell", "GRU")
    assert len(done.stdout.splitlines()) == 5
    assert "<" not in done.stdout, "a label is only read"
    assert "surnames GRU on its texts: perplexity" in done.stderr
    for arguments, expected in (
        (("elsewhere",), "elsewhere: expected a task or a corpus of params.yaml: sentiment, surnames, imdb, own"),
        (("imdb",), "params.yaml: pretrained: no task is trained on corpus imdb"),
        (("surnames", "--label", "Klingon"), "--label: found Klingon, expected one of Arabic, Chinese"),
        (("names", "--label", "Italian"), "--label: found Italian, expected none, since a corpus has no labels"),
    ):
        failed = unroll(project.folder, "generate", *arguments)
        assert failed.returncode == 1
        assert f"error: {expected}" in failed.stderr


@pytest.mark.slow
def test_processes_pretrain_what_one_pretrains(project: Project) -> None:
    """Without dropout and with a softmax over all letters, since each process draws its own numbers."""
    before = (project.folder / "params.yaml").read_bytes()
    for key, value in {"dropout": 0.0, "cells": ["GRU"], "min_steps": 30}.items():
        project.set(f"surnames.pretrain.{key}", value)
    folder, found = project.folder / "data/corpus/surnames/pretrained/GRU", []
    for launch in (("python",), ("torchrun", "--standalone", "--nproc-per-node", "2")):
        shutil.rmtree(project.folder / ".cache/folds")
        done = project.run(*launch, "-m", "unroll.stages.pretrain", "surnames", GLOO_SOCKET_IFNAME="lo")
        assert done.stdout.count("surnames GRU on names: perplexity") == 1
        epochs = json.loads((folder / "history.json").read_text())["epochs"]
        found.append(
            {**load_file(folder / "weights.safetensors"), "loss": torch.tensor([each["loss"] for each in epochs])}
        )
    for name, weight in found[0].items():
        torch.testing.assert_close(found[1][name], weight, atol=1e-5, rtol=1e-5)
    (project.folder / "params.yaml").write_bytes(before)


def test_what_cannot_be_learned_from_is_said(project: Project, tmp_path: Path) -> None:
    corpus = project.folder / "names.txt"
    before = corpus.read_bytes()
    project.set("surnames.pretrain.cells", ["GRU"])
    corpus.write_text("\n".join(["\u0416\u0443\u043a\u043e\u0432", "\u0429\u0443\u043a\u0438\u043d"] * 5) + "\n")
    done = project.run("python", "-m", "unroll.stages.pretrain", "surnames")
    assert "warning: surnames.pretrain: only " in done.stderr
    assert "of the task's tokens occur in corpus names; check its language" in done.stderr
    corpus.write_bytes(before)
    project.set("corpora.names.source", "gone.txt")
    failed = project.run("python", "-m", "unroll.stages.pretrain", "surnames", check=False)
    assert failed.returncode == 1
    assert failed.stderr == "error: params.yaml: corpora.names.source: found gone.txt, which is no file or folder\n"
    project.set("surnames.pretrain.corpus", "other")
    failed = project.run("python", "-m", "unroll.stages.pretrain", "surnames", check=False)
    assert failed.stderr == (
        "error: params.yaml: surnames.pretrain.corpus: found other, expected one of corpora: imdb, own, names\n"
    )
