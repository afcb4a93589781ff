"""What changes in a training: weights, average, optimizer, schedule and history; and its checkpoints."""

import copy
import io
import math
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from unroll.core.errors import warn
from unroll.core.files import new_file
from unroll.core.settings import TrainConfig
from unroll.evaluation.metrics import sign_of
from unroll.models.span_classifier import SpanClassifier
from unroll.text.batches import Batch
from unroll.training.distributed import join_processes, trains_on_cpu
from unroll.training.just_in_time import JustInTimeAdam, pays
from unroll.training.losses import BatchTotals, Objective
from unroll.training.optimization import (
    choose_precision,
    denormals_as_zero,
    drop_words,
    make_optimizer,
    make_schedule,
    word_drop_rates,
)


@dataclass(frozen=True)
class EpochRecord:
    """The results of an epoch: the loss per span, and the scores of the rows held out by metric.

    It holds no time, so that it is the same in every run.
    """

    epoch: int
    loss: float
    lr: float
    scores: dict[str, float]

    def flat(self) -> dict[str, float]:
        """Return all values in one level, the scores as `valid_<metric>`."""
        scores = {f"valid_{name}": value for name, value in self.scores.items()}
        return {"epoch": self.epoch, "loss": self.loss, "lr": self.lr, **scores}


OnEpoch = Callable[[EpochRecord, float | None], None]


@dataclass
class History:
    """The records of all epochs, and the epoch whose weights were kept, the one with the best score of a metric.

    Without scores it is the last one. `planned` is the number of epochs that the schedule of the learning rate is for.
    """

    metric: str
    epochs: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0
    planned: int = 0

    def is_better(self, record: EpochRecord) -> bool:
        """Return whether an epoch is better than the best so far; a score that is not a number is the worst."""
        if not record.scores:
            return True
        both = (record, self.epochs[self.best_epoch - 1])
        new, old = (sign_of(self.metric) * each.scores[self.metric] for each in both)
        return new > old or (math.isnan(old) and not math.isnan(new))


