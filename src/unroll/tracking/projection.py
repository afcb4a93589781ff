"""Runs made from a task's outputs: whatever the store lacks is logged, once, found by the digest of the outputs."""

import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.entities.model_registry import ModelVersion

import unroll
from unroll.core.errors import UnrollError
from unroll.core.files import copy_folder, read_json, sha256_of
from unroll.data.competition import Competition
from unroll.evaluation.comparison import choose_best, decide_promotion, join_predictions, score_table
from unroll.models.bundle import find_bundles
from unroll.models.decisions import Decision
from unroll.tracking import runs
from unroll.tracking.runs import CHAMPION, FINISHED, OUTPUTS, PARENT, PREDICTIONS, PRETRAINED
from unroll.tracking.store import store_errors, store_lock

ENSEMBLE = "ensemble"
# what a served model imports, MLflow aside
REQUIREMENTS = ("torch", "torchtext", "nltk", "numba", "numpy", "pandas", "psutil", "pyarrow", "pydantic",
                "pydantic_core", "ruamel.yaml", "safetensors", "scikit-learn", "scipy")  # fmt: skip


@dataclass(frozen=True)
class TaskOutputs:
    """What the pipeline wrote for a task: its table of rows, and the folders of each cell and of the ensemble."""

    task: Competition
    rows: Path
    models: Mapping[str, Path]
    ensemble: Path
    is_sample: bool  # whether the data are the project's own sample
    tags: Mapping[str, str]  # where runs are logged from, as `workspace_tags` returns it
    # of the report on these models; `*-curves.svg` are of every run, `*-confusion-<model>.svg` of one
    figures: Sequence[Path] = ()
    pretrained: Mapping[str, Path] = field(default_factory=dict)  # folders of the cells' models of a corpus


def project_task(outputs: TaskOutputs) -> list[str]:
    """Log what the open store lacks of a task: runs of cells, folds and the ensemble, figures, and the best model.

    Returns:
        What was logged, in sentences; empty if nothing was missing.

    Raises:
        UnrollError: an output is missing or damaged, or the store fails.
    """
    with store_errors(), store_lock(".projection"):
        return _Projection(outputs).run()


