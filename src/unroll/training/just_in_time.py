"""Adam for an embedding of many words, whose rows get their updates just in time: when they are read next.

A dense step reads and writes the whole embedding, its moments and its average, though a batch has a few hundred words
of many thousand. While a row has no gradient, its moments decay, and Adam moves it along one direction, m / sqrt(v), by
amounts that only the schedule and the number of steps decide. So all the steps that it missed are one linear
combination, and the result is that of dense steps, up to rounding and the second order of Adam's epsilon. Schmidt,
Le Roux and Bach (2013, "Minimizing finite sums with the stochastic average gradient") do this for the average gradient;
torch.optim.SparseAdam leaves out what a row missed, which is another algorithm.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from unroll.core.settings import TrainConfig

# Of an embedding for which this pays: with fewer a batch reads too large a part of them. Above the size of a vocabulary
# whose language model has an exact softmax, which gives every row a gradient.
FEWEST_ROWS = 8192
MOST_STEPS = 2048  # before all rows are brought up to date, since a step goes over numbers for each one before it
ROWS_AT_ONCE = 16_384  # brought up to date, so that copies of them take little memory
# Of the seven numbers that say what missed steps make of a row; see JustInTimeAdam.begin.
NONE_MISSED = np.array([[1.0], [0.0], [0.0], [1.0], [0.0], [0.0], [0.0]])


def pays(embedding: nn.Embedding, config: TrainConfig) -> bool:
    """Return whether an embedding's steps are better taken just in time: those of many rows on a CPU.

    Adam's own decay of weights is a part of the gradient, so that all rows have one.
    """
    is_decoupled = config.optimizer == "adamw" or not config.weight_decay
    return embedding.weight.device.type == "cpu" and len(embedding.weight) >= FEWEST_ROWS and is_decoupled


class JustInTimeAdam:
    """Takes the steps of one embedding for an Adam or AdamW, which leaves it alone, and moves its average along.

    V rows of size E, of which a batch reads R. After `flush`, the weights, the average and the optimizer's state are
    those of dense steps.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, embedding: nn.Embedding, average: Tensor | None) -> None:
        """Begin with the optimizer's state of the embedding.

        Args:
            optimizer: has the embedding's weight, and no decay of weights, or the decoupled one of AdamW.
            embedding: of V words.
            average: of its weight, (V, E); None if none is kept.
        """
        self.optimizer, self.embedding, self.average = optimizer, embedding, average
        self.weight: Tensor = embedding.weight
        zeros = {"exp_avg": torch.zeros_like(self.weight), "exp_avg_sq": torch.zeros_like(self.weight)}
        optimizer.state[embedding.weight] = {"step": torch.tensor(0.0), **zeros}
        self.begin()

    def begin(self) -> None:
        """Count steps from here on, all rows being up to date."""
        self.last = torch.zeros(len(self.weight), dtype=torch.int64)  # the last step that each row has had, (V,)
        # Column i, of (7, steps + 1): what all steps after the i-th do to a row that had its last one then.
        #   weight  <- decay * weight - move * m / (sqrt(v) + epsilon * move_epsilon / move)
        #   average <- keep * average + add * weight - lag * m / (sqrt(v) + epsilon * lag_epsilon / lag)
        # The rows are decay, move, move_epsilon, keep, add, lag and lag_epsilon. Epsilon's factor, which differs from
        # step to step, is the mean weighted by the steps' sizes.
        self.missed = NONE_MISSED.copy()

    @property
    def steps(self) -> int:
        """Return how many steps there have been since `begin`."""
        return int(self.missed.shape[1]) - 1

    @property
    def group(self) -> dict[str, Any]:
        """Return the optimizer's settings for the embedding, which are new ones after a checkpoint was loaded."""
        groups = self.optimizer.param_groups
        return next(group for group in groups if any(weight is self.weight for weight in group["params"]))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Bring rows up to date before the embedding reads them, and make their gradient sparse, in a block."""
        hook = self.embedding.register_forward_pre_hook(lambda module, inputs: self.catch_up(inputs[0]))
        self.embedding.sparse = True
        try:
            yield
        finally:
            self.embedding.sparse = False
            hook.remove()

    @torch.no_grad()
    def catch_up(self, words: Tensor) -> None:
        """Give the rows of words, of any shape, the steps that they have missed."""
        rows = torch.unique(words)
        last = self.last[rows]
        rows, last = rows[last < self.steps], last[last < self.steps]
        if not len(rows):
            return
        state, group = self.optimizer.state[self.weight], self.group
        decay, move, move_epsilon, keep, add, lag, lag_epsilon = missed = self.missed[:, last.numpy()]  # (R,) each
        means = [part / np.maximum(whole, 1e-30) for part, whole in ((move_epsilon, move), (lag_epsilon, lag))]
        factors = torch.from_numpy(np.stack([*missed, *means])).float()[..., None]  # (9, R, 1)
        decay, move, _, keep, add, lag, _, move_epsilon, lag_epsilon = factors
        weight = self.weight.index_select(0, rows)  # (R, E), as all that follow
        first, second = (state[name].index_select(0, rows) for name in ("exp_avg", "exp_avg_sq"))
        root = second.sqrt()
        if self.average is not None:
            average = self.average.index_select(0, rows).mul_(keep).addcmul_(weight, add)
            average.sub_((first * lag).div_(root + group["eps"] * lag_epsilon))
            self.average.index_copy_(0, rows, average)
        weight.mul_(decay).sub_((first * move).div_(root.add_(group["eps"] * move_epsilon)))
        gap = (self.steps - last).double()[:, None]  # (R, 1)
        beta1, beta2 = group["betas"]
        parts = (self.weight, weight), (state["exp_avg"], first.mul_((beta1**gap).float()))
        for whole, part in (*parts, (state["exp_avg_sq"], second.mul_((beta2**gap).float()))):
            whole.index_copy_(0, rows, part)
        self.last[rows] = self.steps

    def collect(self) -> Tensor:
        """Return a tensor, (R, E), whose `grad` is the gradient of the rows read, to be clipped with the others'."""
        gradient = cast(Tensor, self.weight.grad).coalesce()
        self.weight.grad, self.read = None, gradient.indices()[0]  # (R,)
        self.gradient = torch.empty_like(gradient.values())
        self.gradient.grad = gradient.values()
        return self.gradient

    @torch.no_grad()
    def step(self, share: float) -> None:
        """Take a step with the collected gradient; the newest weights get a share of the average.

        The rows of the gradient have been read, so they are up to date.
        """
        state, group = self.optimizer.state[self.weight], self.group
        (beta1, beta2), rate, epsilon = group["betas"], float(group["lr"]), group["eps"]
        state["step"] += 1
        taken = int(state["step"])
        size, root, decay = rate / (1 - beta1**taken), (1 - beta2**taken) ** 0.5, 1 - rate * group["weight_decay"]
        self._miss(
            decay, size * root * (beta1 / beta2**0.5) ** self._gaps(), root * beta2 ** (-self._gaps() / 2), share
        )
        rows, gradient = self.read, cast(Tensor, self.gradient.grad)
        first = state["exp_avg"].index_select(0, rows).lerp_(gradient, 1 - beta1)
        second = state["exp_avg_sq"].index_select(0, rows).mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        denominator = second.sqrt().div_(root).add_(epsilon)
        weight = self.weight.index_select(0, rows).mul_(decay).addcdiv_(first, denominator, value=-size)
        parts = [(state["exp_avg"], first), (state["exp_avg_sq"], second), (self.weight, weight)]
        if self.average is not None:
            parts.append((self.average, self.average.index_select(0, rows).lerp_(weight, share)))
        for whole, part in parts:
            whole.index_copy_(0, rows, part)
        self.last[rows] = self.steps
        if self.steps == MOST_STEPS:
            self.flush()

    def _gaps(self) -> np.ndarray:
        """Return how many steps lie between each one since `begin` and the next to come, (steps + 1,)."""
        return np.arange(self.steps + 1, 0, -1.0)

    def _miss(self, decay: float, sizes: np.ndarray, epsilons: np.ndarray, share: float) -> None:
        """Add a step to what the rows miss, by their last one: its size along m / sqrt(v) and epsilon's factor."""
        decays, move, move_epsilon, keep, add, lag, lag_epsilon = self.missed
        decays *= decay
        move[:] = decay * move + sizes
        move_epsilon[:] = decay * move_epsilon + sizes * epsilons
        keep *= 1 - share
        for average, new in ((add, decays), (lag, move), (lag_epsilon, move_epsilon)):
            average[:] = (1 - share) * average + share * new
        self.missed = np.append(self.missed, NONE_MISSED, axis=1)

    def flush(self) -> None:
        """Bring all rows up to date."""
        for rows in torch.split(torch.arange(len(self.weight)), ROWS_AT_ONCE):
            self.catch_up(rows)
        self.begin()
