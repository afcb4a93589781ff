"""Definitions proposed from files in the layouts of real competitions, made small."""

import zipfile
from pathlib import Path
from typing import Any

import pytest

from unroll.cli.proposal import propose
from unroll.core.errors import UnrollError
from unroll.data.competition import Competition

TEXTS = [f"this is row number {number} of the file" for number in range(12)]


def write(folder: Path, name: str, header: str, rows: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join([header, *rows]) + "\n")


def check(keys: dict[str, Any]) -> Competition:
    """Return the definition that the keys make."""
    return Competition.model_validate({"name": "x", "title": "x", "folder": "x", **keys})


def test_probabilities_in_the_sample_mean_log_loss(tmp_path: Path) -> None:
    folder = tmp_path / "who-wrote"
    write(folder, "train.csv", "id,text,author", [f'id{n},"{text}, yes",{"AB"[n % 2]}' for n, text in enumerate(TEXTS)])
    write(folder, "test.csv", "id,text", ["t1,one two three four"])
    write(folder, "sample_submission.csv", "id,A,B", ["t1,0.5,0.5"])
    found = propose(folder, {})
    assert found.keys == {
        "competition": "who-wrote", "train": "train.csv", "test": "test.csv", "sample": "sample_submission.csv",
        "id": "id", "target": {"columns": ["author"], "kind": "classes", "labels": ["A", "B"]}, "text": ["text"],
        "metric": "log_loss",
    }  # fmt: skip
    assert found.reasons.keys() == found.keys.keys()
    assert found.unsure == []
    assert check(found.keys).form == "probabilities"


def test_two_classes_of_several_texts_in_archives(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "id,keyword,text,target", [f"{n},,{text},{n % 2}" for n, text in enumerate(TEXTS)])
    write(tmp_path, "test.csv", "id,keyword,text", ["90,x,one two three four"])
    write(tmp_path, "sample_submission.csv", "id,target", ["90,0"])
    for name in ("train", "test", "sample_submission"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.write(tmp_path / f"{name}.csv", f"{name}.csv")
        (tmp_path / f"{name}.csv").unlink()
    found = propose(tmp_path, {})
    assert (found.keys["text"], found.keys["metric"], found.unsure) == (["text"], "accuracy", ["metric"])
    assert propose(tmp_path, {"metric": "f1", "text": ["keyword", "text"]}).keys["text"] == ["keyword", "text"]
    check(found.keys)
    with pytest.raises(UnrollError, match=r"--id key: no such column in train.csv: id, keyword, text, target"):
        propose(tmp_path, {"id": "key"})


def test_no_id_labels_of_several_columns_and_no_sample(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "comment,rude,mild", [f"{text},{n % 2},0" for n, text in enumerate(TEXTS)])
    write(tmp_path, "test.csv", "comment", ["one two three four"])
    found = propose(tmp_path, {})
    assert found.keys["id"] is None
    assert found.keys["target"] == {"columns": ["rude", "mild"], "kind": "multilabel"}
    assert check(found.keys).form == "probabilities"


def test_numbers_with_a_joined_table_and_groups(tmp_path: Path) -> None:
    rows = [f"s{n},p{n % 3},{text},{n / 7:.3f},{n / 9:.3f}" for n, text in enumerate(TEXTS)]
    write(tmp_path, "summaries_train.csv", "student_id,prompt_id,text,content,wording", rows)
    write(tmp_path, "prompts_train.csv", "prompt_id,title,body", [f"p{n},On it,a b c d e f g" for n in range(3)])
    with pytest.raises(UnrollError, match=r"cannot tell which columns of summaries_train.csv to predict"):
        propose(tmp_path, {})
    found = propose(tmp_path, {"target": ["content", "wording"]})
    assert found.keys["join"] == {"file": "prompts_train.csv", "on": "prompt_id", "columns": ["title"]}
    assert found.keys["text"] == ["text", "title"]
    assert found.keys["group"] == "prompt_id"
    assert found.keys["metric"] == "mcrmse"
    assert set(found.unsure) == {"join", "group", "metric"}
    check(found.keys)
    with pytest.raises(UnrollError, match=r"--target marks: no such column in summaries_train.csv: student_id, "):
        propose(tmp_path, {"target": ["marks"]})


def test_a_folder_without_a_training_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "data.csv", "a,b", ["1,2"])
    with pytest.raises(UnrollError, match=r"expected a table with `train` in its name, found data.csv"):
        propose(tmp_path, {})
    with pytest.raises(UnrollError, match="nowhere: no such folder"):
        propose(tmp_path / "nowhere", {})
