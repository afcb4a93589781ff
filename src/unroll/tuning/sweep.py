"""A sweep: Optuna suggests settings, Ray Tune trains them in parallel and stops trials early.

A sweep continues from Optuna's journal: Ray's `Tuner.restore` cannot raise the number of trials. Without an address
Ray runs in this program; with one, or RAY_ADDRESS, on a cluster, whose nodes need this package and get the corpus
through Ray's object store.
"""

import json
import os
import socket
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from unroll.core.errors import UnrollError, brief
from unroll.core.settings import TaskConfig
from unroll.data.competition import Competition
from unroll.evaluation.metrics import sign_of
from unroll.text.corpus import Corpus
from unroll.training.cross_validation import Training
from unroll.training.fold_data import TrainingData
from unroll.training.parallel import train_once
from unroll.training.state import EpochRecord

MAX_EPOCHS = 10_000  # more than any training has; Ray ends a trial there
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints tables at any verbosity
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@dataclass(frozen=True)
class Best:
    """The best settings of a sweep by path, as in `train.lr`, their score, and the number of finished trials."""

    values: dict[str, Any]
    score: float
    finished: int


@dataclass(frozen=True)
class Sweep:
    """What is searched, and where trials run."""

    task: Competition  # the labels and the metric
    data: TrainingData  # what to train on
    config: TaskConfig  # the task's sections; `tune` has the space
    seed: int  # of the search and of every training
    address: str | None = None  # of a Ray cluster; None runs Ray in this program
    cpus: float = 1  # CPU cores of a trial
    gpus: float = 0  # GPUs of a trial

    def key(self) -> str:
        """Return the task's name and the hash of everything that the results depend on."""
        tune = self.config.tune
        key = Training(self.task, tune.cell, tune.fold, self.config, self.seed).key(self.data)
        return f"{self.task.name}-{sha256(json.dumps([key, tune.model_dump()]).encode()).hexdigest()[:16]}"


def run_sweep(sweep: Sweep, trials: int, cache: Path, mlflow: Mapping[str, Any]) -> Best:
    """Search until this many trials are finished, those of earlier calls included.

    A call with the same settings, corpus and code continues an earlier one: finished trials count, and those that were
    running are run again.

    Args:
        sweep: what to search.
        trials: how many trials to finish.
        cache: folder of sweeps.
        mlflow: arguments of Ray's MLflowLoggerCallback, which makes a run for each trial.

    Raises:
        UnrollError: the libraries are not installed, the cluster cannot be reached, or no trial finished.
    """
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    try:
        import optuna
        import ray
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
        from optuna.trial import TrialState
    except ImportError as error:
        raise UnrollError(f"a sweep needs Ray and Optuna ({error}); pip install -r requirements-tune.txt") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # A trial that restarts after its node was lost reports its epochs again.
    warnings.filterwarnings("ignore", message="The reported value is ignored", module="optuna")

    folder = (cache / sweep.key()).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    study = optuna.create_study(study_name=folder.name, storage=storage, direction="maximize", load_if_exists=True)
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    missing = trials - len(study.get_trials(states=[TrialState.COMPLETE]))
    if missing > 0:
        _connect(sweep.address)
        try:
            _run_trials(sweep, missing, folder, storage, len(study.trials), mlflow)
        finally:
            with suppress(Exception):
                ray.shutdown()
    finished = study.get_trials(states=[TrialState.COMPLETE])
    if not finished:
        raise UnrollError("no trial finished; the errors are above")
    return Best(dict(study.best_trial.params), sign_of(sweep.task.metric) * float(study.best_value), len(finished))


def apply_values(config: TaskConfig, values: Mapping[str, Any]) -> TaskConfig:
    """Return the sections with some values changed, each named as in `train.lr`."""
    sections = config.model_dump()
    for path, value in values.items():
        section, key = path.split(".")
        sections[section][key] = value
    return TaskConfig.model_validate(sections)


