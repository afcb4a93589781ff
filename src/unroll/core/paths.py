"""Every path of the project, relative to the project's folder, where stages and commands run."""

from collections.abc import Callable
from pathlib import Path

PARAMS = Path("params.yaml")
PROFILES = Path("profiles")
FOLD_CACHE = Path(".cache/folds")
SWEEP_CACHE = Path(".cache/sweeps")
VECTOR_CACHE = Path(".cache/vectors")
DOWNLOAD_CACHE = Path(".cache/downloads")
SUBMIT_LOCK = Path(".cache/submit.lock")
SAMPLE = Path("data/sample")
COMPETITION_FILES = Path("data/competitions")  # where `unroll new` puts them
DATA_OUTPUTS = ("raw", "settings", "rows", "corpus", "ensemble")
OUTPUTS = (*(Path("data", name) for name in DATA_OUTPUTS), Path("models"), Path("reports"))  # what stages write
LEDGER = Path("reports/submissions/history.csv")
DVC_LOCK = Path("dvc.lock")
REPORT = Path("reports/index.html")
FIGURES = Path("reports/figures")
SUMMARY = Path("reports/summary.md")
HELLO = Path("reports/hello.json")


def _of_task(template: str) -> Callable[[str], Path]:
    return lambda task: Path(template.format(task))


competition = _of_task("competitions/{}.yaml")  # a task's definition
raw = _of_task("data/raw/{}")  # raw files as served
settings = _of_task("data/settings/{}.json")  # its sections of params.yaml, merged with the defaults
rows = _of_task("data/rows/{}.parquet")
corpus = _of_task("data/corpus/{}/tokens")  # vocabulary and ragged arrays
pretrained = _of_task("data/corpus/{}/pretrained")  # the same with the vocabulary of a corpus, and a folder a cell
models = _of_task("models/{}")  # a folder a cell
ensemble = _of_task("data/ensemble/{}")  # weights and the ensemble's predictions
metrics = _of_task("reports/metrics/{}.json")  # the few numbers of `dvc metrics show`
details = _of_task("reports/details/{}.json")  # every score
curves = _of_task("reports/plots/{}-curves.csv")  # validation accuracy of each cell by epoch
confusion = _of_task("reports/plots/{}-confusion.csv")  # the label and the prediction of each out-of-fold row
submission = _of_task("reports/submissions/{}.csv")
submission_record = _of_task("reports/submissions/{}.json")  # its sha256, its rows and the models that made it


def model(task: str, cell: str) -> Path:
    """Return the folder of one cell's bundles, predictions and history."""
    return models(task) / cell
