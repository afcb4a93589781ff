"""From the service to a score beside the run: the commands and the official client against a stand-in, over HTTP."""

import csv
import io
import json
import os
import pty
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from tests.support.command import Done, unroll
from tests.support.definitions import load_task
from tests.support.kaggle_service import SLUG, TOKEN, Fault, Service, serve, sign_in, zip_folder
from tests.support.project import Project, copy_project, make_small
from unroll.core import paths
from unroll.core.files import sha256_of, sha256_of_file, write_json
from unroll.data.rows import predictions_table
from unroll.kaggle.ledger import COLUMNS
from unroll.models.decisions import Decision
from unroll.models.ensemble import Ensemble, save_ensemble
from unroll.stages import download, prepare, submission
from unroll.tracking.store import experiment_id, open_store

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # mlflow's own

LEDGER = "reports/submissions/history.csv"
DETAILS = paths.details("sentiment")


class Competitor:
    """The project as a user with a credential works with it; the current folder is the project's."""

    def __init__(self, project: Project, service: Service, patch: pytest.MonkeyPatch) -> None:
        self.project, self.service, self.patch = project, service, patch

    def run(self, *command: str) -> Done:
        """Run a command in this process."""
        done = unroll(self.project.folder, *command)
        assert TOKEN not in done.stdout + done.stderr
        return done

    def start(self, *command: str, stdin: int | None = None) -> subprocess.Popen[str]:
        """Run a command in a process of its own."""
        hidden = {name: os.environ[name] for name in os.environ if name.startswith("KAGGLE_") or name == "HOME"}
        return subprocess.Popen(
            ["unroll", *command], cwd=self.project.folder, env=self.project.environment() | hidden,
            text=True,
            stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            # A program that a script has put into the background ignores Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def submit(self, *options: str) -> Done:
        return self.run("submit", "sentiment", "-m", "first", "--yes", "--wait", "20", *options)

    @property
    def ledger(self) -> list[dict[str, str]]:
        file = self.project.folder / LEDGER
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        return list(csv.DictReader(io.StringIO(text)))

    def ensemble_run(self) -> dict[str, Any]:
        open_store(Path.cwd())
        [found] = mlflow.search_runs(experiment_names=["sentiment"], output_format="list")
        return {"id": found.info.run_id, "metrics": found.data.metrics, "tags": found.data.tags}


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A small project with the competition's files and a submission, of an ensemble that was never trained."""
    project = copy_project(tmp_path_factory.mktemp("submitted"))
    make_small(project)
    project.set("data", {"source": "kaggle", "dir": "data/sample", "mirrors": {"surnames": "student/surnames"}})
    project.commit("small")
    sample = project.folder / "data/sample"
    service = Service(zip_folder(sample / SLUG), {"student/surnames": zip_folder(sample / "surnames")})
    with serve(service), pytest.MonkeyPatch.context() as patch:
        sign_in(patch, tmp_path_factory.mktemp("home"))
        patch.chdir(project.folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        download.main("sentiment")
        download.main("surnames")
        prepare.main("sentiment")
        make_ensemble()
        submission.main("sentiment")
        log_ensemble()
    assert service.asked.count("DownloadDataFiles") == 1
    return project


def make_ensemble() -> None:
    """Write what the stages ensemble and evaluate would, for random predictions."""
    rows, task = pd.read_parquet(paths.rows("sentiment")), load_task("sentiment")
    test = rows.loc[rows["part"] == "test", ["row_id"]].reset_index(drop=True)
    random = np.random.default_rng(1).dirichlet(np.ones(5), len(test))
    folder = paths.ensemble("sentiment")
    folder.mkdir(parents=True)
    test.join(predictions_table(random, task)).to_parquet(folder / "test.parquet")
    save_ensemble(folder / "weights.json", ["GRU"], Ensemble(np.ones(1)), Decision.default(task), nested=False)
    digest = sha256_of(paths.ensemble("sentiment"))
    details = {"ensemble": 0.6, "ensemble_sha256": digest, "ensemble_weights": {"LSTM": 0.75, "GRU": 0.25}}
    write_json(DETAILS, {"metric": "accuracy", **details})


def log_ensemble() -> None:
    """Log the ensemble's run."""
    open_store(Path.cwd())
    digest = sha256_of(paths.ensemble("sentiment"))
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    tags = {"outputs_sha256": digest, "git_commit": commit, "git_dirty": "no"}
    experiment = experiment_id("sentiment")  # not set_experiment, which later tests in this process would feel
    with mlflow.start_run(run_name="sentiment ensemble", tags=tags, experiment_id=experiment):
        pass


@pytest.fixture
def competitor(submitted: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Competitor]:
    """A user before the first submission, and the service."""
    shutil.copytree(submitted.folder, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sign_in(monkeypatch, tmp_path / "home")
    project = Project(tmp_path / "project")
    service = Service(zip_folder(project.folder / "data/sample" / SLUG))
    with serve(service):
        yield Competitor(project, service, monkeypatch)


def test_the_files_come_from_the_service_and_are_not_downloaded_again(competitor: Competitor) -> None:
    record = json.loads(Path("data/raw/sentiment/source.json").read_text())
    assert record["origin"] == f"https://www.kaggle.com/c/{SLUG}"
    assert [file["name"] for file in record["files"]] == ["sampleSubmission.csv", "test.tsv", "train.tsv"]
    record = json.loads(Path("data/raw/surnames/source.json").read_text())
    assert record["origin"] == "https://www.kaggle.com/datasets/student/surnames"
    assert len(record["files"]) == 18
    download.main("sentiment")
    assert "DownloadDataFiles" not in competitor.service.asked


def test_dvc_downloads_from_the_service(competitor: Competitor) -> None:
    """The stage as DVC runs it, in a process of its own."""
    shutil.rmtree("data/raw")
    variables = {name: os.environ[name] for name in ("HOME", "KAGGLE_API_ENVIRONMENT", "KAGGLE_API_TOKEN")}
    done = competitor.project.run("dvc", "repro", "download@sentiment", check=True, **variables)
    assert "raw files from https://www.kaggle.com/c/" in done.stdout
    assert Path("data/raw/sentiment/train.tsv").is_file()


def test_a_submission_ends_with_its_score_beside_its_run(competitor: Competitor) -> None:
    done = competitor.submit()
    assert done.returncode == 0, done.stderr
    assert "public score 0.65123, private 0.64987" in done.stdout
    sent = (competitor.project.folder / "reports/submissions/sentiment.csv").read_bytes()
    assert list(competitor.service.uploads.values()) == [sent]

    run = competitor.ensemble_run()
    assert run["metrics"]["kaggle_public_score"] == 0.65123
    assert run["metrics"]["kaggle_private_score"] == 0.64987
    (line,) = competitor.ledger
    assert tuple(line) == COLUMNS
    assert run["tags"]["kaggle_reference"] == line["reference"] == "1000"
    assert run["tags"]["submission_sha256"] == line["file_sha256"]
    assert line["mlflow_run"] == run["id"]
    assert line["git_commit"] == run["tags"]["git_commit"]
    assert line["dvc_lock_sha256"] == run["tags"]["dvc_lock_sha256"] == sha256_of_file(Path("dvc.lock"))
    assert line["file_sha256"][:12] in competitor.service.submissions[0]["description"]

    shown = competitor.run("scores").stdout
    gap = f"{0.65123 - float(line['out_of_fold']):+.4f}"
    for word in ("1000", "0.65123", "0.64987", gap, line["mlflow_run"][:8], line["git_commit"][:7], "first"):
        assert word in shown


def test_the_token_is_in_no_file(competitor: Competitor) -> None:
    assert competitor.submit().returncode == 0
    folders = (competitor.project.folder, Path.home())
    tests = competitor.project.folder / "tests"
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and tests not in path.parents]
    assert len(files) > 100
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]


def test_the_same_file_is_not_sent_twice(competitor: Competitor) -> None:
    assert competitor.submit().returncode == 0
    done = competitor.submit()
    assert done.returncode == 1
    assert "this file was submitted on 2026-01-02T03:04:00Z (reference 1000)" in done.stderr
    assert competitor.service.asked.count("CreateSubmission") == 1
    assert competitor.submit("--force").returncode == 0
    assert [line["reference"] for line in competitor.ledger] == ["1000", "1001"]


def test_a_submission_that_the_ledger_lost_is_found_again(competitor: Competitor) -> None:
    assert competitor.submit().returncode == 0
    (competitor.project.folder / LEDGER).unlink()
    done = competitor.submit()
    assert done.returncode == 0
    assert "already submitted to Kaggle (submission 1000); not uploaded again" in done.stdout
    assert competitor.service.asked.count("CreateSubmission") == 1
    assert competitor.ledger[0]["public_score"] == "0.65123"


def test_a_pending_score_is_fetched_later(competitor: Competitor) -> None:
    competitor.service.looks_until_scored = 1000
    done = competitor.submit("--wait", "0")
    assert done.returncode == 0
    assert "submission 1000 has no score yet; `unroll scores` fetches it later" in done.stdout
    assert competitor.ledger[0]["status"] == "pending"
    assert "kaggle_public_score" not in competitor.ensemble_run()["metrics"]
    competitor.service.looks_until_scored = 0
    assert "0.65123" in competitor.run("scores").stdout
    assert competitor.ledger[0]["status"] == "complete"
    assert competitor.ensemble_run()["metrics"]["kaggle_public_score"] == 0.65123
    assert competitor.service.asked.count("PUT") == 1


def test_interrupted_while_waiting_nothing_is_lost(competitor: Competitor) -> None:
    competitor.service.looks_until_scored = 1000
    process = competitor.start("submit", "sentiment", "-m", "first", "--yes")
    until = time.monotonic() + 60
    while not competitor.ledger and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "no longer waiting; `unroll scores` fetches the score later" in errors
    assert "Traceback" not in errors
    competitor.service.looks_until_scored = 0
    assert "0.65123" in competitor.run("scores").stdout
    assert competitor.service.asked.count("PUT") == 1


def test_two_at_once_upload_once(competitor: Competitor) -> None:
    competitor.service.slow = 1.5
    command = ("submit", "sentiment", "-m", "first", "--yes")
    processes = [competitor.start(*command) for _ in range(2)]
    ends = [process.communicate(timeout=120) for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 1], ends
    assert any(
        "is running here; wait until it ends" in errors or "this file was submitted" in errors for _, errors in ends
    )
    assert competitor.service.asked.count("CreateSubmission") == 1
    assert len(competitor.ledger) == 1


def test_a_file_that_cannot_be_scored_ends_with_the_services_reason(competitor: Competitor) -> None:
    competitor.service.outcome = {"status": "error", "errorDescription": "Evaluation Exception: PhraseId 7 is missing"}
    done = competitor.submit()
    assert done.returncode == 1
    assert "submission 1000 was not scored: Evaluation Exception: PhraseId 7 is missing" in done.stderr
    assert competitor.ledger[0]["status"] == "error"
    competitor.service.outcome = {"status": "complete", "publicScore": "0.6"}
    assert competitor.submit().returncode == 0, "a failed submission does not stand in the way of the next"


def test_an_upload_that_is_refused_is_no_submission(competitor: Competitor) -> None:
    competitor.service.upload_status = 403
    done = competitor.submit()
    assert done.returncode == 1
    assert "the upload was not accepted" in done.stderr
    assert "Could not submit to competition" in done.stderr
    assert not competitor.ledger
    competitor.service.upload_status = 200
    assert competitor.submit().returncode == 0


def test_a_reached_daily_limit_sends_nothing(competitor: Competitor) -> None:
    competitor.service.allowed = 0
    done = competitor.submit()
    assert done.returncode == 1
    assert "no submissions left today; the limit resets at 00:00 UTC" in done.stderr
    assert "PUT" not in competitor.service.asked
    competitor.service.faults = [Fault("GetSubmissionLimits", 404, "no such call")]
    done = competitor.submit()
    assert done.returncode == 1
    assert "400: Your team has used its daily Submission allowance (5) today" in done.stderr
    assert not competitor.ledger


@pytest.mark.parametrize(
    ("token", "refusal", "told"),
    [
        (None, None, "no credential found; set KAGGLE_API_TOKEN"),
        (TOKEN[:-1] + "x", None, "401: the credential is not valid"),
        (TOKEN, (403, "You must accept this competition's rules"), f"https://www.kaggle.com/c/{SLUG}/rules"),
        (TOKEN, (404, "Not found"), "404: there is no competition"),
    ],
)
def test_a_refusal_is_one_sentence_and_changes_nothing(
    competitor: Competitor, token: str | None, refusal: tuple[int, str] | None, told: str
) -> None:
    competitor.service.refusal = refusal
    if token is None:
        competitor.patch.delenv("KAGGLE_API_TOKEN")
    else:
        competitor.patch.setenv("KAGGLE_API_TOKEN", token)
    before = competitor.project.state()
    done = competitor.submit()
    assert done.returncode == 1
    assert done.stderr.startswith("error: Kaggle")
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert competitor.project.state() == before


def test_passing_faults_of_the_service_are_waited_out(competitor: Competitor) -> None:
    competitor.service.faults = [
        Fault("ListSubmissions", 429, "Too many", {"Retry-After": "1"}),
        Fault("ListSubmissions", 500, "Internal error"),
    ]
    done = competitor.submit()
    assert done.returncode == 0, done.stderr
    assert "Kaggle answered 429; trying again in 1 s" in done.stderr
    assert competitor.service.asked.count("CreateSubmission") == 1


@pytest.mark.parametrize(("status", "listed_after"), [(500, 0), (504, 2)])
def test_a_fault_after_the_submission_was_made_does_not_make_a_second(
    competitor: Competitor, status: int, listed_after: int
) -> None:
    """The service makes the submission and answers with a fault; the list shows it, at once or a little later."""
    make = competitor.service.create

    def make_and_fail(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        make(request)
        return status, {"code": status, "message": "a fault"}

    competitor.service.create = make_and_fail  # type: ignore[method-assign]
    competitor.service.listed_after = listed_after
    done = competitor.submit()
    assert done.returncode == 0, done.stderr
    assert competitor.service.asked.count("CreateSubmission") == 1
    assert competitor.ledger[0]["public_score"] == "0.65123"


def test_a_newcomer_for_whom_the_service_counts_nothing_may_submit(competitor: Competitor) -> None:
    competitor.service.is_new = True
    done = competitor.submit()
    assert done.returncode == 0, done.stderr
    assert "left today   unknown" in done.stdout


@pytest.mark.parametrize("message", ["x" * 201, "two\nlines"])
def test_a_message_that_the_service_might_cut_is_refused(competitor: Competitor, message: str) -> None:
    done = competitor.run("submit", "sentiment", "-m", message, "--yes")
    assert done.returncode == 1
    assert "--message: expected one line of at most 200 characters" in done.stderr
    assert competitor.service.asked == []


def test_the_scores_of_other_models_are_not_sent_along(competitor: Competitor) -> None:
    """As after `git checkout`, which brings the committed metrics back."""
    file = DETAILS
    before = file.read_text()
    file.write_text(json.dumps(json.loads(before) | {"ensemble_sha256": "0" * 64}))
    done = competitor.submit()
    file.write_text(before)
    assert done.returncode == 1
    assert "sentiment.json: the scores of other models; `dvc repro` writes them again" in done.stderr
    assert competitor.service.asked == []


def test_nobody_to_ask_sends_nothing(competitor: Competitor) -> None:
    done = competitor.run("submit", "sentiment", "-m", "first")
    assert done.returncode == 1
    assert "nothing sent: confirmation needs a terminal; --yes sends without it" in done.stderr
    assert "reports/submissions/sentiment.csv" in done.stdout
    assert "PUT" not in competitor.service.asked


def test_confirmation_is_asked_for_in_a_terminal(competitor: Competitor) -> None:
    """The answer no sends nothing, yes sends."""
    for answer, status in ((b"n\n", 1), (b"y\n", 0)):
        screen, terminal = pty.openpty()
        process = competitor.start("submit", "sentiment", "-m", "first", "--wait", "20", stdin=terminal)
        os.write(screen, answer)
        out, errors = process.communicate(timeout=120)
        os.close(screen)
        os.close(terminal)
        assert "Send it? [y/N]" in out, errors
        assert process.returncode == status, errors
        assert ("PUT" in competitor.service.asked) == (status == 0)
    assert competitor.ledger[0]["public_score"] == "0.65123"


def test_a_changed_file_is_refused_before_anything_is_asked(competitor: Competitor) -> None:
    file = competitor.project.folder / "reports/submissions/sentiment.csv"
    before = file.read_bytes()
    file.unlink()
    file.write_bytes(before[:-2] + b"\n")
    done = competitor.submit()
    file.unlink()
    file.write_bytes(before)
    assert done.returncode == 1
    assert "is not the file that the pipeline wrote" in done.stderr
    assert competitor.service.asked == []


def test_the_sample_is_not_sent(competitor: Competitor) -> None:
    record = competitor.project.folder / "data/raw/sentiment/source.json"
    before = record.read_text()
    record.unlink()
    record.write_text(before.replace(f"https://www.kaggle.com/c/{SLUG}", f"/somewhere/{SLUG}"))
    done = competitor.submit()
    record.write_text(before)
    assert done.returncode == 1
    assert "made from the sample" in done.stderr
    assert "PUT" not in competitor.service.asked


def test_a_task_without_a_competition_says_so(competitor: Competitor) -> None:
    done = competitor.run("submit", "surnames", "-m", "first", "--yes")
    assert done.returncode == 1
    assert "task surnames: belongs to no Kaggle competition" in done.stderr


def test_the_leaderboard_shows_where_the_project_would_stand(competitor: Competitor) -> None:
    competitor.service.others = [(f"team {number}", 0.8 - number / 1000) for number in range(1, 301)]
    shown = competitor.run("leaderboard", "--top", "3").stdout
    assert "    3  0.79700   team 3" in shown
    assert "this project has no score yet" in shown
    assert competitor.submit().returncode == 0
    shown = competitor.run("leaderboard", "--top", "3").stdout
    assert "  149  0.65123   this project's best (first), 0.14777 from the first" in shown


def test_doctor_says_that_all_is_well(competitor: Competitor) -> None:
    done = competitor.run("doctor")
    assert done.returncode == 0, done.stdout
    assert "access token from the variable KAGGLE_API_TOKEN" in done.stdout
    assert f"{SLUG}: rules accepted, 5 submissions a day" in done.stdout
    assert "student" in done.stdout
    assert "ok    DVC " in done.stdout
    assert "ready: `make repro` can run" in done.stdout


def test_doctor_finds_what_stands_in_the_way(competitor: Competitor) -> None:
    competitor.service.entered = False
    done = competitor.run("doctor")
    assert done.returncode == 1, "the files come from Kaggle here, so the main job cannot run"
    assert "not ready: Kaggle" in done.stdout
    failed = [line for line in done.stdout.splitlines() if line.startswith("fail ")]
    assert len(failed) == 1
    assert f"→ accept its rules at https://www.kaggle.com/c/{SLUG}/rules" in done.stdout


def test_doctor_works_offline(competitor: Competitor) -> None:
    competitor.patch.delenv("KAGGLE_API_TOKEN")
    done = competitor.run("doctor", "--offline")
    assert done.returncode == 1
    assert "no credential found; needed to download and to submit" in done.stdout
    assert competitor.service.asked == []


def test_doctor_survives_a_damaged_store(competitor: Competitor) -> None:
    store = competitor.project.folder / "mlflow.db"
    store.write_bytes(b"no database" * 500)
    done = competitor.run("doctor", "--offline")
    assert done.returncode == 1
    assert "not ready: MLflow store" in done.stdout
    assert "Kaggle " in done.stdout, "the checks after it are made all the same"
