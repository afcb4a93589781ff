"""Sweeps: Optuna chooses settings, Ray Tune trains them side by side and stops those that fall behind.

The only importer of ray and optuna, which are optional and imported when a sweep begins. Without an address Ray runs
inside this program; with one, or RAY_ADDRESS, the same trials run on a cluster. The corpus travels through Ray's object
store, so a node needs the package alone, not the project's files.
"""

import json
import os
import socket
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np

from unroll.core.errors import UnrollError
from unroll.core.settings import Choices, TaskConfig
from unroll.data.competition import Competition
from unroll.text.corpus import Corpus
from unroll.training.cross_validation import TrainingData, fold_key, train_fold
from unroll.training.history import EpochRecord

INSTALL = "pip install -r requirements-tune.txt"
MOST_EPOCHS = 10_000  # more than any training has; Ray ends a trial there
Values = Mapping[str, Any]


class Watcher(Protocol):
    """Hears what trials do, in the program that started the sweep."""

    def started(self, trial: str, values: Values) -> None:
        """A trial begins with these settings, or begins anew after its node was lost."""

    def reported(self, trial: str, epoch: Mapping[str, float]) -> None:
        """A trial finished an epoch."""

    def ended(self, trial: str, score: float | None) -> None:
        """A trial ended, with its best score, or with None because of an error."""


@dataclass(frozen=True)
class Best:
    """The best settings of a sweep by their paths, as in `train.lr`, and their score."""

    values: dict[str, Any]
    score: float
    finished: int


@dataclass(frozen=True)
class Resources:
    """Where trials run: a cluster's address (None: inside this program), and what of a machine each takes."""

    address: str | None
    cpus: float
    gpus: float


def run_sweep(
    task: Competition,
    data: TrainingData,
    config: TaskConfig,
    *,
    seed: int,
    trials: int,
    cache: Path,
    resources: Resources,
    watcher: Watcher,
) -> Best:
    """Search the space of a task's section `tune`, until so many trials are finished over all calls.

    A call with the same settings, corpus and code goes on where an earlier one stopped: finished trials are kept, and
    those that were running are run again.

    Args:
        task: names the labels and the metric.
        data: what to train on.
        config: the task's sections.
        seed: of the search and of every training.
        trials: how many there are to be, those of earlier calls counted.
        cache: folder of sweeps, each under the hash of all that it comes from.
        resources: where trials run.
        watcher: hears what they do.

    Raises:
        UnrollError: the libraries are not installed, the cluster is out of reach, or no trial finished.
    """
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the other one prints tables at any level
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import optuna
        import ray
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise UnrollError(f"a sweep needs Ray and Optuna ({error}); {INSTALL}") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # A trial that is trained anew reports the epochs that its lost node had reported.
    warnings.filterwarnings("ignore", message="The reported value is ignored", module="optuna")

    folder = (cache / sweep_key(task, data, config, seed)).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    study = optuna.create_study(study_name=task.name, storage=storage, direction="maximize", load_if_exists=True)
    _take_up(study)
    missing = trials - len(_finished(study))
    if missing > 0:
        _connect(ray, resources.address)
        try:
            _run_trials(task, data, config, seed, missing, folder, storage, resources, watcher)
        finally:
            with suppress(Exception):
                ray.shutdown()
    finished = _finished(study)
    if not finished:
        raise UnrollError("no trial finished; standard error says why")
    best = max(finished, key=lambda trial: trial.value)
    return Best(dict(best.params), float(best.value), len(finished))


def sweep_key(task: Competition, data: TrainingData, config: TaskConfig, seed: int) -> str:
    """Return the hash of all that a sweep's results come from."""
    key = fold_key(task, config.tune.cell, config.tune.fold, data, config, seed)
    content = json.dumps([key, config.tune.model_dump()])
    return f"{task.name}-{sha256(content.encode()).hexdigest()[:16]}"


def apply_values(config: TaskConfig, values: Values) -> TaskConfig:
    """Return the sections with some values changed, each named as `train.lr`.

    Raises:
        pydantic.ValidationError: a value is not allowed.
    """
    sections = config.model_dump()
    for path, value in values.items():
        section, key = path.split(".")
        sections[section][key] = value
    return TaskConfig.model_validate(sections)


