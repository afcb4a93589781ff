"""Stage report: figures, one HTML page, a summary in Markdown, and the figures beside the runs that they show."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from unroll import tracking
from unroll.core import paths
from unroll.core.errors import run_program
from unroll.core.files import new_file, new_folder, read_json, sha256_of, sha256_of_file
from unroll.core.params import read_config
from unroll.core.settings import Config
from unroll.data.competition import Competition, load_competition
from unroll.evaluation.error_analysis import (
    accuracy_interval,
    list_confusions,
    list_doubtful_labels,
    list_mistakes,
    make_answers,
)
from unroll.kaggle import ledger
from unroll.models.bundle import load_bundle
from unroll.report.page import Card, Lesson, RunRow, TaskPart, render_page, render_summary
from unroll.report.parts import (
    ENSEMBLE,
    TaskResults,
    draw_confusions,
    draw_errors,
    draw_reading,
    draw_scores,
    draw_trees,
    keep_training,
    score_classes,
)

EXAMPLES = 10
EARLIER_RUNS = 100


def main() -> None:
    """Write reports/index.html, reports/summary.md and reports/figures/."""
    config = read_config(paths.PARAMS)
    tracking.open_store(Path.cwd())
    parts = [make_part(config, load_competition(paths.competition(name))) for name in config.tasks]
    with new_folder(paths.FIGURES) as scratch:
        for part in parts:
            for figure in part.figures:
                (scratch / f"{figure.name}.svg").write_text(figure.svg, encoding="utf-8")
    for part in parts:
        for run in part.runs:
            if run.run_id and run.kind != "earlier":
                model = run.name.rpartition(" ")[2]
                names = [figure.name for figure in part.figures]
                shown = [name for name in names if name.endswith(("curves", f"confusion-{model}"))]
                tracking.attach_files(run.run_id, "figures", [paths.FIGURES / f"{name}.svg" for name in shown])
    tags = tracking.workspace_tags()
    commit = f"{tags['git_commit'][:12]}{', with changes' if tags['git_dirty'] == 'yes' else ''}"
    lock = sha256_of_file(paths.DVC_LOCK)[:12] if paths.DVC_LOCK.is_file() else "none yet"
    facts = [
        ("Code", commit or "no git commit"),
        ("Settings", f"params.yaml {sha256_of_file(paths.PARAMS)[:12]}, profile {config.profile}, seed {config.seed}"),
        ("dvc.lock", f"{lock}, before this run of the pipeline ended"),
    ]
    with new_file(paths.REPORT) as file:
        file.write_text(render_page(parts, read_lessons(), facts), encoding="utf-8")
    with new_file(paths.SUMMARY) as file:
        file.write_text(render_summary(parts, facts), encoding="utf-8")
    print(f"report: {paths.REPORT}")


def make_part(config: Config, task: Competition) -> TaskPart:
    """Gather one task's scores, figures and origin."""
    scores = read_json(paths.metrics(task.name))
    rows = pd.read_parquet(paths.rows(task.name))
    sent = [entry for entry in ledger.read_ledger(paths.LEDGER) if entry.task == task.name]
    found = find(config, task, rows)
    past = {run.id: run for run in tracking.list_runs(task.name, EARLIER_RUNS)}
    runs = [make_run(found, name, scores, sent, past) for name in found.answers]
    weights = scores["ensemble_weights"]
    return TaskPart(
        name=task.name,
        title=task.title,
        group_word=task.group_name,
        cards=make_cards(runs, scores, sent),
        facts=list_facts(config, task, rows, scores),
        runs=[*runs, *list_earlier(past, {run.run_id for run in runs})],
        classes=[{str(key): value for key, value in line.items()} for line in score_classes(found).to_dict("records")],
        confusions=list_confusions(found.ensembled, task.label_names, most=EXAMPLES, examples=3),
        mistakes=list_mistakes(found.ensembled, task.label_names, most=EXAMPLES),
        doubtful=list_doubtful_labels(found.ensembled, found.rows, task.label_names, most=EXAMPLES),
        submissions=sorted(sent, key=lambda entry: entry.submitted, reverse=True),
        scores=draw_scores(found),
        errors=[draw_errors(found)],
        trees=draw_trees(found) if found.text.context == "sentence" else (),
        readings=draw_reading(found, weights, paths.fold_bundle(task.name)) if found.reads_letters else (),
        apart=[draw_confusions(found, cell) for cell in config.cells],
    )


