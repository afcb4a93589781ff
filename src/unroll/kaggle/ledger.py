"""Every submission of the project, with its scores and what it came from: one CSV file that people can keep in git."""

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from unroll.core.errors import UnrollError
from unroll.core.files import new_file

PENDING, COMPLETE, FAILED = "pending", "complete", "error"


@dataclass(frozen=True)
class Entry:
    """A submission, and the chain of ids from the git commit to the service's reference.

    Every value is text, as in the file; a score that is not known is empty.
    """

    submitted: str
    task: str
    competition: str
    reference: str
    status: str
    public_score: str
    private_score: str
    out_of_fold: str
    message: str
    file_sha256: str
    ensemble_sha256: str
    rows: str
    mlflow_run: str
    mlflow_has_score: str
    git_commit: str
    git_dirty: str
    dvc_lock_sha256: str
    dvc_experiment: str
    error: str

    @property
    def gap(self) -> float | None:
        """Return the public score less the out-of-fold one, None where either is not known."""
        return float(self.public_score) - float(self.out_of_fold) if self.public_score and self.out_of_fold else None


COLUMNS = tuple(item.name for item in fields(Entry))


def read_ledger(path: Path) -> list[Entry]:
    """Return the entries of the file, the oldest first; none where there is no file.

    Raises:
        UnrollError: the file does not have the columns of Entry, or a line has another number of fields, or a score is
            no number.
    """
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnrollError(f"{path}: not readable as CSV in UTF-8 ({error})") from None
    if not lines or tuple(lines[0]) != COLUMNS:
        found = ", ".join(lines[0]) if lines else "nothing"
        raise UnrollError(f"{path}: line 1: expected the columns {', '.join(COLUMNS)}, found {found}")
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(COLUMNS):
            raise UnrollError(f"{path}: line {number}: expected {len(COLUMNS)} fields, found {len(line)}")
        for name in ("public_score", "private_score", "out_of_fold"):
            value = line[COLUMNS.index(name)]
            if value and not _is_number(value):
                raise UnrollError(f"{path}: line {number}: {name}: found {value!r}, expected a number as 0.65")
    return [Entry(*line) for line in lines[1:]]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def write_ledger(path: Path, entries: Sequence[Entry]) -> None:
    """Write the file anew, beside itself first."""
    with new_file(path) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(entry) for entry in entries)


def put_entry(path: Path, entry: Entry) -> None:
    """Add an entry, or put it in the place of the one with its task and reference."""
    entries = read_ledger(path)
    same = [number for number, known in enumerate(entries)
            if (known.task, known.reference) == (entry.task, entry.reference)]  # fmt: skip
    if same:
        entries[same[0]] = entry
    else:
        entries.append(entry)
    write_ledger(path, entries)


def mark(description: str, file_sha256: str) -> str:
    """Return a submission's description with the mark that names its file first, where nothing cuts it off."""
    return f"{_mark(file_sha256)} {description}".strip()


def has_mark(description: str, file_sha256: str) -> bool:
    """Return whether a submission's description names this file."""
    return _mark(file_sha256) in description


def _mark(file_sha256: str) -> str:
    return f"[unroll {file_sha256[:12]}]"