def _finished(study: Any) -> list[Any]:
    import optuna

    return list(study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE]))


def _take_up(study: Any) -> None:
    """Queue again what was running when an earlier call was stopped."""
    import optuna

    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)


def _connect(ray: Any, address: str | None) -> None:
    chosen = address or os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if chosen is None:
        options |= {"address": "local", "include_dashboard": False}
    else:
        options["address"] = chosen
    try:
        host, _, port = (chosen or "").rpartition(":")
        if host and port.isdigit() and "/" not in host:  # Ray itself asks for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(**options)
    except (OSError, ValueError, RuntimeError) as error:
        raise UnrollError(
            f"Ray: {chosen or 'a local cluster'} cannot be reached ({' '.join(str(error).split())[:200]})"
        ) from None


def _run_trials(
    task: Competition,
    data: TrainingData,
    config: TaskConfig,
    seed: int,
    missing: int,
    folder: Path,
    storage: Any,
    resources: Resources,
    watcher: Watcher,
) -> None:
    from optuna.samplers import TPESampler
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    space = make_space(config)
    begun = len(storage.get_all_trials(storage.get_study_id_from_name(task.name), deepcopy=False))
    search = OptunaSearch(
        space,
        metric="score",
        mode="max",
        # The sampler draws at random first; a call that goes on has to draw other values than the one before.
        sampler=TPESampler(seed=seed + begun, constant_liar=True),
        study_name=task.name,
        storage=storage,
    )
    scheduler = ASHAScheduler(
        metric="score", mode="max", max_t=MOST_EPOCHS, grace_period=config.tune.grace, reduction_factor=config.tune.keep
    )
    in_memory = Corpus(**{name: np.array(values) for name, values in vars(data.corpus).items()})
    trainable = tune.with_parameters(_train, task=task, config=config, seed=seed, data=replace(data, corpus=in_memory))
    with TemporaryDirectory(dir=folder) as scratch:
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": resources.gpus}),
            tune_config=tune.TuneConfig(search_alg=search, scheduler=scheduler, num_samples=missing),
            run_config=tune.RunConfig(
                storage_path=scratch,
                verbose=0,
                callbacks=[_make_callback(tune, watcher)],
                failure_config=tune.FailureConfig(max_failures=3),  # a lost node is no fault of the trial
            ),
        )
        tuner.fit()


def make_space(config: TaskConfig) -> dict[str, Any]:
    """Return the space as Optuna names it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    space: dict[str, Any] = {}
    for path, where in config.tune.space.items():
        if isinstance(where, Choices):
            space[path] = CategoricalDistribution(where.choices)
        elif isinstance(where.low, int) and isinstance(where.high, int):
            space[path] = IntDistribution(where.low, where.high, log=where.log)
        else:
            space[path] = FloatDistribution(float(where.low), float(where.high), log=where.log)
    return space


def _train(values: Values, *, task: Competition, config: TaskConfig, seed: int, data: TrainingData) -> None:
    """Train one cell on one fold, in a process of Ray's."""
    from ray import tune

    best = 0.0

    def report(record: EpochRecord, spans_per_second: float | None) -> None:
        nonlocal best
        content = asdict(record)
        best = max(best, content[f"valid_{task.metric}"])
        tune.report({**content, "score": best})

    with TemporaryDirectory() as cache:
        chosen = apply_values(config, values)
        train_fold(
            task, chosen.tune.cell, chosen.tune.fold, data, chosen, seed=seed, cache=Path(cache), on_epoch=report
        )


def _make_callback(tune: Any, watcher: Watcher) -> Any:
    class Callback(tune.Callback):  # type: ignore[misc]
        """Passes on what trials do."""

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            watcher.started(trial.trial_id, trial.config)

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            names = {*EpochRecord.__dataclass_fields__, "score"}
            watcher.reported(trial.trial_id, {name: result[name] for name in names if name in result})

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            watcher.ended(trial.trial_id, trial.last_result.get("score"))

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            watcher.ended(trial.trial_id, None)

    return Callback()
