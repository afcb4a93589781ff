"""Every kind of target through every stage, in the layouts of real competitions, made small."""

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.support.command import unroll
from tests.support.kaggle_service import Service, serve, sign_in
from tests.support.project import ROOT
from unroll.models.bundle import load_bundle
from unroll.stages import download, ensemble, evaluate, hello, prepare, report, settings, submission, tokenize, train

WORDS = ["good", "bad", "fine", "film", "plot", "dull", "very", "not", "a", "the"]
LABELS, NUMBERS = ["rude", "mild", "odd"], ["content", "wording"]
DEFINITIONS: dict[str, dict[str, Any]] = {
    "notes": {"target": {"columns": LABELS, "kind": "multilabel"}, "metric": "macro_f1", "text": ["text"]},
    "essays": {"target": {"columns": NUMBERS, "kind": "number"}, "metric": "mcrmse", "text": ["title", "text"],
               "join": {"file": "prompts.csv", "on": "prompt", "columns": ["title"]}},
    "grades": {"target": {"columns": ["grade"], "kind": "ordinal"}, "metric": "quadratic_kappa", "text": ["text"]},
    "authors": {"target": {"columns": ["author"], "kind": "classes"}, "metric": "log_loss", "text": ["text"]},
    "asides": {"target": {"columns": ["aside"], "kind": "classes"}, "metric": "f1", "text": ["text"], "id": None},
}  # fmt: skip