class _Projection:
    def __init__(self, outputs: TaskOutputs) -> None:
        self.outputs, self.task, self.name = outputs, outputs.task, outputs.task.name
        self.client = MlflowClient()
        self.folders = {**outputs.models, ENSEMBLE: outputs.ensemble}
        self.records = {cell: read_json(folder / "run.json") for cell, folder in outputs.models.items()}
        self.digests = {cell: str(record["digest"]) for cell, record in self.records.items()}
        self.digests[ENSEMBLE] = sha256_of(outputs.ensemble)
        self.ensemble: dict[str, Any] = read_json(outputs.ensemble / "weights.json")
        self.runs, self.models, self.logged = dict[str, str](), dict[str, str](), list[str]()

    @cached_property
    def rows(self) -> pd.DataFrame:
        return pd.read_parquet(self.outputs.rows)

    def run(self) -> list[str]:
        for cell, folder in self.outputs.pretrained.items():
            self._log_pretrained(cell, folder)
        for cell, record in self.records.items():
            self._log_cell(cell, record)
        self._log_ensemble()
        for model, run_id in self.runs.items():
            there = {Path(file.path).name for file in self.client.list_artifacts(run_id, "figures")}
            shown = [file for file in self.outputs.figures if file.stem.endswith(("curves", f"confusion-{model}"))]
            runs.attach_figures(run_id, [file for file in shown if file.name not in there])
        done = [f"{self.name}: logged to MLflow: {', '.join(self.logged)}"] if self.logged else []
        return done + self._register_best()

    def _log_cell(self, cell: str, record: Mapping[str, Any]) -> None:
        corpus = record["corpus_sha256"]
        run_id, is_new = self._begin(cell, {"corpus_sha256": corpus})
        histories = []
        for fold in record["folds"]:
            epochs = read_json(self.folders[cell] / f"fold-{fold['fold']}" / "history.json")["epochs"]
            self._log_fold(cell, fold, epochs, run_id)
            histories += epochs
        if is_new:
            means = pd.DataFrame(histories).drop(columns="lr").groupby("epoch", as_index=False).mean()
            known = runs.logged_epochs(run_id)  # by a projection that was interrupted
            runs.log_epochs(run_id, known, json.loads(means.to_json(orient="records", double_precision=15)))
            dataset = Dataset(self.name, corpus[:36], "local", json.dumps({"uri": str(self.outputs.rows)}))
            self.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
            self._finish(cell, record["params"], record["scores"])

    def _log_pretrained(self, cell: str, folder: Path) -> None:
        """Log the training of a cell on a corpus, if no finished run has its weights."""
        record, scores = read_json(folder / "run.json"), read_json(folder / "fold.json")
        if not self._find_folds(scores["digest"], PRETRAINED):
            epochs = read_json(folder / "history.json")["epochs"]
            self._log_epochs(cell, None, record, epochs, runs.score_metrics(scores, "log_loss"), scores["digest"], {})
            self.logged.append(f"{cell} {PRETRAINED}")

    def _find_folds(self, digest: str, fold: str) -> list[mlflow.entities.Run]:
        return runs.search_runs(f"tags.{OUTPUTS} = '{digest}' AND tags.fold = '{fold}' AND {FINISHED}", self.name)

    def _log_epochs(
        self, cell: str, fold: int | None, record: Mapping[str, Any], epochs: list[dict[str, float]],
        metrics: Mapping[str, float], digest: str, more: Mapping[str, str],
    ) -> None:  # fmt: skip
        """Log a finished training as a run of its own, with more tags."""
        name, tags, params = runs.describe_fold(self.name, cell, fold, record["corpus_sha256"], record["params"])
        run_id = runs.create_run(self.name, name, {**self.outputs.tags, **tags, **more})
        runs.log_epochs(run_id, set(), epochs)
        runs.log_to_run(run_id, params=params, metrics=metrics, tags={OUTPUTS: digest})
        self.client.set_terminated(run_id)

    def _log_fold(self, cell: str, fold: Mapping[str, Any], epochs: list[dict[str, float]], parent: str) -> None:
        """Put the fold's live run below its cell's run, or log the fold anew if there is no whole run of it."""
        number, digest = fold["fold"], fold["digest"]
        for run in self._find_folds(digest, number):
            if run.data.tags.get(PARENT, parent) == parent:
                self.client.set_tag(run.info.run_id, PARENT, parent)
                return
        metrics = runs.score_metrics(fold, self.task.metric)
        self._log_epochs(cell, number, self.records[cell], epochs, metrics, digest, {PARENT: parent})
        self.logged.append(f"{cell} fold {number}")

    def _log_ensemble(self) -> None:
        members = {f"member_{cell}": run_id for cell, run_id in self.runs.items()}
        if self._begin(ENSEMBLE, members)[1]:
            params = {"weight": self.ensemble["weights"], "nested": self.ensemble["nested"]}
            self._finish(ENSEMBLE, params, score_table(self._predictions(ENSEMBLE), self.task))

    def _predictions(self, model: str) -> pd.DataFrame:
        return join_predictions(pd.read_parquet(self.folders[model] / "out_of_fold.parquet"), self.rows)

    def _begin(self, model: str, tags: Mapping[str, str]) -> tuple[str, bool]:
        """Return the id of the run of a model, and whether it is incomplete: new, interrupted, or without files."""
        digest = self.digests[model]
        found = runs.search_runs(f"tags.{OUTPUTS} = '{digest}' AND tags.fold IS NULL", self.name, most=1)
        tags = {**self.outputs.tags, "task": self.name, "cell": model, OUTPUTS: digest, **tags}
        run_id = found[0].info.run_id if found else runs.create_run(self.name, runs.name_run(self.name, model), tags)
        self.runs[model] = run_id
        is_whole = bool(found) and found[0].info.status == "FINISHED"
        return run_id, not (is_whole and self.client.list_artifacts(run_id, str(PREDICTIONS.parent)))

    def _finish(self, model: str, params: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """Log parameters, scores, predictions and the model itself, and end the run."""
        run_id = self.runs[model]
        runs.log_to_run(run_id, params={"cell": model, **params}, metrics=runs.score_metrics(scores, self.task.metric))
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, PREDICTIONS.name)
            self._predictions(model).to_parquet(file, index=False, compression="zstd")
            self.client.log_artifact(run_id, str(file), str(PREDICTIONS.parent))
            artifacts = self._copy_bundles(model, Path(scratch))
            with warnings.catch_warnings(action="ignore"), mlflow.start_run(run_id=run_id):
                logged = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(Path(__file__).with_name("pyfunc.py")),
                    artifacts=artifacts,
                    code_paths=[str(Path(unroll.__file__).parent)],
                    input_example=self.rows["text"].iloc[:2].tolist(),
                    pip_requirements=[f"{name}=={package_version(name).split('+')[0]}" for name in REQUIREMENTS],
                )
        self.models[model] = str(logged.model_id)
        self.logged.append(model)

    def _copy_bundles(self, model: str, scratch: Path) -> dict[str, str]:
        """Copy what `pyfunc.py` loads, as MLflow refuses links, which DVC may have made; return the paths by name."""
        weights = self.ensemble["weights"] if model == ENSEMBLE else {model: 1.0}
        calibration = self.ensemble["calibration"] if model == ENSEMBLE else None
        decision = self.ensemble["decision"] if model == ENSEMBLE else asdict(Decision.default(self.task))
        bundles = {cell: find_bundles(self.folders[cell]) for cell in weights}
        names = {cell: [f"{cell}_{bundle.name}" for bundle in found] for cell, found in bundles.items()}
        predictor = {
            "task": self.task.model_dump(exclude_unset=True), "weights": weights, "calibration": calibration,
            "decision": decision, "bundles": names,
        }  # fmt: skip
        (scratch / "predictor.json").write_text(json.dumps(predictor), encoding="utf-8")
        artifacts = {"predictor": str(scratch / "predictor.json")}
        for cell, found in bundles.items():
            for name, bundle in zip(names[cell], found, strict=True):
                artifacts[name] = str(copy_folder(bundle, scratch / name))
        return artifacts

    def _register_best(self) -> list[str]:
        """Register the best of the cells and the ensemble, once, and move the alias to it if it beats the champion."""
        found = {model: self.client.get_run(run_id) for model, run_id in self.runs.items()}
        best = choose_best({model: run.data.metrics["score"] for model, run in found.items()}, self.task.metric)
        versions = [each for each in runs.list_versions(self.name) if each.tags.get(OUTPUTS) == self.digests[best]]
        version = versions[0] if versions and best not in self.logged else None
        champion = runs.find_champion(self.name)
        if version is not None and champion is not None:
            return []
        version = version or self._register(best, found[best])
        named, why = f"version {version.version} ({best})", "there was none before"
        if champion is not None and champion.tags.get(OUTPUTS) == self.digests[best]:
            why = f"the files of version {champion.version}, the same model, were missing"
        elif champion is not None:
            old_is_sample = champion.tags.get("sample") == "yes" and not self.outputs.is_sample
            old = runs.read_predictions(str(champion.run_id))
            is_better, why = decide_promotion(self._predictions(best), old, self.task, old_is_sample=old_is_sample)
            if not is_better:
                kept = f"version {champion.version} ({champion.tags.get('cell')})"
                return [f"{self.name}: the champion is still {kept}, not {named}: {why}"]
        self.client.set_registered_model_alias(self.name, CHAMPION, version.version)
        return [f"{self.name}: the champion is now {named}: {why}"]

    def _register(self, model: str, run: mlflow.entities.Run) -> ModelVersion:
        logged = run.outputs.model_outputs if run.outputs else []
        if not logged:
            raise UnrollError(f"MLflow: run {run.info.run_id} of {self.name} {model} has no model; delete the run")
        model_id = self.models.get(model, logged[-1].model_id)
        if not self.client.search_registered_models(filter_string=f"name = '{self.name}'"):
            self.client.create_registered_model(self.name)
        score, sample = f"{run.data.metrics['score']:.6f}", "yes" if self.outputs.is_sample else "no"
        tags = {"task": self.name, "cell": model, "metric": self.task.metric, "score": score, "sample": sample,
                OUTPUTS: self.digests[model]}  # fmt: skip
        uri, run_id = f"models:/{model_id}", run.info.run_id
        return self.client.create_model_version(self.name, uri, run_id=run_id, tags=tags, model_id=model_id)
