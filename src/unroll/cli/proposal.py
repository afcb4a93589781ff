"""A definition proposed from a competition's files: each guess with what it was guessed from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import ZipFile, is_zipfile

import pandas as pd

from unroll.core.errors import UnrollError
from unroll.data.rows import NUMBER
from unroll.data.tables import find_text_file

SUFFIXES = (".csv", ".tsv", ".jsonl")
MOST_LABELS = 50  # of whole numbers that are taken as labels
TEXT_WORDS = 4  # a column of at least so many words in the mean is a text
USUAL_METRICS = {"classes": "accuracy", "multilabel": "auc", "ordinal": "quadratic_kappa", "number": "rmse"}


class UndecidedError(UnrollError):
    """Nothing in the files says what is predicted."""


@dataclass
class Proposal:
    """The keys of a definition, and for each what it was guessed from; `unsure` ones a person should look at."""

    keys: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    unsure: list[str] = field(default_factory=list)

    def set(self, key: str, value: Any, reason: str, *, sure: bool = True) -> None:
        """Note a guess."""
        self.keys[key], self.reasons[key] = value, reason
        if not sure:
            self.unsure.append(key)


def propose(folder: Path, given: Mapping[str, Any]) -> Proposal:
    """Look at the files of a competition and propose its definition.

    Args:
        folder: of the files, as Kaggle serves them.
        given: keys that a person has decided: target (columns), text, id, group, metric, kind.

    Raises:
        UnrollError: there is no training file, or nothing says what is predicted.
    """
    files, found = _find_tables(folder), Proposal()
    roles = _find_roles(files)
    if "train" not in roles:
        raise UnrollError(
            f"{folder}: expected a table with `train` in its name, found {', '.join(files) or 'no table'}"
        )
    tables = {role: _read(folder, name) for role, name in roles.items()}
    train, test, sample = tables["train"], tables.get("test"), tables.get("sample")
    for key in ("id", "group", "target"):
        for name in [given[key]] if isinstance(given.get(key), str) else given.get(key, ()):
            if name not in train:
                raise UnrollError(f"--{key} {name}: no such column in {roles['train']}: {', '.join(train.columns)}")
    found.set("competition", folder.name, "the folder's name")
    for role, name in roles.items():
        found.set(role, name, "its name")
    found.set("id", *_guess_id(train, test, sample, given))
    _guess_join(folder, files, roles, train, found)
    target = _guess_target(found, train, test, sample, given)
    _guess_texts(found, train, test, target, given)
    _guess_kind(found, train, target, sample, given)
    return found


def _find_tables(folder: Path) -> dict[str, Path]:
    """Return the tables of a folder by name, those in zip archives too."""
    if not folder.is_dir():
        raise UnrollError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".zip" and is_zipfile(path):
            with ZipFile(path) as archive:
                names = [PurePosixPath(name).name for name in archive.namelist() if "__MACOSX" not in name]
        else:
            names = [path.name.removesuffix(".gz")]
        found |= {name: path for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")}
    return found


def _find_roles(files: Mapping[str, Path]) -> dict[str, str]:
    """Return which table is the training file, the test file and the sample submission; the largest of several."""
    by_size = sorted(files, key=lambda name: files[name].stat().st_size)
    known = ("sample", "test", "train")
    roles = {next((role for role in known if role in name.lower()), None): name for name in by_size}
    return {role: roles[role] for role in ("train", "test", "sample") if role in roles}


def _read(folder: Path, name: str) -> pd.DataFrame:
    file = find_text_file(folder, name)
    table = file.read_columns(file.read_header())
    return pd.DataFrame({str(column): table[column].to_pandas() for column in table.column_names})


def _count_words(column: pd.Series) -> float:
    """Return the mean number of words."""
    return float(column.map(lambda text: len(text.split())).mean())


def _guess_id(
    train: pd.DataFrame, test: pd.DataFrame | None, sample: pd.DataFrame | None, given: Mapping[str, Any]
) -> tuple[str | None, str]:
    if "id" in given:
        return given["id"], "given"
    for name in train.columns:
        in_others = all(name in table for table in (test, sample) if table is not None)
        if in_others and train[name].is_unique and _count_words(train[name]) <= 1:
            return str(name), "the first column that all files have and that has no duplicate values"
    return None, "no column without duplicates is in all files; the row's number is used"


def _guess_join(
    folder: Path, files: Mapping[str, Path], roles: Mapping[str, str], train: pd.DataFrame, found: Proposal
) -> None:
    for name in files:
        if name in roles.values():
            continue
        other = _read(folder, name)
        keys = [
            column for column in other if column in train and other[column].is_unique and column != found.keys["id"]
        ]
        words = {column: _count_words(other[column]) for column in other if column not in train}
        if keys and words and train[keys[0]].isin(other[keys[0]]).all():
            column = min(words, key=lambda each: words[each])
            found.set("join", {"file": name, "on": keys[0], "columns": [column]}, f"{keys[0]} is in both", sure=False)
            return


def _guess_target(
    found: Proposal, train: pd.DataFrame, test: pd.DataFrame | None, sample: pd.DataFrame | None,
    given: Mapping[str, Any],
) -> list[str]:  # fmt: skip
    wanted = [name for name in sample.columns if name != found.keys["id"]] if sample is not None else []
    only = [name for name in train.columns if test is not None and name not in test]
    if "target" in given:
        columns, reason = list(given["target"]), "given"
    elif columns := [name for name in only if name in wanted]:
        reason = "in the training file and the sample submission, and not in the test file"
    elif columns := [name for name in only if wanted and set(wanted) <= set(train[name])]:
        reason = "the sample submission has a column for each of its values"
    elif len(only) == 1 or (only and not wanted and all(train[name].str.fullmatch(NUMBER).all() for name in only)):
        columns, reason = only, "in the training file and not in the test file"
    else:
        raise UndecidedError(
            f"cannot tell which columns of {found.keys['train']} to predict; name them with --target; columns: "
            f"{', '.join(train.columns)}"
        )
    found.set("target", {"columns": columns}, reason)
    return columns


def _guess_texts(
    found: Proposal, train: pd.DataFrame, test: pd.DataFrame | None, target: list[str],
    given: Mapping[str, Any],
) -> None:  # fmt: skip
    others = [name for name in train.columns if name not in {found.keys["id"], *target}]
    others = [name for name in others if test is None or name in test]
    words = {name: _count_words(train[name]) for name in others}
    texts = [name for name in others if words[name] >= TEXT_WORDS] or sorted(others, key=lambda name: -words[name])[:1]
    joined = found.keys["join"]["columns"] if "join" in found.keys else []
    found.set("text", list(given.get("text", [*texts, *joined])), "given" if "text" in given else "columns of text")
    if "group" in given:
        found.set("group", given["group"], "given")
        return
    for name in others:
        share = train[name].nunique() / len(train)
        if name not in texts and name.lower().endswith("id") and share < 0.5 and train[name].nunique() > 1:
            found.set("group", name, "its rows repeat a value, so they may belong together", sure=False)
            return


def _guess_kind(
    found: Proposal, train: pd.DataFrame, target: list[str], sample: pd.DataFrame | None, given: Mapping[str, Any]
) -> None:
    values = train[target]
    is_number = all(values[name].str.fullmatch(NUMBER).all() for name in target)
    labels = sorted(values[target[0]].unique(), key=float if is_number else str)
    is_whole = is_number and all(value.lstrip("-").isdigit() for value in labels)
    has_columns = sample is not None and set(labels) <= set(sample.columns)
    if len(target) > 1:
        is_binary = is_number and values.apply(pd.to_numeric).isin([0, 1]).all(axis=None)
        kind, why = (
            ("multilabel", "several columns of 0 and 1") if is_binary else ("number", "several columns of numbers")
        )
    elif not is_number or (is_whole and len(labels) <= MOST_LABELS):
        kind, why = "classes", f"{len(labels)} different values"
    else:
        kind, why = "number", "many different numbers"
    kind = str(given.get("kind", kind))
    found.keys["target"]["kind"] = kind
    found.reasons["target"] += f"; {'given' if 'kind' in given else why}"
    if kind in ("classes", "ordinal"):
        found.keys["target"]["labels"] = labels
    if "metric" in given:
        metric, reason, sure = str(given["metric"]), "given", True
    elif has_columns and kind == "classes":
        metric, reason, sure = "log_loss", "the sample submission has a probability of each label", True
    else:
        metric, sure = USUAL_METRICS[kind] if kind != "number" or len(target) == 1 else "mcrmse", False
        reason = f"usual for {kind}; check the competition's page"
        fractions = sample is not None and kind == "classes" and len(labels) == 2 and target[0] in sample
        if fractions and sample is not None and not sample[target[0]].str.fullmatch("[0-9]+").all():
            metric, reason = "auc", "the sample submission has fractions; check the competition's page"
    found.set("metric", metric, reason, sure=sure)
