"""A batch that is too large for the memory, learned in parts whose gradients add up to that of the whole batch."""

from collections.abc import Callable

import torch
from torch import Tensor

from unroll.core.errors import UnrollError, is_out_of_memory, warn
from unroll.text.batches import Batch


class Halving:
    """Learns batches whole as long as they fit, then in as many parts as it takes; it says so once."""

    def __init__(self, title: str, *, may_cut: bool = True) -> None:
        """Begin with no limit.

        Args:
            title: stands before what is said.
            may_cut: false where other processes wait for the gradient of the whole batch.
        """
        self.title, self.may_cut = title, may_cut
        self.limit: int | None = None  # the most tokens in a part

    def learn(self, batch: Batch, clear: Callable[[], None], learn_part: Callable[[Batch], Tensor]) -> Tensor:
        """Return the loss of a batch, once its gradient is there.

        Args:
            batch: B sequences.
            clear: forgets the gradient so far.
            learn_part: adds the gradient of a part's share of the batch's loss, and returns that share.

        Raises:
            UnrollError: one sequence alone does not fit.
        """
        while True:
            parts = self._cut(batch)
            try:
                clear()
                losses = [learn_part(part) for part in parts]
                return torch.stack(losses).sum() if len(losses) > 1 else losses[0]
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the handler: the error holds the frames, and these the tensors that have to go.
            self._halve(parts)

    def _cut(self, batch: Batch) -> list[Batch]:
        sequences, length = batch.tokens.shape
        most = sequences if self.limit is None else max(1, self.limit // length)
        if most >= sequences:
            return [batch]
        return [batch.part(first, min(first + most, sequences)) for first in range(0, sequences, most)]

    def _halve(self, parts: list[Batch]) -> None:
        sequences, length = max((part.tokens.shape for part in parts), key=lambda shape: shape[0])
        if sequences == 1 or not self.may_cut:
            raise UnrollError(
                f"{self.title}: out of memory at {sequences} sequences of {length} tokens; lower train.batch_size, "
                "model.hidden or model.layers"
            )
        if self.limit is None:
            warn(
                f"{self.title}: out of memory at a batch of {sequences} sequences of {length} tokens; it is halved and "
                "its gradient added up, as is every batch that large"
            )
        self.limit = sequences // 2 * length
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