def find(config: Config, task: Competition, rows: pd.DataFrame) -> TaskResults:
    """Read what the task's models answered out of fold."""
    folders: dict[str, Path] = {cell: paths.model(task.name, cell) for cell in config.cells}
    answering = {**folders, ENSEMBLE: paths.ensemble(task.name)}
    tables = {name: pd.read_parquet(folder / "out_of_fold.parquet") for name, folder in answering.items()}
    sections = config.task[task.name]
    bundle_of, first = paths.fold_bundle(task.name), config.cells[0]
    return TaskResults(
        task=task,
        text=sections.text,
        rows=keep_training(rows),
        tables=tables,
        answers={name: make_answers(rows, table, task.labels) for name, table in tables.items()},
        histories={
            cell: [pd.DataFrame(read_json(path)["epochs"]) for path in sorted(folder.glob("fold-*/history.json"))]
            for cell, folder in folders.items()
        },
        vocabularies={fold: load_bundle(bundle_of(first, fold)).vocabulary for fold in sections.split.run_folds},
        seed=config.seed,
    )


def make_cards(runs: Sequence[RunRow], scores: dict[str, Any], sent: list[ledger.Entry]) -> list[Card]:
    """Return what a reader wants to see first."""
    metric = scores["metric"].replace("_", "-")

    nested = "weights by nested estimate" if scores["ensemble_is_nested"] else "equal weights"
    shown = {
        "best": ("Best cell", scores["best_cell"], scores["best"]),
        ENSEMBLE: ("Ensemble", nested, scores["ensemble"]),
    }
    cards = []
    for run in runs:
        if run.kind in shown and run.interval is not None:
            title, note, value = shown[run.kind]
            low, high = run.interval
            interval = f"95 % interval of the accuracy {low:.4f} to {high:.4f}"
            cards.append(Card(f"{title}, {metric}", f"{value:.4f}", f"{note}; {interval}"))
    scored = [entry for entry in sent if entry.public_score]
    if scored:
        top = max(scored, key=lambda entry: float(entry.public_score))
        cards.append(Card("Kaggle, public leaderboard", top.public_score, f"best so far: {top.message}"))
    if scores["leaderboard_estimate"] is not None:
        estimate = scores["leaderboard_estimate"]
        note = f"95 % interval {estimate['low']:.4f} to {estimate['high']:.4f}; an estimate, no score of Kaggle's"
        cards.append(Card("Leaderboard, estimated", f"{estimate['accuracy']:.4f}", note))
    if "test" in scores["models"][ENSEMBLE]:
        test = scores["models"][ENSEMBLE]["test"]
        note = f"ensemble, on {test['rows']:,} rows that nothing was chosen on"
        cards.append(Card(f"Test part, {metric}", f"{test[scores['metric']]:.4f}", note))
    return cards


