"""Everything that changes in a training: weights, averages, optimizer, schedule and history."""

import copy
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from unroll.core.settings import TrainConfig
from unroll.models.span_classifier import SpanClassifier
from unroll.text.batches import Batch
from unroll.training.history import EpochRecord, History
from unroll.training.losses import BatchTotals, Objective
from unroll.training.optimization import choose_precision, make_average, make_optimizer, make_schedule
from unroll.training.word_dropout import word_drop_rates


class TrainState:
    """The parts of a training, prepared for its device and processes; saved after each epoch and restored from there.

    Attributes:
        objective: the model and its loss, wrapped by accelerate.
        eval_model: predicts: the model, or its moving average where the recipe has one.
        drop_rates: how often each token is read as unknown, (V,).
        history: the epochs so far.
        best_weights: of the best epoch so far.
    """

    def __init__(
        self, model: SpanClassifier, config: TrainConfig, counts: Tensor, *, seed: int, steps: int, title: str
    ) -> None:
        """Build optimizer, schedule and average.

        Args:
            model: to be trained.
            config: the recipe.
            counts: how often each token is read in an epoch, (V,).
            seed: of the weights that the language model adds to the model's.
            steps: of the whole training.
            title: names the training in messages.
        """
        self.model, self.config, self.title = model, config, title
        self.history, self.best_weights = History(), dict[str, Tensor]()
        self.accelerator = Accelerator(mixed_precision=choose_precision(config.precision))
        self.averaged = AveragedModel(model, multi_avg_fn=make_average(config.ema)) if config.ema else None
        torch.manual_seed(derive_seed(seed, 0, 0))
        objective = Objective(model, config, counts)
        optimizer = make_optimizer(objective, config)
        self.schedule = make_schedule(optimizer, config, steps)
        self.objective, self.optimizer = self.accelerator.prepare(objective, optimizer)
        self._saved: dict[str, Any] = {"model": objective, "optimizer": optimizer, "schedule": self.schedule}
        if self.averaged is not None:
            self._saved["averaged"] = self.averaged.to(self.accelerator.device)
        self.eval_model: Any = model if self.averaged is None else self.averaged.module
        self.drop_rates = word_drop_rates(counts, config).to(self.accelerator.device)

    def step(self, batch: Batch, totals: BatchTotals) -> float:
        """Update the weights by one batch; return the loss of its labels over all processes, in nats per span."""
        self.optimizer.zero_grad()
        loss, label_loss = self.objective(batch, totals)
        self.accelerator.backward(loss * self.accelerator.num_processes)  # it averages over the processes
        if self.config.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.objective.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        return float(self.accelerator.reduce(label_loss).item())

    def add(self, record: EpochRecord) -> None:
        """Append an epoch, and copy the weights if it is the best so far."""
        self.history.epochs.append(record)
        if not self.best_weights or record.valid_accuracy > self.history.best.valid_accuracy:
            self.history.best_epoch = record.epoch
            self.best_weights = copy.deepcopy(self.eval_model.state_dict())

    def is_patience_over(self) -> bool:
        """Return whether the last `patience` epochs were all worse than the best."""
        patience = self.config.patience
        return patience is not None and len(self.history.epochs) - self.history.best_epoch >= patience

    def describe_last_epoch(self) -> str:
        """Return the last epoch's accuracy for a progress bar, empty in the first one."""
        epochs = self.history.epochs
        return f", accuracy {epochs[-1].valid_accuracy:.4f}" if epochs else ""

    def content(self) -> dict[str, Any]:
        """Return the state as tensors, numbers and names."""
        return {
            **{name: part.state_dict() for name, part in self._saved.items()},
            "history": [asdict(record) for record in self.history.epochs],
            "best_epoch": self.history.best_epoch,
            "best_weights": self.best_weights,
        }

    def restore(self, content: dict[str, Any] | None) -> None:
        """Continue from what `content` returned; None starts anew."""
        if content is None:
            return
        for name, part in self._saved.items():
            part.load_state_dict(content[name])
        self.history = History([EpochRecord(**record) for record in content["history"]], content["best_epoch"])
        self.best_weights = content["best_weights"]


def derive_seed(seed: int, epoch: int, process: int) -> int:
    """Return a seed that depends on all three numbers."""
    return int(np.random.SeedSequence([seed, epoch, process]).generate_state(1)[0])
