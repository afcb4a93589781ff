"""The whole pipeline through real DVC, as a person runs it, on a small cut of the sample."""

import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.project import Project
from unroll.models.span_classifier import CELLS

pytestmark = pytest.mark.slow


@pytest.fixture
def project(small_project: Project) -> Project:
    """The small project after one `dvc repro`."""
    return small_project


@pytest.fixture
def restored(project: Project) -> Iterator[Project]:
    """The same, whose tracked files are put back after the test."""
    yield project
    project.run("git", "checkout", "-q", "HEAD", "--", ".")
    project.run("git", "clean", "-qfd")
    project.run("dvc", "checkout", "--quiet", "--force")


def changed_stages(project: Project) -> set[str]:
    status = json.loads(project.run("dvc", "status", "--json").stdout)
    return set(status)


def test_every_output_is_there(project: Project) -> None:
    expected = {"reports/index.html", "reports/summary.md", "reports/hello.json"}
    for task in ("sentiment", "surnames"):
        expected |= {
            f"data/raw/{task}/source.json",
            f"data/rows/{task}.parquet",
            f"data/corpus/{task}/tokens/tokens.npy",
        }
        expected |= {f"reports/metrics/{task}.json", f"reports/submissions/{task}.csv"}
        expected.add(f"data/ensemble/{task}/weights.json")
        for cell in CELLS:
            for fold in (0, 2):
                expected.add(f"models/{task}/{cell}/fold-{fold}/weights.safetensors")
            expected |= {f"models/{task}/{cell}/out_of_fold.parquet", f"models/{task}/{cell}/test.parquet"}
    assert expected <= project.state().keys()
    assert not [name for name in project.state() if name.endswith(".part")]


def test_the_sentiment_submission_has_the_samples_ids_in_its_order(project: Project) -> None:
    submission = pd.read_csv(project.folder / "reports/submissions/sentiment.csv")
    folder = project.folder / "data/sample/sentiment-analysis-on-movie-reviews"
    sample = pd.read_csv(folder / "sampleSubmission.csv")
    assert list(submission.columns) == list(sample.columns)
    assert submission["PhraseId"].tolist() == sample["PhraseId"].tolist()
    assert submission["Sentiment"].between(0, 4).all()
    train = pd.read_csv(folder / "train.tsv", sep="\t", keep_default_na=False)
    labels = train.drop_duplicates("Phrase").set_index("Phrase")["Sentiment"]
    test = pd.read_csv(folder / "test.tsv", sep="\t", keep_default_na=False).set_index("PhraseId")["Phrase"]
    known = test[test.isin(labels.index)]
    assert len(known) > 20
    answers = submission.set_index("PhraseId")["Sentiment"]
    assert (answers[known.index].to_numpy() == labels[known].to_numpy()).all()
    record = json.loads((project.folder / "reports/submissions/sentiment.json").read_text())
    assert record["known_labels"] == len(known)


def test_the_surnames_submission_answers_the_names_kept_back(project: Project) -> None:
    submission = pd.read_csv(project.folder / "reports/submissions/surnames.csv")
    rows = pd.read_parquet(project.folder / "data/rows/surnames.parquet")
    assert submission["NameId"].tolist() == rows.loc[rows["part"] == "test", "id"].astype(int).tolist()
    assert len(submission) > 10


def test_source_records_name_every_file(project: Project) -> None:
    record = json.loads((project.folder / "data/raw/surnames/source.json").read_text())
    assert record["origin"] == "data/sample/surnames"
    assert len(record["files"]) == 18
    assert all(re.fullmatch(r"[0-9a-f]{64}", file["sha256"]) and file["bytes"] > 0 for file in record["files"])


def test_out_of_fold_rows_are_those_kept_back(project: Project) -> None:
    rows = pd.read_parquet(project.folder / "data/rows/sentiment.parquet")
    table = pd.read_parquet(project.folder / "models/sentiment/GRU/out_of_fold.parquet")
    assert table["row_id"].tolist() == rows.loc[rows["fold"].isin([0, 2]), "row_id"].tolist()
    scores = json.loads((project.folder / "reports/details/sentiment.json").read_text())
    truth = rows.set_index("row_id")["true:Sentiment"][table["row_id"]].to_numpy()
    found = table[[f"predicted:{label}" for label in range(5)]].to_numpy().argmax(1)
    assert scores["models"]["GRU"]["out_of_fold"]["accuracy"] == pytest.approx((found == truth).mean())
    assert scores["ensemble_is_nested"] is True


