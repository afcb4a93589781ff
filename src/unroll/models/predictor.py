"""Predictions for raw text by the ensemble of a task's bundles, and what each token contributed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from unroll.core.errors import UnrollError
from unroll.core.settings import TextConfig
from unroll.models.bundle import Bundle, load_bundle, predict_mean
from unroll.models.ensemble import Calibration, Ensemble, Probabilities
from unroll.text.tokenizer import get_tokenizer
from unroll.text.vocabulary import UNKNOWN_ID

PRIVATE_USE = range(0xE000, 0xF900)  # characters that Unicode gives no meaning


@dataclass(frozen=True)
class EnsemblePredictor:
    """The bundles of a task that answer together: the mean over each cell's folds, the cells mixed by their weights.

    Attributes:
        members: the bundles of M cells, one a fold; all of them read text alike and have the same C labels.
        ensemble: what makes one answer of those of the cells.
    """

    members: tuple[tuple[Bundle, ...], ...]
    ensemble: Ensemble

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """Return every bundle."""
        return tuple(chain.from_iterable(self.members))

    @property
    def text(self) -> TextConfig:
        """Return how all of them cut a text into tokens."""
        return self.members[0][0].text

    def predict(self, texts: Sequence[str]) -> Probabilities:
        """Return the class probabilities of whole texts, (len(texts), C); a text that stands twice is read once."""
        places = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        stacked = np.stack([predict_mean(folds, list(places)) for folds in self.members])  # (M, different texts, C)
        lengths = np.array([len(tokens) for tokens in self.tokenize(list(places))], dtype=np.int64)
        return self.ensemble.apply(stacked.astype(np.float64), lengths)[[places[text] for text in texts]]

    def tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the tokens of each text, as the bundles read them."""
        tokenize = get_tokenizer(self.text)
        return [tokenize(text) for text in texts]

    def find_unknown(self, texts: Sequence[str]) -> list[list[str]]:
        """Return each text's different tokens that no bundle knows, in their order; all are read as one and the same.

        A token that stands only in the rows that one fold holds out is unknown to that fold's bundle alone; it counts
        as known.
        """
        rows = self.tokenize(texts)
        tokens = list(dict.fromkeys(chain.from_iterable(rows)))
        known = np.zeros(len(tokens), dtype=bool)
        for bundle in self.bundles:
            known |= bundle.vocabulary.encode(tokens) != UNKNOWN_ID
        unknown = {token for token, is_known in zip(tokens, known.tolist(), strict=True) if not is_known}
        return [[token for token in dict.fromkeys(row) if token in unknown] for row in rows]


@dataclass(frozen=True)
class Explanation:
    """What a predictor made of the T tokens of one text, one after the other.

    Attributes:
        tokens: (T,).
        answer: the most probable class of the whole text.
        probability: of that class.
        without: probability of that class with each token replaced by an unknown one, (T,).
        after: the class probabilities after each token, the rest not yet read, (T, C).
    """

    tokens: list[str]
    answer: int
    probability: float
    without: Probabilities
    after: Probabilities


def load_predictor(
    folders: Mapping[str, Sequence[Path]],
    weights: Mapping[str, float],
    labels: Sequence[str],
    calibration: Calibration | None = None,
) -> EnsemblePredictor:
    """Load the bundles that are to answer together.

    Args:
        folders: the bundles' folders by cell, none without any.
        weights: of the same cells.
        labels: those of the task, (C,).
        calibration: of the mixture.

    Raises:
        UnrollError: a bundle is missing or damaged, has other labels, or reads text otherwise than the first one.
    """
    members = []
    expected: TextConfig | None = None
    for cell_folders in folders.values():
        bundles = tuple(load_bundle(folder) for folder in cell_folders)
        for folder, bundle in zip(cell_folders, bundles, strict=True):
            expected = expected or bundle.text
            if bundle.labels != tuple(labels):
                raise UnrollError(
                    f"{folder}: its labels are {', '.join(bundle.labels)}, the task's are {', '.join(labels)}; "
                    "`dvc repro` trains it again"
                )
            if bundle.text != expected:
                raise UnrollError(
                    f"{folder}: was trained with other text settings than {next(iter(folders))}, and models that "
                    "answer together have to read alike; `dvc repro` trains what is out of date"
                )
        members.append(bundles)
    mixture = np.array([weights[cell] for cell in folders], dtype=np.float64)
    return EnsemblePredictor(tuple(members), Ensemble(mixture, calibration))


def explain(predictor: EnsemblePredictor, texts: Sequence[str]) -> list[Explanation]:
    """Ask what each token did to the answer, by taking each one away and by stopping after each one.

    Every variant of every text is a text of its own, and all of them are asked at once: 2 T for a text of T tokens.
    To take a token away is occlusion, after Li, Monroe and Jurafsky (2016), "Understanding neural networks through
    representation erasure", https://arxiv.org/abs/1612.08220; here an unknown token takes its place, so that the
    others stay where they were.
    """
    join = "".join if predictor.text.tokenizer == "characters" else " ".join
    blank = _find_blank(predictor)
    rows = predictor.tokenize(texts)
    variants: list[str] = []
    for row in rows:
        variants.append(join(row))
        variants += [join([*row[:place], blank, *row[place + 1 :]]) for place in range(len(row))]
        variants += [join(row[: place + 1]) for place in range(len(row))]
    answers = predictor.predict(variants)  # (sum of 2 T + 1, C)
    readings = []
    begin = 0
    for row in rows:
        whole, without, after = np.split(answers[begin : begin + 2 * len(row) + 1], [1, len(row) + 1])
        answer = int(whole[0].argmax())
        readings.append(Explanation(row, answer, float(whole[0, answer]), without[:, answer], after))
        begin += 2 * len(row) + 1
    return readings


def _find_blank(predictor: EnsemblePredictor) -> str:
    """Return a character that every tokenizer leaves as it is and no bundle knows."""
    candidates = [chr(number) for number in PRIVATE_USE]
    known = np.zeros(len(candidates), dtype=bool)
    for bundle in predictor.bundles:
        known |= bundle.vocabulary.encode(candidates) != UNKNOWN_ID
    return candidates[int(known.argmin())]
