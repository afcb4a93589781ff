"""Predictions for raw text by all bundles of a task together, and what each token contributed to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unroll.core.errors import UnrollError
from unroll.core.settings import TextConfig
from unroll.models.bundle import Bundle, load_bundle, predict_mean
from unroll.models.ensemble import Calibration, Ensemble, Probabilities
from unroll.text.vocabulary import UNKNOWN_ID, get_tokenizer

MAX_TOKENS = 20_000  # of a text; it takes 1.4 GB
PRIVATE_USE = [chr(number) for number in range(0xE000, 0xF900)]  # characters to which Unicode gives no meaning


@dataclass(frozen=True)
class EnsemblePredictor:
    """The bundles of a task: averaged over each cell's folds, then combined over the cells."""

    # the bundles of each of M cells, one a fold; all have the same text settings and the same P outputs
    members: tuple[tuple[Bundle, ...], ...]
    ensemble: Ensemble  # combines the cells

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """Return all bundles."""
        return tuple(chain.from_iterable(self.members))

    @property
    def text(self) -> TextConfig:
        """Return the text settings that all bundles share."""
        return self.members[0][0].text

    def predict(self, texts: Sequence[str]) -> Probabilities:
        """Return the predictions for whole texts, (R, P); each different text is computed once.

        Raises:
            UnrollError: a text is so long that the computation might not fit into memory.
        """
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        lengths = np.array([len(tokens) for tokens in self.tokenize(list(rows))], dtype=np.int64)
        if lengths.max(initial=0) > MAX_TOKENS:
            number = next(number for number, text in enumerate(texts, start=1) if lengths[rows[text]] > MAX_TOKENS)
            raise UnrollError(f"text {number}: has {lengths.max():,} tokens, expected at most {MAX_TOKENS:,}")
        stacked = np.stack([predict_mean(folds, list(rows)) for folds in self.members])  # (M, different texts, P)
        return self.ensemble.apply(stacked.astype(np.float64), lengths)[[rows[text] for text in texts]]

    def tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the tokens of each text, as the bundles read them."""
        return list(map(get_tokenizer(self.text), texts))

    def knows(self, tokens: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return whether at least one bundle has each token in its vocabulary, (len(tokens),).

        A token that occurs only in one fold is unknown to the bundle that was trained without this fold, and known.
        """
        encoded = [bundle.vocabulary.encode(tokens) for bundle in self.bundles]
        known: npt.NDArray[np.bool_] = np.any([numbers != UNKNOWN_ID for numbers in encoded], axis=0)
        return known

    def find_unknown(self, texts: Sequence[str]) -> list[list[str]]:
        """Return each text's different unknown tokens, in the order of the text."""
        rows = [list(dict.fromkeys(row)) for row in self.tokenize(texts)]
        tokens = list(dict.fromkeys(chain.from_iterable(rows)))
        known = dict(zip(tokens, self.knows(tokens).tolist(), strict=True))
        return [[token for token in row if not known[token]] for row in rows]


def load_predictor(
    folders: Mapping[str, Sequence[Path]],
    weights: Mapping[str, float],
    outputs: Sequence[str],
    calibration: Calibration | None = None,
) -> EnsemblePredictor:
    """Load the bundles of a task.

    Args:
        folders: the bundles' folders by cell, at least one for each.
        weights: of the same cells.
        outputs: those of the task, (P,).
        calibration: of the mixture.

    Raises:
        UnrollError: a bundle is missing or damaged, or has other outputs or text settings than it should have.
    """
    members = tuple(tuple(load_bundle(folder) for folder in of_cell) for of_cell in folders.values())
    for folder, bundle in zip(chain.from_iterable(folders.values()), chain.from_iterable(members), strict=True):
        if bundle.outputs != tuple(outputs):
            found, expected = ", ".join(bundle.outputs), ", ".join(outputs)
            raise UnrollError(f"{folder}: found the outputs {found}, expected {expected}; `dvc repro` trains it again")
        if bundle.text != members[0][0].text:
            raise UnrollError(
                f"{folder}: trained with other text settings than {next(iter(folders))}; the models of an ensemble "
                "must share them; `dvc repro` trains what is out of date"
            )
    return EnsemblePredictor(members, Ensemble(np.array([weights[cell] for cell in folders], np.float64), calibration))


@dataclass(frozen=True)
class Explanation:
    """What a predictor made of the T tokens of one text."""

    tokens: list[str]  # (T,)
    predicted: int  # number of the largest output for the whole text
    probability: float  # that output: a probability, or the number itself
    without: Probabilities  # the same output with each token replaced by an unknown one, (T,)
    after: Probabilities  # the outputs for the text up to and including each token, (T, P)


def explain(predictor: EnsemblePredictor, texts: Sequence[str]) -> list[Explanation]:
    """Explain predictions by replacing each token, and by ending the text after each token.

    All 2 T variants of all texts are predicted together. Replacing a token by an unknown one is occlusion: Li, Monroe
    and Jurafsky, 2016, "Understanding neural networks through representation erasure",
    https://arxiv.org/abs/1612.08220; the other tokens keep their places.
    """
    join = "".join if predictor.text.tokenizer == "characters" else " ".join
    unknown = PRIVATE_USE[int(predictor.knows(PRIVATE_USE).argmin())]  # every tokenizer leaves it as it is
    rows = predictor.tokenize(texts)
    variants: list[str] = []
    for row in rows:
        variants.append(join(row))
        variants += [join([*row[:place], unknown, *row[place + 1 :]]) for place in range(len(row))]
        variants += [join(row[: place + 1]) for place in range(len(row))]
    probabilities = predictor.predict(variants)  # (sum of 2 T + 1, P)
    ends = np.cumsum([2 * len(row) + 1 for row in rows])
    explanations = []
    for row, part in zip(rows, np.split(probabilities, ends[:-1]), strict=True):
        whole, without, after = part[0], part[1 : len(row) + 1], part[len(row) + 1 :]  # (P,), (T, P), (T, P)
        best = int(whole.argmax())
        explanations.append(Explanation(row, best, float(whole[best]), without[:, best], after))
    return explanations