# Before the tests that train again, which add runs of the same names.
def test_the_runs_are_in_mlflow(project: Project) -> None:
    runs = project.run("python", "-c", MLFLOW_CHECK).stdout
    found = json.loads(runs.splitlines()[-1])
    assert found["names"] == sorted(
        name
        for task in ("sentiment", "surnames")
        for name in (
            f"{task} ensemble",
            *(f"{task} {cell}{fold}" for cell in CELLS for fold in ("", " fold 0", " fold 2")),
        )
    )
    parents = {run["name"]: run["id"] for run in found["runs"]}
    for run in found["runs"]:
        assert run["tags"]["git_commit"] == project.run("git", "rev-parse", "HEAD~1").stdout.strip()
        if run["params"]["cell"] == "ensemble":
            assert run["tags"]["dvc_stage"].startswith("evaluate@")
            for cell in CELLS:
                assert run["tags"][f"member_{cell}"] == parents[f"{run['tags']['task']} {cell}"]
                assert 0 <= float(run["params"][f"weight.{cell}"]) <= 1
            assert "best_accuracy" in run["metrics"]
            assert set(run["artifacts"]) == {f"figures/{figure}" for figure in run["figures"]}
            continue
        assert run["tags"]["dvc_stage"].partition("@")[0] in {"train", "evaluate"}
        assert re.fullmatch(r"[0-9a-f]{64}", run["tags"]["corpus_sha256"])
        assert "best_accuracy" in run["metrics"]
        assert run["params"]["cell"] in CELLS
        if "fold" in run["tags"]:
            assert run["tags"]["mlflow.parentRunId"]
            assert run["epochs"] == [1, 2]
        else:
            assert run["dataset"]
            assert run["digest"]
            assert re.fullmatch(r"[0-9a-f]{64}", run["tags"]["outputs_sha256"])
            assert {"figures/" + name for name in run["figures"]} == set(run["artifacts"])


MLFLOW_CHECK = """
import json, mlflow
mlflow.set_tracking_uri("sqlite:///mlflow.db")
client = mlflow.MlflowClient()
runs = []
for experiment in mlflow.search_experiments():
    for run in mlflow.search_runs([experiment.experiment_id], output_format="list"):
        task, cell = run.data.tags.get("task"), run.data.tags.get("cell")
        data = run.inputs.dataset_inputs
        runs.append({
            "id": run.info.run_id, "name": run.info.run_name,
            "tags": run.data.tags, "metrics": run.data.metrics, "params": run.data.params,
            "epochs": [m.step for m in client.get_metric_history(run.info.run_id, "valid_accuracy")],
            "dataset": data[0].dataset.name if data else None, "digest": data[0].dataset.digest if data else None,
            "artifacts": [a.path for a in client.list_artifacts(run.info.run_id, "figures")],
            "figures": [f"{task}-confusion-{cell}.svg", f"{task}-curves.svg"],
        })
print(json.dumps({"names": sorted(run["name"] for run in runs), "runs": runs}))
"""


def test_a_second_run_does_nothing(project: Project) -> None:
    before = project.state()
    assert "up to date" in project.run("dvc", "repro").stdout
    assert project.state() == before


def test_a_file_that_a_person_put_among_the_raw_files_stays(restored: Project) -> None:
    mine = restored.folder / "data/raw/surnames/names/Mine.txt"
    mine.write_text("mine\n")
    done = restored.run("dvc", "repro", "download@surnames", check=False)
    assert done.returncode
    assert "error: data/raw/surnames/names/Mine.txt: not written by unroll, which replaces the whole of" in done.stderr
    assert mine.read_text() == "mine\n"
    mine.unlink()
    copy = restored.folder / "data/raw/surnames/names/Irish.txt"
    copy.unlink()  # links to DVC's cache are not written through
    copy.write_text("Murphy\n")
    done = restored.run("dvc", "repro", "prepare@surnames", check=False)
    assert f"error: {copy.relative_to(restored.folder)}: changed since unroll copied it from data/sample" in done.stderr
    assert copy.read_text() == "Murphy\n"