def _connect(address: str | None) -> None:
    import ray

    chosen = address or os.environ.get("RAY_ADDRESS")
    host, _, port = (chosen or "").rpartition(":")
    options: dict[str, Any] = {"address": chosen} if chosen else {"address": "local", "include_dashboard": False}
    try:
        if host and port.isdigit() and "/" not in host:  # ray.init itself waits for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(log_to_driver=False, logging_level="ERROR", **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise UnrollError(f"Ray: {chosen or 'a local cluster'} cannot be reached ({brief(error)})") from None


def _run_trials(sweep: Sweep, count: int, folder: Path, storage: Any, earlier: int, mlflow: Mapping[str, Any]) -> None:
    from optuna.samplers import TPESampler
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    config, corpus = sweep.config.tune, sweep.data.corpus
    search = OptunaSearch(
        make_space(sweep.config),
        metric="score",
        mode="max",
        # The first suggestions are random; a call that continues must not draw those of the call before.
        sampler=TPESampler(seed=sweep.seed + earlier, constant_liar=True),
        study_name=folder.name,
        storage=storage,
    )
    scheduler = ASHAScheduler(
        "training_iteration", "score", "max", MAX_EPOCHS, config.grace_period, config.reduction_factor
    )
    in_memory = Corpus(**{name: np.array(values) for name, values in vars(corpus).items()})
    trainable = tune.with_parameters(_train, sweep=replace(sweep, data=replace(sweep.data, corpus=in_memory)))
    with TemporaryDirectory(dir=folder) as scratch:
        tune.Tuner(
            tune.with_resources(trainable, {"cpu": sweep.cpus, "gpu": sweep.gpus}),
            tune_config=tune.TuneConfig(
                search_alg=search,
                scheduler=scheduler,
                num_samples=count,
                trial_name_creator=lambda trial: f"{sweep.task.name} trial {trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                storage_path=scratch,
                verbose=0,
                callbacks=[_make_callback(mlflow)],
                failure_config=tune.FailureConfig(max_failures=3),  # a trial whose node was lost is run again
            ),
        ).fit()


def make_space(config: TaskConfig) -> dict[str, Any]:
    """Return the section `tune.space` as distributions of Optuna, by path."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    space: dict[str, Any] = {}
    for path, values in config.tune.space.items():
        if values.choices is not None:
            space[path] = CategoricalDistribution(values.choices)
        elif isinstance(values.low, int) and isinstance(values.high, int):
            space[path] = IntDistribution(values.low, values.high, log=values.log)
        else:
            space[path] = FloatDistribution(float(values.low), float(values.high), log=values.log)
    return space


def _train(values: Mapping[str, Any], *, sweep: Sweep) -> None:
    """Train one cell on one fold, in a process of Ray."""
    from ray import tune

    best = float("-inf")

    def report(record: EpochRecord, spans_per_second: float | None) -> None:
        nonlocal best
        best = max(best, sign_of(sweep.task.metric) * record.scores[sweep.task.metric])
        tune.report({**record.flat(), "score": best})

    config = apply_values(sweep.config, values)
    cell, fold = config.tune.cell, config.tune.fold
    with TemporaryDirectory() as cache:
        train_once(Training(sweep.task, cell, fold, config, sweep.seed), sweep.data, Path(cache), report)


def _make_callback(mlflow: Mapping[str, Any]) -> Any:
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    class TrialRuns(MLflowLoggerCallback):  # type: ignore[misc]
        """Ray's MLflow callback, without Ray's own timings, and with a line a trial on standard output."""

        def log_trial_start(self, trial: Any) -> None:
            restarts = trial in self._trial_runs
            print(f"trial {trial.trial_id} {'restarts: its process or node was lost' if restarts else 'starts'}")
            super().log_trial_start(trial)

        def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
            wanted = ("epoch", "loss", "lr", "score", "training_iteration")
            kept = {name: each for name, each in result.items() if name in wanted or name.startswith("valid_")}
            super().log_trial_result(iteration, trial, kept)

        def log_trial_end(self, trial: Any, failed: bool = False) -> None:
            score = trial.last_result.get("score")
            print(f"trial {trial.trial_id} {'failed' if failed or score is None else f'ended: {score:.4f}'}")
            super().log_trial_end(trial, failed=failed)

    return TrialRuns(**mlflow)
