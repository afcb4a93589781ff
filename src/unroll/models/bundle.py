"""A model folder that explains itself: weights in safetensors, and JSON that can rebuild the model around them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from unroll.core.errors import UnrollError
from unroll.core.files import read_json, sha256_of_file, write_json
from unroll.core.settings import ModelConfig, TextConfig
from unroll.models.inference import predict
from unroll.models.span_classifier import CELLS, SpanClassifier
from unroll.text.encode import encode_texts
from unroll.text.vocabulary import Vocabulary

FORMAT = 2
DESCRIPTION, WEIGHTS = "bundle.json", "weights.safetensors"


@dataclass(frozen=True)
class Bundle:
    """A trained model with all that is needed to read raw text with it."""

    task: str
    cell: str
    labels: tuple[str, ...]
    label_names: tuple[str, ...]
    text: TextConfig
    shape: ModelConfig
    vocabulary: Vocabulary
    model: SpanClassifier

    def predict(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the class probabilities of whole texts, (len(texts), C)."""
        if not texts:
            return np.empty((0, len(self.labels)), dtype=np.float32)
        return predict(self.model, encode_texts(texts, self.text, self.vocabulary), np.arange(len(texts)))


def predict_mean(bundles: Sequence[Bundle], texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return the mean of several bundles' class probabilities, (len(texts), C)."""
    mean: npt.NDArray[np.float32] = np.mean([bundle.predict(texts) for bundle in bundles], axis=0)
    return mean


def save_bundle(folder: Path, bundle: Bundle) -> None:
    """Write a bundle into an existing folder."""
    weights = folder / WEIGHTS
    # save_file of the same library names a full disk in words of its own, where Python's writing raises OSError.
    weights.write_bytes(save({name: tensor.contiguous().cpu() for name, tensor in bundle.model.state_dict().items()}))
    description = {
        "format": FORMAT,
        "task": bundle.task,
        "cell": bundle.cell,
        "labels": bundle.labels,
        "label_names": bundle.label_names,
        "text": bundle.text.model_dump(),
        "model": bundle.shape.model_dump(),
        "weights_sha256": sha256_of_file(weights),
        "tokens": bundle.vocabulary.tokens,
    }
    write_json(folder / DESCRIPTION, description | {"sha256": description_sha256(description)})


def description_sha256(description: dict[str, Any]) -> str:
    """Return the sha256 of a description, its own `sha256` left out."""
    content = {key: value for key, value in description.items() if key != "sha256"}
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load_bundle(folder: Path) -> Bundle:
    """Rebuild a model from its folder, ready to predict.

    Raises:
        UnrollError: a file is missing or damaged, or the weights are not those that the description names.
    """
    description = read_json(folder / DESCRIPTION)
    weights = folder / WEIGHTS
    try:
        if description["format"] != FORMAT:
            raise UnrollError(f"{folder / DESCRIPTION}: format {description['format']}, this version reads {FORMAT}")
        if description_sha256(description) != description["sha256"]:
            raise UnrollError(f"{folder / DESCRIPTION}: damaged, its sha256 is another one; train again")
        if not weights.is_file() or sha256_of_file(weights) != description["weights_sha256"]:
            raise UnrollError(f"{weights}: missing, or not the weights that {DESCRIPTION} names; train again")
        if str(description["cell"]) not in CELLS:
            raise UnrollError(f"{folder / DESCRIPTION}: cell {description['cell']!r} is not one of {', '.join(CELLS)}")
        for key in ("labels", "label_names", "tokens"):
            if not (isinstance(description[key], list) and all(isinstance(name, str) for name in description[key])):
                raise TypeError(f"{key} must be a list of texts")
        if not len(description["labels"]) == len(description["label_names"]) > 0:
            raise TypeError("labels and label_names must be as many, one at least")
        shape = ModelConfig.model_validate(description["model"])
        vocabulary = Vocabulary(tuple(description["tokens"]))
        model = SpanClassifier(description["cell"], shape, len(vocabulary), len(description["labels"]))
        model.load_state_dict(load_file(weights))
        return Bundle(
            task=description["task"],
            cell=description["cell"],
            labels=tuple(description["labels"]),
            label_names=tuple(description["label_names"]),
            text=TextConfig.model_validate(description["text"]),
            shape=shape,
            vocabulary=vocabulary,
            model=model.eval(),
        )
    except (
        KeyError,
        TypeError,
        ValueError,
        MemoryError,
        AttributeError,
        OSError,
        SafetensorError,
        RuntimeError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise UnrollError(f"{folder}: not a whole bundle ({type(error).__name__}: {reason}); train again") from None
