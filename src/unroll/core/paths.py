"""Every path of the project, named once, relative to the project's folder, where stages and commands run."""

from collections.abc import Callable
from pathlib import Path

PARAMS = Path("params.yaml")
PROFILES = Path("profiles")
CACHE = Path(".cache")
FOLD_CACHE = CACHE / "folds"
SWEEP_CACHE = CACHE / "sweeps"
VECTOR_CACHE = CACHE / "vectors"
DOWNLOAD_CACHE = CACHE / "downloads"
SAMPLE = Path("data/sample")
LEDGER = Path("reports/submissions/history.csv")
SUBMIT_LOCK = CACHE / "submit.lock"
DVC_LOCK = Path("dvc.lock")
REPORT = Path("reports/index.html")
FIGURES = Path("reports/figures")
SUMMARY = Path("reports/summary.md")
HELLO = Path("reports/hello.json")


def competition(task: str) -> Path:
    """Return a task's definition."""
    return Path("competitions", f"{task}.yaml")


def raw(task: str) -> Path:
    """Return the folder of a task's raw files, as served."""
    return Path("data/raw", task)


def rows(task: str) -> Path:
    """Return a task's table of rows."""
    return Path("data/rows", f"{task}.parquet")


def corpus(task: str) -> Path:
    """Return the folder of a task's vocabulary and ragged arrays."""
    return Path("data/corpus", task)


def model(task: str, cell: str) -> Path:
    """Return the folder of one cell's bundles, probabilities and history."""
    return Path("models", task, cell)


def fold_bundle(task: str) -> Callable[[str, int], Path]:
    """Return what gives the folder of the bundle of a cell and a fold."""
    return lambda cell, fold: model(task, cell) / f"fold-{fold}"


def ensemble(task: str) -> Path:
    """Return the folder of a task's ensemble weights and ensembled probabilities."""
    return Path("data/ensemble", task)


def metrics(task: str) -> Path:
    """Return a task's scores."""
    return Path("reports/metrics", f"{task}.json")


def curves(task: str) -> Path:
    """Return the validation accuracy of each cell by epoch."""
    return Path("reports/plots", f"{task}-curves.csv")


def confusion(task: str) -> Path:
    """Return the label and the ensemble's answer for each out-of-fold row."""
    return Path("reports/plots", f"{task}-confusion.csv")


def submission(task: str) -> Path:
    """Return the file to submit."""
    return Path("reports/submissions", f"{task}.csv")


def submission_record(task: str) -> Path:
    """Return what is known of the file to submit: its sha256, its rows and the models that made it."""
    return Path("reports/submissions", f"{task}.json")