def list_facts(config: Config, task: Competition, rows: pd.DataFrame, scores: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the state of the data and of the submission, and how the estimate came about."""
    origin = paths.raw(task.name) / "source.json"
    submission = read_json(paths.submission_record(task.name))
    known = f", {submission['known_labels']:,} with a label known from training" if submission["known_labels"] else ""
    train_rows, split = len(keep_training(rows)), config.task[task.name].split
    facts = [
        (
            "Data",
            f"{read_json(origin)['origin']}; sha256 of its source.json {sha256_of_file(origin)[:12]}",
        ),
        ("Rows", f"{train_rows:,} for training, {len(rows) - train_rows:,} in the test part"),
        ("Folds run", f"{len(split.run_folds)} of {split.folds}, no {task.group_name} on both sides"),
        (
            "Submission",
            f"{paths.submission(task.name)}: {submission['rows']:,} rows{known}; sha256 {submission['sha256'][:12]}",
        ),
    ]
    if scores["leaderboard_estimate"] is not None:
        estimate = scores["leaderboard_estimate"]
        facts.append(
            (
                "The estimate",
                f"{estimate['known_share']:.1%} of the test rows have a known label, the others are taken at the "
                "out-of-fold rate of texts as long and as common; without these strata it would read "
                f"{estimate['plain']:.4f}",
            )
        )
    return facts


def make_run(
    found: TaskResults,
    name: str,
    scores: dict[str, Any],
    sent: list[ledger.Entry],
    past: Mapping[str, tracking.RunInfo],
) -> RunRow:
    """Return one line of the table of runs, of a model that the workspace holds."""
    task, own = found.task.name, scores["models"][name]
    model = None if name == ENSEMBLE else read_json(paths.model(task, name) / "scores.json")
    digest = model["digest"] if model else sha256_of(paths.ensemble(task))
    earned = [entry.public_score for entry in sent if entry.ensemble_sha256 == digest]
    answers = found.answers[name]
    run_id = tracking.find_run(task, digest) or ""
    return RunRow(
        name=f"{task} {name}",
        kind=ENSEMBLE if model is None else "best" if name == scores["best_cell"] else "cell",
        accuracy=own["out_of_fold"]["accuracy"],
        macro_f1=own["out_of_fold"]["macro_f1"],
        log_loss=own["out_of_fold"]["log_loss"],
        started=_when(past[run_id]) if run_id in past else "",
        run_id=run_id,
        kaggle_score=next((score for score in reversed(earned) if score), ""),
        interval=accuracy_interval(answers["right"].to_numpy(), answers["group"].to_numpy(object), seed=found.seed),
        group_accuracy=own["out_of_fold"]["group_accuracy"],
        test_accuracy=own["test"]["accuracy"] if "test" in own else None,
        weight=None if model is None else scores["ensemble_weights"][name],
        best_epochs=", ".join(str(fold["best_epoch"]) for fold in model["folds"]) if model else "",
    )


def list_earlier(past: Mapping[str, tracking.RunInfo], present: set[str]) -> list[RunRow]:
    """Return the other runs of the task that MLflow remembers, the newest first."""
    rows = []
    for run in past.values():
        if run.id not in present and "best_accuracy" in run.metrics:
            score = run.metrics.get("kaggle_public_score")
            rows.append(
                RunRow(
                    name=run.name,
                    kind="earlier",
                    accuracy=run.metrics["best_accuracy"],
                    macro_f1=run.metrics["best_macro_f1"],
                    log_loss=run.metrics["best_log_loss"],
                    started=_when(run),
                    run_id=run.id,
                    kaggle_score="" if score is None else f"{score:.5f}",
                )
            )
    return rows


def _when(run: tracking.RunInfo) -> str:
    return f"{run.started:%Y-%m-%d %H:%M}"


def read_lessons() -> list[Lesson]:
    """Read what the hello stage wrote, at the epochs where the text changed, the first and the last."""
    said = read_json(paths.HELLO)["said"]
    lessons = []
    for (cell, lesson), group in groupby(said, key=lambda words: (words["cell"], words["lesson"])):
        words = list(group)
        changed = [
            word for before, word in zip([None, *words], words, strict=False)
            if before is None or word["text"] != before["text"] or word is words[-1]
        ]  # fmt: skip
        kept = changed if len(changed) <= 12 else [*changed[:6], *changed[-6:]]
        steps = [(word["epoch"], word["loss"], word["text"]) for word in kept]
        lessons.append(Lesson(cell, lesson.replace("_", " "), steps))
    return lessons


if __name__ == "__main__":
    run_program(main)
