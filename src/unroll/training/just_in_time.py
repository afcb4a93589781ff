"""Adam for an embedding of many words, whose rows get their updates just in time: when they are read next.

A dense step reads and writes the whole embedding, its moments and its average, though a batch has a few hundred words
of many thousand. While a row has no gradient, its moments decay, and Adam moves it along one direction, m / sqrt(v), by
amounts that only the schedule and the number of steps decide. So all the steps that it missed are one linear
combination, and the result is that of dense steps up to rounding. Schmidt, Le Roux and Bach (2013, "Minimizing finite
sums with the stochastic average gradient") do this for the average gradient; torch.optim.SparseAdam leaves out what a
row missed, which is another algorithm.
"""

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from unroll.core.settings import TrainConfig

FEWEST_ROWS = 8192  # of an embedding for which this pays: with fewer a batch reads too large a part of them
MOST_STEPS = 2048  # before all rows are brought up to date, since a step goes over numbers for each one before it

NONE_MISSED = np.array([[1.0], [0.0], [1.0], [0.0], [0.0]])


def pays(embedding: nn.Embedding, config: TrainConfig) -> bool:
    """Return whether an embedding's steps are better taken just in time: those of many rows on a CPU.

    Adam's own decay of weights is a part of the gradient, so that all rows have one.
    """
    is_decoupled = config.optimizer == "adamw" or not config.weight_decay
    return embedding.weight.device.type == "cpu" and len(embedding.weight) >= FEWEST_ROWS and is_decoupled


class JustInTimeAdam:
    """Takes the steps of one embedding for an Adam or AdamW, which leaves it alone, and moves its average along.

    V rows of size E. After `flush`, the weights, the average and the optimizer's state are those of dense steps.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, embedding: nn.Embedding, average: Tensor | None) -> None:
        """Make the embedding's gradients sparse, and let it bring rows up to date before it reads them in training.

        Args:
            optimizer: has the embedding's weight, and no decay of weights, or the decoupled one of AdamW.
            embedding: of V words.
            average: of its weight, (V, E); None if none is kept.
        """
        self.optimizer, self.weight, self.average = optimizer, embedding.weight, average
        self.group: dict[str, Any] = next(
            group for group in optimizer.param_groups if any(weight is self.weight for weight in group["params"])
        )
        zeros = {"exp_avg": torch.zeros_like(self.weight), "exp_avg_sq": torch.zeros_like(self.weight)}
        optimizer.state[self.weight] = {"step": torch.tensor(0.0), **zeros}
        self.begin()
        embedding.sparse = True
        embedding.register_forward_pre_hook(
            lambda module, inputs: self.catch_up(inputs[0]) if module.training else None
        )

    def begin(self) -> None:
        """Count steps from here on, all rows being up to date."""
        self.last = torch.zeros(len(self.weight), dtype=torch.int64)  # the last step that each row has had, (V,)
        # What the missed steps make of a row, by that step: its weight becomes w * weight - s * direction, its average
        # k * average + a * weight - b * direction. The rows are w, s, k, a and b; a last step of now has missed none.
        self.missed = NONE_MISSED.copy()

    @property
    def steps(self) -> int:
        """Return how many steps there have been since `begin`."""
        return int(self.missed.shape[1]) - 1

    def catch_up(self, words: Tensor) -> None:
        """Give the rows of words, of any shape, the steps that they have missed."""
        rows = torch.unique(words)
        last = self.last[rows]
        rows, last = rows[last < self.steps], last[last < self.steps]
        if not len(rows):
            return
        state, (beta, square) = self.optimizer.state[self.weight], self.group["betas"]
        taken = float(state["step"]) - self.steps + last.double()  # steps that the rows have had, (R,)
        correction = (1 - square ** (taken + 1)).sqrt().float()[:, None]  # of epsilon, as of the first missed step
        first, second = (state[name].index_select(0, rows) for name in ("exp_avg", "exp_avg_sq"))  # (R, E)
        direction = first / second.sqrt().add_(self.group["eps"] * correction)
        w, s, k, a, b = torch.from_numpy(self.missed[:, last.numpy()]).float()[..., None]  # (R, 1) each
        gap = (self.steps - last).double()
        with torch.no_grad():
            weight = self.weight.index_select(0, rows)
            if self.average is not None:
                average = (
                    self.average.index_select(0, rows).mul_(k).addcmul_(weight, a).addcmul_(direction, b, value=-1)
                )
                self.average.index_copy_(0, rows, average)
            self.weight.index_copy_(0, rows, weight.mul_(w).addcmul_(direction, s, value=-1))
            state["exp_avg"].index_copy_(0, rows, first.mul_((beta**gap).float()[:, None]))
            state["exp_avg_sq"].index_copy_(0, rows, second.mul_((square**gap).float()[:, None]))
        self.last[rows] = self.steps

    def collect(self) -> Tensor:
        """Take the gradient of the rows read, and return it as that of a tensor, (R, E), to be clipped with others."""
        gradient = cast(Tensor, self.weight.grad).coalesce()  # the words of a batch are always read
        self.weight.grad, self.read = None, gradient.indices()[0]
        self.gradient = torch.empty_like(gradient.values())
        self.gradient.grad = gradient.values()
        return self.gradient

    def step(self, share: float) -> None:
        """Take a step with the collected gradient; the newest weights get a share of the average.

        The rows of the gradient have been read, so they are up to date.
        """
        state, group = self.optimizer.state[self.weight], self.group
        (beta, square), rate, decay = group["betas"], group["lr"], 1 - group["lr"] * group["weight_decay"]
        state["step"] += 1
        taken = int(state["step"])
        size, root = rate / (1 - beta**taken), (1 - square**taken) ** 0.5
        w, s, k, a, b = self.missed
        s[:] = decay * s + size * root * (beta / square**0.5) ** np.arange(self.steps + 1, 0, -1.0)
        w *= decay
        k *= 1 - share
        a[:] = (1 - share) * a + share * w
        b[:] = (1 - share) * b + share * s
        self.missed = np.append(self.missed, NONE_MISSED, axis=1)
        rows, values = self.read, self.gradient.grad
        with torch.no_grad():
            first = state["exp_avg"].index_select(0, rows).lerp_(values, 1 - beta)
            second = state["exp_avg_sq"].index_select(0, rows).mul_(square).addcmul_(values, values, value=1 - square)
            denominator = second.sqrt().div_(root).add_(group["eps"])
            weight = self.weight.index_select(0, rows).mul_(decay).addcdiv_(first, denominator, value=-size)
            parts = [(state["exp_avg"], first), (state["exp_avg_sq"], second), (self.weight, weight)]
            if self.average is not None:
                parts.append((self.average, self.average.index_select(0, rows).lerp_(weight, share)))
            for whole, part in parts:
                whole.index_copy_(0, rows, part)
        self.last[rows] = self.steps
        if self.steps == MOST_STEPS:
            self.flush()

    def flush(self) -> None:
        """Bring all rows up to date."""
        self.catch_up(torch.arange(len(self.weight)))
        self.begin()
