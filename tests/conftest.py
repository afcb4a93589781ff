"""What all tests share: fixed seeds, one thread, and small tasks, settings and corpora."""

import os
import shutil

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DVC_NO_ANALYTICS"] = "true"
# The expected values are a CPU's, to the bit; `make test-cuda` runs what needs a device.
os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("TEST_DEVICES", "")

from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from hypothesis import settings

from tests.support.project import Project, copy_project, make_small
from tests.support.served import Served, serve_files
from unroll.core.params import parse_config, read_config
from unroll.core.settings import Config, ModelConfig, TaskConfig, TrainConfig
from unroll.text.corpus import Corpus
from unroll.text.encode import encode_rows
from unroll.text.vocabulary import Vocabulary

ROOT = Path(__file__).parents[1]
settings.register_profile("unroll", deadline=None)  # machines are shared: a slow example is no failure
settings.load_profile("unroll")


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)  # a process keeps its first precision otherwise


@pytest.fixture
def served() -> Iterator[Served]:
    """A server of files on the loopback."""
    with serve_files() as served:
        yield served


@pytest.fixture(scope="session")
def finished_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A small project after one `dvc repro`, its lock and metrics committed, made once for all processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "finished"
    with filelock.FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            project = copy_project(tmp_path_factory.mktemp("project"))
            make_small(project)
            project.commit("small")
            project.run("unroll", "data")
            project.run("dvc", "repro")
            project.commit("its lock and metrics")
            folder.symlink_to(project.folder)
    return folder.resolve()


@pytest.fixture(scope="module")
def small_project(finished_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of that project for the tests of one file."""
    folder = tmp_path_factory.mktemp("small") / "project"
    shutil.copytree(finished_folder, folder, symlinks=True)
    return Project(folder)


@pytest.fixture(scope="module")
def sentiment_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small project of which sentiment alone has been run, with one cell, for the tests of one file."""
    project = copy_project(tmp_path_factory.mktemp("sentiment"))
    make_small(project)
    project.set("cells", ["GRU"])
    project.commit("small")
    project.run("dvc", "repro", "evaluate@sentiment", "submission@sentiment")
    project.commit("its lock and metrics")
    return project


@pytest.fixture(scope="session")
def config() -> Config:
    """The project's own params.yaml."""
    return read_config(ROOT / "params.yaml")


@pytest.fixture
def changed_config() -> Callable[[str, object], Config]:
    """The project's own params.yaml with one value changed, named by its path, as in "sentiment.train.lr"."""

    def change(path: str, value: object) -> Config:
        values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        *sections, key = path.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
        return parse_config(values)

    return change


@pytest.fixture
def small_model() -> ModelConfig:
    """A model of a few hundred weights that uses every pooling."""
    return ModelConfig(
        embedding=5, hidden=4, layers=1, bidirectional=True, pooling=("first", "last", "mean", "max"), head="linear",
        head_hidden=None,
        embedding_dropout=0.2, layer_dropout=0.0, head_dropout=0.2,
    )  # fmt: skip


@pytest.fixture
def plain_recipe() -> TrainConfig:
    """Adam at a constant rate and nothing else."""
    return TrainConfig(
        epochs=3, min_steps=1, batch_size=4, batch_tokens=100, optimizer="adam", lr=0.01, encoder_lr=1.0,
        weight_decay=0.0,
        schedule="constant",
        warmup=0.0, clip_norm=1.0, label_smoothing=0.0, language_model=0.0, word_dropout=0.0, rare_word_dropout=0.0,
        ema=0.0, patience=None, precision="fp32",
    )  # fmt: skip


@pytest.fixture
def full_recipe(plain_recipe: TrainConfig) -> TrainConfig:
    """Everything that a recipe can have."""
    return plain_recipe.model_copy(
        update={"schedule": "one_cycle", "warmup": 0.3, "label_smoothing": 0.1, "language_model": 0.1,
                "word_dropout": 0.1, "rare_word_dropout": 0.5, "ema": 0.9, "optimizer": "adamw", "weight_decay": 0.01}
    )  # fmt: skip


SENTENCES = (
    ("a very good film", 4), ("very good", 4), ("not a good film", 1), ("a good film", 3), ("not", 2),
    ("a very bad film", 0), ("bad", 1), ("film", 2),
)  # fmt: skip
GROUPS = ("1", "1", "2", "2", "2", "3", "3", "3")


@pytest.fixture
def small_corpus(config: Config) -> tuple[Corpus, Vocabulary]:
    """Three sentences with their phrases, each sentence a fold of its own."""
    texts, labels = zip(*SENTENCES, strict=True)
    folds = [int(group) - 1 for group in GROUPS]
    columns = {"row_id": range(100, 108), "group": GROUPS, "text": texts, "true:Sentiment": labels, "fold": folds}
    encoded = encode_rows([columns], config.task["sentiment"].text)
    vocabulary = encoded.build_vocabulary()
    return encoded.with_vocabulary(vocabulary), vocabulary


@pytest.fixture
def task_config(config: Config, small_model: ModelConfig, plain_recipe: TrainConfig) -> TaskConfig:
    """The sentiment section with a small model and a plain recipe."""
    return config.task["sentiment"].model_copy(update={"model": small_model, "train": plain_recipe})
