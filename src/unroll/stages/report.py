"""Stage report: figures, an HTML page and a summary in Markdown; the figures are attached to their runs too.

What it writes depends on the files that DVC knows alone, so that it is the same in every clone.
"""

from pathlib import Path

import pandas as pd

from unroll.core import paths
from unroll.core.errors import UnrollError, run_program, warn
from unroll.core.files import new_file, read_json, sha256_of_file
from unroll.core.params import read_config
from unroll.core.settings import Config
from unroll.data.competition import CLASSES
from unroll.data.rows import TRAIN, load_task, truth_of
from unroll.evaluation.comparison import join_predictions
from unroll.evaluation.error_analysis import add_outcomes
from unroll.kaggle import ledger
from unroll.report.chapters import make_chapter, make_lessons
from unroll.report.page import render
from unroll.report.results import ENSEMBLE, TaskResults
from unroll.report.style import is_of_report
from unroll.tracking.runs import attach_figures, find_run
from unroll.tracking.store import open_store


def main() -> None:
    """Write reports/index.html, reports/summary.md and reports/figures/."""
    config = read_config(paths.PARAMS)
    tasks = [read_results(config, name) for name in config.tasks]
    chapters = [make_chapter(results) for results in tasks]
    lessons = make_lessons(read_json(paths.HELLO)["said"])
    facts = [("Settings", f"profile {config.profile}, seed {config.seed}")]
    contents = {paths.FIGURES / f"{figure.name}.svg": figure.svg for chapter in chapters for figure in chapter.figures}
    for figure in set(paths.FIGURES.glob("*.svg")) - contents.keys():
        if is_of_report(figure):  # an earlier one; a person's own figures stay
            figure.unlink()
    contents[paths.REPORT] = render("page.html", [*chapters, lessons], facts)
    contents[paths.SUMMARY] = render("summary.md", [*chapters, lessons], facts)
    for path, content in contents.items():
        with new_file(path) as scratch:
            scratch.write_text(content, encoding="utf-8")
    try:
        open_store(Path.cwd())
        for results in tasks:
            for model, digest in results.digests.items():
                names = [f"{results.task.name}-{shown}.svg" for shown in ("curves", f"confusion-{model}")]
                files = [paths.FIGURES / name for name in names]  # classes alone have confusions
                if run := find_run(results.task.name, digest):
                    attach_figures(run.info.run_id, [file for file in files if file.is_file()])
    except UnrollError as error:
        warn(f"{error}; figures are not attached to their runs, `unroll track` attaches them later")
    print(f"report: {paths.REPORT}")


def read_results(config: Config, name: str) -> TaskResults:
    """Read everything that the report shows of one task."""
    task, split = load_task(paths.competition(name), paths.rows(name)), config.task[name].split
    rows = pd.read_parquet(paths.rows(name))
    source, record = paths.raw(name) / "source.json", read_json(paths.submission_record(name))
    folders: dict[str, Path] = {cell: paths.model(name, cell) for cell in config.cells}
    outputs = {**folders, ENSEMBLE: paths.ensemble(name)}
    tables = {model: pd.read_parquet(folder / "out_of_fold.parquet") for model, folder in outputs.items()}
    training = rows[rows["part"] == TRAIN]
    predictions = {model: join_predictions(table, rows) for model, table in tables.items()}
    if task.kind in CLASSES:
        predictions = {model: add_outcomes(table, task) for model, table in predictions.items()}
        training = training.assign(label=truth_of(training, task)[:, 0].astype(int))
    return TaskResults(
        task=task,
        config=config.task[name],
        seed=config.seed,
        training=training,
        details=read_json(paths.details(name)),
        predictions=predictions,
        models={cell: read_json(folder / "run.json") for cell, folder in folders.items()},
        bundles={cell: {fold: folder / f"fold-{fold}" for fold in split.run_folds} for cell, folder in folders.items()},
        submissions=[entry for entry in ledger.read_ledger(paths.LEDGER) if entry.task == name],
        facts=[
            ("Data", f"{read_json(source)['origin']}; sha256 of its source.json {sha256_of_file(source)[:12]}"),
            ("Rows", f"{len(training):,} for training, {len(rows) - len(training):,} in the test part"),
            ("Folds", f"{len(split.run_folds)} of {split.folds}, each {task.group_name} in one fold only"),
            ("Submission", f"{paths.submission(name)}: {record['rows']:,} rows, {record['known_labels']:,} with labels "
                           f"known from training; sha256 {record['sha256'][:12]}"),
        ],
    )  # fmt: skip


if __name__ == "__main__":
    run_program(main)
