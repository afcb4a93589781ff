"""The epochs of a training."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class EpochRecord:
    """The results of an epoch, losses in nats per span. It holds no time, so that it is the same in every run."""

    epoch: int
    loss: float
    valid_log_loss: float
    valid_accuracy: float
    valid_macro_f1: float
    lr: float


OnEpoch = Callable[[EpochRecord, float | None], None]


@dataclass
class History:
    """The records of all epochs, and the epoch whose weights were kept."""

    epochs: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0

    @property
    def best(self) -> EpochRecord:
        """Return the record of the epoch whose weights were kept."""
        return self.epochs[self.best_epoch - 1]