def write_files(folder: Path) -> None:
    """Write the files of all five competitions: the words of a text say what is right."""
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(WORDS, rng.integers(3, 9))) for _ in range(90)]
    has = pd.DataFrame({word: [int(word in text.split()) for text in texts] for word in WORDS})
    table = pd.DataFrame({"id": [f"t{number}" for number in range(90)], "text": texts, "prompt": np.arange(90) % 9})
    columns = {
        "notes": has[["bad", "fine", "plot"]].set_axis(LABELS, axis=1),
        "essays": (has[["good", "film"]] * [2.5, -40]).set_axis(NUMBERS, axis=1),
        "grades": (has["good"] + has["film"] + 1).to_frame("grade"),
        "authors": has["bad"].map({0: "Poe", 1: "Shelley, M."}).to_frame("author"),
        "asides": has["plot"].to_frame("aside"),
    }
    for name, truth in columns.items():
        place = folder / f"{name}-challenge"
        place.mkdir(parents=True)
        train = table.iloc[:75].join(truth)
        test = table.iloc[75:].reset_index(drop=True)
        outputs = ["Poe", "Shelley, M."] if name == "authors" else list(truth)
        sample = test[["id"] if name != "asides" else ["text"]].assign(**dict.fromkeys(map(str, outputs), 0))[::-1]
        for file, content in (("train", train), ("test", test), ("sample", sample)):
            content.to_csv(place / f"{file}.csv", index=False)
        if name == "asides":
            sample[::-1].to_csv(place / "sample.csv", index=False)  # without ids the rows are in order
        pd.DataFrame({"prompt": range(9), "title": [f"On {n}" for n in range(9)]}).to_csv(
            place / "prompts.csv", index=False
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("kinds")
    write_files(folder / "files")
    (folder / "competitions").mkdir()
    usual = {"train": "train.csv", "test": "test.csv", "sample": "sample.csv", "id": "id"}
    for name, definition in DEFINITIONS.items():
        named = {"competition": f"{name}-challenge"}
        (folder / f"competitions/{name}.yaml").write_text(yaml.safe_dump({**named, **usual, **definition}))
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values |= {
        "tasks": list(DEFINITIONS),
        "cells": ["RNN", "GRU"],
        "data": {"source": "local", "dir": "files", "mirrors": {}},
    }
    values["defaults"]["model"] |= {"embedding": 12, "hidden": 12}
    values["defaults"]["train"] |= {"epochs": 3, "min_steps": 120, "lr": 0.02}
    values["defaults"]["split"] |= {"folds": 3, "run_folds": [0]}
    values["authors"] = {"split": {"refit": 2}}
    for lesson in ("step_by_step", "unfolded", "embedding"):
        values["hello"][lesson]["epochs"] = 2
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("UNROLL_JOBS", "1")
        for name in DEFINITIONS:
            for stage in (settings, download, prepare, tokenize, train, ensemble, evaluate, submission):
                stage.main(name)
        hello.main()
        with contextlib.redirect_stderr(io.StringIO()) as told:
            report.main()
        assert "warning" not in told.getvalue(), told.getvalue()
        yield folder


pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("name", DEFINITIONS)
def test_it_learns_and_submits_in_the_samples_form(folder: Path, name: str) -> None:
    scores = json.loads((folder / f"reports/metrics/{name}.json").read_text())
    assert scores["metric"] == DEFINITIONS[name]["metric"]
    worst = {"mcrmse": 12.0, "log_loss": 0.68}.get(scores["metric"])
    assert scores["GRU"] < worst if worst else scores["GRU"] > 0.3, scores
    sample = pd.read_csv(folder / f"files/{name}-challenge/sample.csv")
    made = pd.read_csv(folder / f"reports/submissions/{name}.csv")
    assert list(made) == list(sample)
    assert made.iloc[:, 0].tolist() == sample.iloc[:, 0].tolist()
    assert made.iloc[:, -1].nunique() > 1
    details = json.loads((folder / f"reports/details/{name}.json").read_text())
    assert details["leaderboard_estimate"] is None


@pytest.mark.parametrize(
    ("name", "printed", "keys"),
    [
        ("notes", r"mild|rude|odd|none", {"labels", "probabilities"}),
        ("essays", "content", {"values"}),
        ("grades", "[123] 0", {"label", "name", "probability", "probabilities"}),
        ("authors", "Poe|Shelley", {"label", "name", "probability", "probabilities"}),
    ],
)
def test_predict_knows_each_kind(folder: Path, name: str, printed: str, keys: set[str]) -> None:
    done = unroll(folder, "predict", name, "a very good film", "bad plot", "--explain")
    assert done.returncode == 0, done.stderr
    assert pd.Series([done.stdout]).str.contains(printed).item()
    (first, _) = json.loads(unroll(folder, "predict", name, "a good film", "bad plot", "--json").stdout)
    assert set(first) == {"text", "unknown", *keys}
    (folder / "texts.csv").write_text("text\na good film\nbad plot\n")
    table = unroll(folder, "predict", name, "texts.csv").stdout.splitlines()
    assert len(table) == 3
    assert table[0].startswith("text,")


def test_predict_puts_several_columns_together(folder: Path) -> None:
    (folder / "both.csv").write_text("prompt,text,title\n1,a good film,On 1\n")
    table = unroll(folder, "predict", "essays", "both.csv").stdout.splitlines()
    assert table[0] == "text,content,wording"
    assert table[1].startswith("On 1 <sep> a good film,")
    (folder / "neither.csv").write_text("prompt,titel\n1,On 1\n")
    done = unroll(folder, "predict", "essays", "neither.csv")
    assert done.stderr == (
        "error: neither.csv: line 1: found the columns prompt, titel, expected one column, or exactly one named name "
        "or text or title, or all of title, text\n"
    )


def test_models_of_all_rows_alone_answer_what_is_new(folder: Path) -> None:
    rows = pd.read_parquet(folder / "data/rows/authors.parquet")
    test, cell = rows[rows["part"] == "test"], folder / "models/authors/GRU"
    found = pd.read_parquet(cell / "test.parquet")[["predicted:Poe", "predicted:Shelley, M."]].to_numpy()
    refits = [load_bundle(cell / f"refit-{number}").predict(test["text"].tolist()) for number in (0, 1)]
    np.testing.assert_allclose(found, np.mean(refits, axis=0), atol=1e-6)
    assert not np.allclose(refits[0], refits[1])
    assert not np.allclose(found, load_bundle(cell / "fold-0").predict(test["text"].tolist()))
    (folder / "new.txt").write_text(f"{test['text'].iloc[0]}\n")
    (told,) = json.loads(unroll(folder, "predict", "authors", "new.txt", "--cell", "GRU", "--json").stdout)
    assert told["probabilities"]["Poe"] == pytest.approx(found[0, 0], abs=1e-6)
    assert not (folder / "models/notes/GRU/refit-0").exists()


@pytest.mark.parametrize("name", DEFINITIONS)
def test_submit_sends_each_form(folder: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in(monkeypatch, tmp_path / "home")
    service = Service(slug=f"{name}-challenge")
    with serve(service):
        done = unroll(folder, "submit", name, "-m", "first", "--yes", "--wait", "20")
        assert done.returncode == 0, done.stderr
        assert "public score 0.65123" in done.stdout
        assert list(service.uploads.values()) == [(folder / f"reports/submissions/{name}.csv").read_bytes()]
        service.outcome["publicScore"] = "0.9"
        assert unroll(folder, "submit", name, "-m", "again", "--yes").returncode == 1
    assert len(service.submissions) == 1


def test_a_competition_of_notebooks_takes_no_file(folder: Path) -> None:
    path = folder / "competitions/grades.yaml"
    before = path.read_text()
    try:
        path.write_text(before + "upload: false\n")
        done = unroll(folder, "submit", "grades", "-m", "first", "--yes")
        assert done.returncode == 1
        assert done.stderr.startswith("error: task grades: competitions/grades.yaml says upload: false: ")
        assert "notebook" in done.stderr
    finally:
        path.write_text(before)


def test_compare_follows_the_metric(folder: Path) -> None:
    for name in ("essays", "notes", "authors"):
        done = unroll(folder, "compare", f"{name}/RNN", f"{name}/GRU")
        assert done.returncode == 0, done.stderr
        metric = DEFINITIONS[name]["metric"].replace("_", " ")
        assert f"{metric} of B minus A: " in done.stdout
        assert ("McNemar" in done.stdout) == (name != "essays")


def test_the_report_has_a_chapter_of_each(folder: Path) -> None:
    page = (folder / "reports/index.html").read_text(encoding="utf-8")
    for words in ("mean column-wise RMSE", "quadratic weighted kappa", "macro-F1", "wording: the largest errors"):
        assert words in page
    for name in DEFINITIONS:
        assert f'id="{name}-models"' in page
