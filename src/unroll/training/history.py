"""What each epoch of a training gave."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class EpochRecord:
    """What an epoch gave; losses in nats a span. There is no time here: a record is equal in every run."""

    epoch: int
    loss: float
    valid_log_loss: float
    valid_accuracy: float
    valid_macro_f1: float
    lr: float


OnEpoch = Callable[[EpochRecord, float | None], None]


def ignore_epoch(record: EpochRecord, spans_per_second: float | None) -> None:
    """Listen to nothing."""


@dataclass
class History:
    """The epochs of a training, and which of them the weights were kept from."""

    epochs: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0

    @property
    def best(self) -> EpochRecord:
        """Return the record of the epoch whose weights were kept."""
        return self.epochs[self.best_epoch - 1]