def test_files_that_a_person_put_into_or_beside_what_a_stage_writes_stay(restored: Project) -> None:
    kept = [restored.folder / name for name in ("models/surnames/mine.txt", "reports/figures/sentiment-mine.svg")]
    mine = restored.folder / "models/surnames/GRU/mine.txt"
    for file in (*kept, mine):
        file.write_text("mine\n")
    old = restored.folder / "reports/figures/sentiment-confusion-SRN.svg"
    shutil.copyfile(old.with_name("sentiment-confusion-GRU.svg"), old)  # as of a cell that params.yaml no longer names
    done = restored.run("dvc", "repro", check=False)
    assert done.returncode
    place = "models/surnames/GRU"
    assert f"error: {place}/mine.txt: not written by unroll, which replaces the whole of {place}; move" in done.stderr
    assert mine.read_text() == "mine\n"
    mine.unlink()
    restored.run("dvc", "repro")
    assert [file.read_text() for file in kept] == ["mine\n"] * 2
    assert not old.exists()


def test_an_edit_reruns_only_what_it_can_change(restored: Project) -> None:
    page = restored.folder / "src/unroll/report/page.html"
    page.write_text(page.read_text() + "\n")
    assert changed_stages(restored) == {"report"}
    task = restored.folder / "competitions/surnames.yaml"
    task.write_text(task.read_text() + "\n")
    changed = changed_stages(restored) - {"report"}
    assert changed
    assert all("@surnames" in stage for stage in changed)
    settings = restored.folder / "src/unroll/core/settings.py"
    settings.write_text(settings.read_text() + "\n")
    assert changed_stages(restored) - {"report"} == changed


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.images_without_words = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [value for name in ("src", "href") if (value := values.get(name))]
        if values.get("id"):
            self.anchors.add(str(values["id"]))
        self.images_without_words += tag == "img" and not values.get("alt")


def test_the_report_needs_nothing_beside_it(project: Project) -> None:
    page = (project.folder / "reports/index.html").read_text()
    links = Links()
    links.feed(page)
    assert links.links
    assert all(link.startswith(("data:", "#")) for link in links.links)
    assert {link[1:] for link in links.links if link.startswith("#")} <= links.anchors
    assert links.images_without_words == 0
    for task in ("sentiment", "surnames"):
        assert {
            f"{task}-{name}" for name in ("curves", "folds", "reliability", "kinds", "confusion-ensemble")
        } <= links.anchors
        written = {path.stem for path in (project.folder / "reports/figures").glob("*.svg")}
        assert {f"{task}-confusion-{name}" for name in [*CELLS, "ensemble"]} <= written
    assert "ihello" in page


def test_metrics_and_plots_are_declared_for_dvc(project: Project) -> None:
    metrics = json.loads(project.run("dvc", "metrics", "show", "--json").stdout)
    assert {"reports/metrics/sentiment.json", "reports/metrics/surnames.json"} <= metrics[""]["data"].keys()
    project.run("dvc", "plots", "show", "--out", "plots-out")
    page = (project.folder / "plots-out/index.html").read_text()
    for name in ("sentiment-curves", "sentiment-confusion", "surnames-curves", "surnames-confusion"):
        assert f"{name}" in page


def test_the_logged_model_answers_for_raw_text(project: Project, tmp_path: Path) -> None:
    found = project.run("python", "-c", FIND_MODEL).stdout.splitlines()[-1]
    (tmp_path / "in.json").write_text('{"inputs": ["a thin plot but never dull", "zzz"]}')
    project.run(
        "mlflow", "models", "predict", "-m", found, "-i", str(tmp_path / "in.json"), "-t", "json", "-o",
        str(tmp_path / "out.json"), "--env-manager", "local", MLFLOW_TRACKING_URI="sqlite:///mlflow.db",
    )  # fmt: skip
    answers = json.loads((tmp_path / "out.json").read_text())["predictions"]
    assert len(answers) == 2
    for answer in answers:
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert answer["probabilities"][answer["label"]] == pytest.approx(answer["probability"])