class TrainState:
    """The parts of a training on its device; they are saved after an epoch and restored.

    Attributes:
        objective: the model and its loss, wrapped by accelerate.
        eval_model: the model, or its moving average if the recipe has one.
        language_model: of the objective, if the recipe has one.
        embedding_steps: takes the steps of the embedding just in time, where that pays.
        history: the epochs so far.
        best_weights: those of `eval_model` in the best epoch so far.
        weights: all that the optimizer changes.
    """

    def __init__(
        self, model: SpanClassifier, config: TrainConfig, counts: Tensor, steps: int, seed: int, metric: str, *,
        is_pretrained: bool = False, reports_all: bool = False,
    ) -> None:  # fmt: skip
        """Build the parts for a number of steps, given each token's number of occurrences, (V,).

        Args:
            model: to train.
            config: the recipe.
            counts: of tokens.
            steps: in all, for the schedule of the learning rate.
            seed: of the weights of the objective itself.
            metric: by which the best epoch is chosen.
            is_pretrained: whether embedding and recurrent layers learn at the rate `encoder_lr` times `lr`.
            reports_all: see Objective.
        """
        self.config, self.model = config, model
        self.history, self.best_weights = History(metric), dict[str, Tensor]()
        self.accelerator = Accelerator(cpu=trains_on_cpu(), mixed_precision=choose_precision(config.precision))
        self.averaged = AveragedModel(model) if config.ema else None
        torch.manual_seed(derive_seed(seed, 0, 0))  # for the weights of the objective itself
        self.drop_rates = word_drop_rates(counts, config).to(self.accelerator.device)  # (V,)
        objective = Objective(model, config, counts, reports_all=reports_all)
        self.language_model: Any = objective.language_model
        optimizer = make_optimizer(objective, config, config.encoder_lr if is_pretrained else 1.0)
        self.schedule = make_schedule(optimizer, config, steps)
        self.objective = self.accelerator.prepare(objective)
        self.weights = list(self.objective.parameters())
        self.optimizer = optimizer  # accelerate's own scales the loss for fp16 and looks for a package in each step
        self._parts: dict[str, Any] = {"model": objective, "optimizer": optimizer, "schedule": self.schedule}
        self.eval_model: Any = model
        if self.averaged is not None:
            self._parts["averaged"] = self.averaged.to(self.accelerator.device)
            self.averaged.n_averaged = self.averaged.n_averaged.cpu()  # which is read in each step
            self.eval_model = self.averaged.module
        averages = dict(self.eval_model.named_parameters()) if self.averaged is not None else {}
        self.embedding_steps: JustInTimeAdam | None = None
        if model.embedding is not None and pays(model.embedding, config) and self.accelerator.num_processes == 1:
            self.embedding_steps = JustInTimeAdam(optimizer, model.embedding, averages.pop("embedding.weight", None))
        weights = dict(model.named_parameters())
        self._averages: list[Tensor] = list(averages.values())
        self._averaged: list[Tensor] = [weights[name] for name in averages]

    @denormals_as_zero()
    def update(self, batch: Batch, totals: BatchTotals) -> Tensor:
        """Update the weights by one batch; return the loss to report, in nats, on the device, without waiting for it.

        A CUDA device is never waited for, so that the update can be captured as a graph.
        """
        batch = replace(batch, tokens=drop_words(batch.tokens, self.drop_rates))
        self.optimizer.zero_grad()
        just_in_time = self.embedding_steps
        with just_in_time.reading() if just_in_time else nullcontext():
            loss, label_loss = self.objective(batch, totals)
        self.accelerator.backward(loss * self.accelerator.num_processes)  # which averages over the processes
        weights = [*self.weights, just_in_time.collect()] if just_in_time else self.weights
        if self.config.clip_norm is not None:
            self.accelerator.clip_grad_norm_(weights, self.config.clip_norm)
        if just_in_time:
            just_in_time.step(self.share_of_new())
        self.optimizer.step()
        reported: Tensor = self.accelerator.reduce(label_loss)
        return reported

    def advance(self) -> None:
        """Move the learning rate and the average of the weights on, after an update."""
        self.schedule.step()
        if self.averaged is not None:  # whose own method would read the count from the device, and wait for it
            with torch.no_grad():
                torch._foreach_lerp_(self._averages, self._averaged, self.share_of_new())
            self.averaged.n_averaged += 1

    def share_of_new(self) -> float:
        """Return the share of the newest weights in the average, 0 where there is none."""
        if self.averaged is None:
            return 0.0
        updates = int(self.averaged.n_averaged)
        # the decay is smaller in its first steps (TensorFlow's `num_updates`)
        return 1 - min(self.config.ema, (1 + updates) / (10 + updates)) if updates else 1.0

    def complete(self) -> None:
        """Bring the weights and their average up to date, before they are used for anything but a step."""
        if self.embedding_steps is not None:
            self.embedding_steps.flush()

    def learning_rate(self) -> float:
        """Return the present rate, to as many digits as captured steps hold."""
        return float(f"{float(self.schedule.get_last_lr()[0]):.7g}")

    def add(self, record: EpochRecord) -> None:
        """Append an epoch, and copy the weights if it is the best so far."""
        self.history.epochs.append(record)
        if not self.best_weights or self.history.is_better(record):
            self.history.best_epoch = record.epoch
            self.best_weights = copy.deepcopy(self.eval_model.state_dict())

    def is_patience_over(self) -> bool:
        """Return whether the last `patience` epochs were all worse than the best."""
        patience = self.config.patience
        return patience is not None and len(self.history.epochs) - self.history.best_epoch >= patience

    def save(self, folder: Path) -> None:
        """Write the state as tensors, numbers and names, and delete all but the last two checkpoints."""
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        content, buffer = {**parts, "history": asdict(self.history), "best_weights": self.best_weights}, io.BytesIO()
        torch.save(content, buffer)  # in memory first: on a full disk torch.save raises no OSError
        with new_file(folder / f"epoch-{len(self.history.epochs):06d}.pt") as scratch:
            scratch.write_bytes(buffer.getbuffer())
        for path in _newest_first(folder)[2:]:
            path.unlink()

    def resume(self, folder: Path | None, on_epoch: OnEpoch) -> int:
        """Continue from the main process' last checkpoint, if there is one, and return the number of its epochs."""
        content = join_processes().from_main(load_checkpoint(folder) if folder else None)
        if content is not None:
            for name, part in self._parts.items():
                part.load_state_dict(content[name])
            self.history.epochs = [EpochRecord(**record) for record in content["history"]["epochs"]]
            self.history.best_epoch, self.best_weights = content["history"]["best_epoch"], content["best_weights"]
        for record in self.history.epochs:
            on_epoch(record, None)
        return len(self.history.epochs)


def derive_seed(*numbers: int) -> int:
    """Return a seed that depends on all the numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the last state that is not damaged, or None; a damaged file is deleted with a warning."""
    for path in _newest_first(folder):
        if _is_whole(path):
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            return state
        warn(f"{path}: damaged; training continues from the checkpoint before it, or starts again without one")
        path.unlink()
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*.pt"), reverse=True)


def _is_whole(path: Path) -> bool:
    """Return whether the file's checksums are right, which torch.load does not compare."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, RuntimeError):
        return False
