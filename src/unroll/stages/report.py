"""Stage report: figures, one HTML page, and the figures beside the runs that they show."""

from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from unroll import ledger, paths, tracking
from unroll.config import Config, read_config
from unroll.errors import run_program
from unroll.files import new_file, new_folder, read_json, sha256_of, sha256_of_file
from unroll.metrics import confusion
from unroll.report.figures import draw_confusion, draw_curves
from unroll.report.page import Lesson, RunRow, TaskPart, render
from unroll.rows import TRAIN
from unroll.tasks import Task, load_task


def main() -> None:
    """Write reports/index.html and reports/figures/."""
    config = read_config(paths.PARAMS)
    tracking.open_store(Path.cwd())
    parts = [make_part(config, load_task(name)) for name in config.tasks]
    with new_folder(paths.FIGURES) as scratch:
        for part in parts:
            for figure in part.figures:
                (scratch / f"{figure.name}.svg").write_text(figure.svg, encoding="utf-8")
    for part in parts:
        for run in part.runs:
            if run.run_id is not None:
                shown = [
                    figure.name for figure in part.figures if figure.name.endswith(("curves", f"confusion-{run.name}"))
                ]
                tracking.attach_files(run.run_id, "figures", [paths.FIGURES / f"{name}.svg" for name in shown])
    tags = tracking.workspace_tags()
    commit = f"{tags['git_commit'][:12]}{', with changes' if tags['git_dirty'] == 'yes' else ''}"
    facts = [("Code", commit or "no git commit"), ("Settings", f"params.yaml {sha256_of_file(paths.PARAMS)[:12]}")]
    with new_file(paths.REPORT) as file:
        file.write_text(render(parts, read_lessons(), facts), encoding="utf-8")
    print(f"report: {paths.REPORT}")


def make_part(config: Config, task: Task) -> TaskPart:
    """Gather one task's scores, figures and origin."""
    scores = read_json(paths.metrics(task.name))
    rows = pd.read_parquet(paths.rows(task.name), columns=["row_id", "label", "part"])
    truth = rows.set_index("row_id")["label"]
    sent = [entry for entry in ledger.read_ledger(paths.LEDGER) if entry.task == task.name]
    histories, figures, runs = {}, [], []
    for name in [*config.cells, "blend"]:
        folder = paths.blend(task.name) if name == "blend" else paths.model(task.name, name)
        out_of_fold = pd.read_parquet(folder / "out_of_fold.parquet")
        counts = confusion(out_of_fold[list(task.labels)].to_numpy(), truth[out_of_fold["row_id"]].to_numpy())
        figures.append(draw_confusion(f"{task.name}-confusion-{name}", f"{name}: confusion", counts, task.label_names))
        if name != "blend":
            tables = [read_json(path)["epochs"] for path in sorted(folder.glob("fold-*/history.json"))]
            histories[name] = [pd.DataFrame(table) for table in tables]
        runs.append(make_run(task, name, scores, None if name == "blend" else read_json(folder / "scores.json"), sent))
    figures.insert(0, draw_curves(f"{task.name}-curves", "Learning curves", histories))
    source = read_json(paths.raw(task.name) / "source.json")
    submission = read_json(paths.submission_record(task.name))
    known = f", {submission['known_labels']:,} with a label known from training" if submission["known_labels"] else ""
    train_rows = int((rows["part"] == TRAIN).sum())
    facts = [
        ("Data", source["origin"]),
        (
            "Rows",
            f"{train_rows:,} for training, {len(rows) - train_rows:,} in the test part",
        ),
        (
            "Folds run",
            f"{len(config.task[task.name].split.run_folds)} of {config.task[task.name].split.folds}, grouped",
        ),
        ("Submission", f"{paths.submission(task.name)}: {submission['rows']:,} rows{known}"),
        ("sha256", submission["sha256"]),
    ]
    nested = "by nested estimate" if scores["blend_is_nested"] else "with equal weights"
    headline = (
        f"Best cell {scores['best_cell']} with {scores['metric']} {scores['best']:.4f}; "
        f"the blend reaches {scores['blend']:.4f} {nested}."
    )
    if scores["leaderboard_estimate"] is not None:
        estimate = scores["leaderboard_estimate"]
        facts.append(
            (
                "Leaderboard estimate",
                f"{estimate['accuracy']:.4f} (95 % interval {estimate['low']:.4f} to {estimate['high']:.4f}, bootstrap "
                f"over each {task.group_word}): {estimate['known_share']:.1%} of the test rows have a known label, the "
                "others are taken at the out-of-fold rate of texts as long and as common; without these strata it "
                f"would read {estimate['plain']:.4f}",
            )
        )
    scored = [entry for entry in sent if entry.public_score]
    if scored:
        best = max(scored, key=lambda entry: float(entry.public_score))
        headline += f" Best on Kaggle's public leaderboard: {best.public_score} ({best.message})."
    submissions = sorted(sent, key=lambda entry: entry.submitted, reverse=True)
    return TaskPart(task.name, task.title, headline, task.group_word, facts, runs, figures, submissions)


def make_run(
    task: Task, name: str, scores: dict[str, Any], model: dict[str, Any] | None, sent: list[ledger.Entry]
) -> RunRow:
    """Return one line of the table of runs."""
    found = scores["models"][name]
    digest = model["digest"] if model else sha256_of(paths.blend(task.name))
    run_id = tracking.find_run(task.name, digest)
    earned = [entry.public_score for entry in sent if entry.blend_sha256 == digest]
    kind = "blend" if model is None else "best" if name == scores["best_cell"] else "cell"
    return RunRow(
        name=name,
        kind=kind,
        weight=scores["blend_weights"].get(name, 1.0),
        accuracy=found["out_of_fold"]["accuracy"],
        group_accuracy=found["out_of_fold"]["group_accuracy"],
        macro_f1=found["out_of_fold"]["macro_f1"],
        log_loss=found["out_of_fold"]["log_loss"],
        test_accuracy=found["test"]["accuracy"] if "test" in found else None,
        best_epochs=", ".join(str(fold["best_epoch"]) for fold in model["folds"]) if model else "",
        run_id=run_id,
        kaggle_score=next((score for score in reversed(earned) if score), ""),
    )


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
