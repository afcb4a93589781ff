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
from unroll.models.compiled import Array, compiled

# Of an embedding for which this pays: with fewer a batch reads too large a part of them. Above the size of a vocabulary
# whose language model has an exact softmax, which gives every row a gradient.
FEWEST_ROWS = 8192
MOST_STEPS = 2048  # before all rows are brought up to date, since a step goes over numbers for each one before it


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
        self.steps = 0
        self.last = np.zeros(len(self.weight), np.int64)  # the last step that each row has had, (V,)
        # Row i, of (MOST_STEPS + 1, 7), of which steps + 1 are in use: what all steps after the i-th do to a row of
        # weights that had its last one then.
        #   weight  <- decay * weight - move * m / (sqrt(v) + epsilon * move_epsilon / move)
        #   average <- keep * average + add * weight - lag * m / (sqrt(v) + epsilon * lag_epsilon / lag)
        # The numbers are decay, move, move_epsilon, keep, add, lag and lag_epsilon. Epsilon's factor, which differs
        # from step to step, is the mean weighted by the steps' sizes.
        self.missed = np.zeros((MOST_STEPS + 1, 7))
        self.missed[:, [0, 3]] = 1  # of weight and average, where no step was missed

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

    def catch_up(self, words: Tensor) -> None:
        """Give the rows of words, of any shape, the steps that they have missed."""
        group = self.group
        _catch_up(
            words.flatten().numpy(), self.steps, self.last, self.missed, *group["betas"], group["eps"], *self._rows()
        )

    def _rows(self) -> list[Array]:
        """Return weights, moments and average, (V, E) each; the last has no rows where none is kept."""
        state, average = self.optimizer.state[self.weight], self.average
        parts = (self.weight, state["exp_avg"], state["exp_avg_sq"], self.weight[:0] if average is None else average)
        return [part.detach().numpy() for part in parts]

    def collect(self) -> Tensor:
        """Return a tensor, (R, E), whose `grad` is the gradient of the rows read, to be clipped with the others'."""
        gradient = cast(Tensor, self.weight.grad).coalesce()
        self.weight.grad, self.read = None, gradient.indices()[0]  # (R,)
        self.gradient = torch.empty_like(gradient.values())
        self.gradient.grad = gradient.values()
        return self.gradient

    def step(self, share: float) -> None:
        """Take a step with the collected gradient; the newest weights get a share of the average.

        The rows of the gradient have been read, so they are up to date.
        """
        state, group = self.optimizer.state[self.weight], self.group
        (beta1, beta2), epsilon = group["betas"], group["eps"]
        state["step"] += 1
        taken = int(state["step"])
        size, root = float(group["lr"]) / (1 - beta1**taken), (1 - beta2**taken) ** 0.5
        decay = 1 - float(group["lr"]) * group["weight_decay"]
        _miss(self.missed[: self.steps + 1], beta1, beta2, decay, size, root, share)
        self.steps += 1
        gradient = cast(Tensor, self.gradient.grad).numpy()
        _step(self.read.numpy(), gradient, beta1, beta2, epsilon, decay, size, root, share, *self._rows())
        self.last[self.read.numpy()] = self.steps
        if self.steps == MOST_STEPS:
            self.flush()

    def flush(self) -> None:
        """Bring all rows up to date."""
        self.catch_up(torch.arange(len(self.weight)))
        self.begin()


@compiled
def _catch_up(
    words: Array, steps: int, last: Array, missed: Array, beta1: float, beta2: float, epsilon: float,
    weights: Array, firsts: Array, seconds: Array, averages: Array,
) -> None:  # fmt: skip
    """Give the rows of words (N,), some of them more than once, the steps that they have missed."""
    number = weights.dtype.type
    for word in words:
        gap = steps - last[word]
        if gap == 0:
            continue
        decay, move, move_epsilon, keep, add, lag, lag_epsilon = missed[last[word]].astype(weights.dtype)
        move_epsilon = number(epsilon) * move_epsilon / max(move, number(1e-30))
        lag_epsilon = number(epsilon) * lag_epsilon / max(lag, number(1e-30))
        less, less_square = number(beta1**gap), number(beta2**gap)
        last[word] = steps
        for unit in range(weights.shape[1]):
            first, root, weight = firsts[word, unit], np.sqrt(seconds[word, unit]), weights[word, unit]
            if len(averages):
                averages[word, unit] = keep * averages[word, unit] + add * weight - lag * first / (root + lag_epsilon)
            weights[word, unit] = decay * weight - move * first / (root + move_epsilon)
            firsts[word, unit] = less * first
            seconds[word, unit] *= less_square


@compiled
def _step(
    words: Array, gradients: Array, beta1: float, beta2: float, epsilon: float, decay: float, size: float, root: float,
    share: float, weights: Array, firsts: Array, seconds: Array, averages: Array,
) -> None:  # fmt: skip
    """Take one step of Adam for the rows of words (R,), whose gradients are (R, E).

    Without epsilon, it moves a weight by size * root * m / sqrt(v): `size` is the learning rate divided by the
    correction of the first moment, `root` the root of that of the second. Then `decay` is the factor of the weight,
    `share` the newest weights' of the average.
    """
    number = weights.dtype.type
    new, new_square, less_square = number(1 - beta1), number(1 - beta2), number(beta2)
    rate, rest, floor, new_share = number(size * root), number(decay), number(epsilon * root), number(share)
    for row, word in enumerate(words):
        for unit in range(weights.shape[1]):
            gradient = gradients[row, unit]
            first = firsts[word, unit] + new * (gradient - firsts[word, unit])
            second = less_square * seconds[word, unit] + new_square * gradient * gradient
            weight = rest * weights[word, unit] - rate * first / (np.sqrt(second) + floor)
            firsts[word, unit], seconds[word, unit], weights[word, unit] = first, second, weight
            if len(averages):
                averages[word, unit] += new_share * (weight - averages[word, unit])


@compiled
def _miss(missed: Array, beta1: float, beta2: float, decay: float, size: float, root: float, share: float) -> None:
    """Add a step to what rows miss, by the last one that they had, (steps + 1, 7); see `_step`."""
    for last in range(len(missed)):
        gap = len(missed) - last
        of_first, of_root = beta1**gap, beta2 ** (gap / 2)  # what is left of the first moment, and of the second's root
        part = size * root * of_first / of_root  # by which the step moves the weight along m / sqrt(v)
        row = missed[last]
        row[0] *= decay
        row[1] = decay * row[1] + part
        row[2] = decay * row[2] + part * root / of_root
        row[3] *= 1 - share
        for place in range(3):
            row[4 + place] += share * (row[place] - row[4 + place])
