"""The ledger: every submission of the project with its scores and its origin, in one CSV file to be kept in git."""

import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pyarrow import compute

from unroll.core.files import new_file
from unroll.data.tables import TextFile

PENDING, COMPLETE, FAILED = "pending", "complete", "error"


@dataclass(frozen=True)
class Entry:
    """A submission and all ids from the git commit to the service's reference, as texts; unknown ones are empty."""

    submitted: str = ""
    task: str = ""
    competition: str = ""
    reference: str = ""
    status: str = ""
    public_score: str = ""
    private_score: str = ""
    out_of_fold: str = ""
    message: str = ""
    file_sha256: str = ""
    ensemble_sha256: str = ""
    rows: str = ""
    mlflow_run: str = ""
    mlflow_has_score: str = "no"
    git_commit: str = ""
    git_dirty: str = ""
    dvc_lock_sha256: str = ""
    dvc_experiment: str = ""
    error: str = ""

    @property
    def gap(self) -> float | None:
        """Return the public score minus the out-of-fold score, None where either is unknown."""
        return float(self.public_score) - float(self.out_of_fold) if self.public_score and self.out_of_fold else None


COLUMNS = tuple(item.name for item in fields(Entry))


def read_ledger(path: Path) -> list[Entry]:
    """Return the entries of the file, the oldest first; none where there is no file.

    Raises:
        UnrollError: the file does not have the columns of Entry, or a score is not a number.
    """
    if not path.is_file():
        return []
    file = TextFile(path, path.name)
    table = file.read_columns(COLUMNS)
    for name in ("public_score", "private_score", "out_of_fold"):
        is_number = compute.match_substring_regex(table[name], r"^(-?[0-9]+(\.[0-9]*)?(e-?[0-9]+)?)?$")
        file.check(name, table[name], is_number, "a number such as 0.65")
    return [Entry(**row) for row in table.to_pylist()]


def put_entry(path: Path, entry: Entry) -> None:
    """Add an entry to the file, or replace the one with its task and reference."""
    entries = {(known.task, known.reference): known for known in read_ledger(path)}
    entries[entry.task, entry.reference] = entry
    with new_file(path) as scratch, scratch.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, entries.values()))


def mark(file_sha256: str) -> str:
    """Return the mark that identifies a file, with which the description of its submission begins."""
    return f"[unroll {file_sha256[:12]}]"