FIND_MODEL = """
import mlflow
mlflow.set_tracking_uri("sqlite:///mlflow.db")
models = mlflow.search_logged_models([mlflow.get_experiment_by_name("sentiment").experiment_id], output_format="list")
print("models:/" + models[0].model_id)
"""


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("surnames.train.lr", -1, "error: params.yaml: surnames.train.lr: found -1"),
        (
            "surnames.text.vectors",
            ["nowhere.txt"],
            "error: params.yaml: text.vectors: found 'nowhere.txt', expected a file",
        ),
    ],
)
def test_a_mistake_in_the_settings_is_one_sentence_and_spoils_nothing(
    restored: Project, key: str, value: object, told: str
) -> None:
    before = {name: content for name, content in restored.state().items() if "sentiment" in name}
    restored.set(key, value)
    done = restored.run("dvc", "repro", "download@surnames", "tokenize@surnames", "train@surnames", check=False)
    assert done.returncode != 0
    assert told in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert {name: content for name, content in restored.state().items() if "sentiment" in name} == before


def test_damaged_raw_data_stops_with_file_and_line_and_no_traceback(restored: Project) -> None:
    file = restored.folder / "data/sample/sentiment-analysis-on-movie-reviews/train.tsv"
    file.write_text(file.read_text() + "999999\t1\tgood\t9\n")
    done = restored.run("dvc", "repro", check=False)
    assert done.returncode != 0
    source = "data/sample/sentiment-analysis-on-movie-reviews/train.tsv"  # which the person owns, not the copy
    told = rf"error: {source}: line \d+: Sentiment: found '9', expected one of 0"
    assert re.search(told, done.stderr)
    assert "Traceback" not in done.stdout + done.stderr


def test_vectors_make_words_known_that_stand_in_the_test_part_alone(restored: Project) -> None:
    rows = pd.read_parquet(restored.folder / "data/rows/sentiment.parquet")
    words = {
        part: {word for text in table["text"] for word in text.lower().split()} for part, table in rows.groupby("part")
    }
    alone = sorted(words["test"] - words["train"])
    assert len(alone) > 1
    (restored.folder / "v.txt").write_text(f"{alone[0]} 1 2 3 4 5 6\nelsewhere 1 2 3 4 5 6\n")
    restored.set("sentiment.text.vectors", ["v.txt"])
    before = json.loads((restored.folder / "data/corpus/sentiment/tokens/vocabulary.json").read_text())
    restored.run("dvc", "repro", "tokenize@sentiment")
    after = json.loads((restored.folder / "data/corpus/sentiment/tokens/vocabulary.json").read_text())
    assert after == [*before, alone[0]]
    vectors = np.load(restored.folder / "data/corpus/sentiment/tokens/vectors.npy")
    assert vectors[-1].tolist() == [1, 2, 3, 4, 5, 6]
    assert np.isnan(vectors[:-1]).all()


def test_an_experiment_retrains_its_task_alone_and_changing_back_trains_nothing(restored: Project) -> None:
    before = restored.state()
    out = restored.run(
        "dvc", "exp", "run", "-n", "faster", "-S", "++sentiment.train.lr=0.01", "evaluate@sentiment"
    ).stdout
    assert re.findall(r"Running stage '(train@\S+)'", out) == ["train@sentiment"]
    assert restored.state() != before
    found = json.loads(restored.run("python", "-c", MLFLOW_CHECK).stdout.splitlines()[-1])
    tagged = [run for run in found["runs"] if run["tags"].get("dvc_experiment") == "faster"]
    assert [run["name"] for run in tagged if run["params"]["cell"] == "ensemble"] == ["sentiment ensemble (faster)"]
    tagged = [run for run in tagged if run["params"]["cell"] != "ensemble"]
    assert {run["params"]["train.lr"] for run in tagged} == {"0.01"}
    difference = restored.run("dvc", "metrics", "diff", "--json").stdout
    assert "reports/metrics/sentiment.json" in json.loads(difference)
    restored.run("git", "checkout", "-q", "HEAD", "--", "params.yaml")
    out = restored.run("dvc", "repro", "evaluate@sentiment").stdout
    folds = re.findall(r"^sentiment \w+ fold \d: .+$", out, re.MULTILINE)
    assert folds
    assert all(line.endswith(", from the cache") for line in folds), "nothing is trained again"
    models = [name for name in before if name.startswith("models/")]
    assert {name: restored.state()[name] for name in models} == {name: before[name] for name in models}
