"""A trained model as a folder: its weights in safetensors, and JSON from which the model around them is rebuilt."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from unroll.core.errors import UnrollError, brief
from unroll.core.files import write_json
from unroll.core.params import explain_errors
from unroll.core.settings import CellName, ModelConfig, Section, TextConfig
from unroll.data.competition import Kind
from unroll.models.inference import predict
from unroll.models.span_classifier import SpanClassifier
from unroll.text.encode import encode_texts
from unroll.text.vocabulary import Vocabulary

DESCRIPTION, WEIGHTS = "bundle.json", "weights.safetensors"
COMMON = ("task", "cell", "kind", "outputs", "text")  # attributes of both Bundle and Description
Names = Annotated[tuple[str, ...], Field(min_length=1, strict=False)]


class Description(Section):
    """What bundle.json holds."""

    format: Literal[5]
    task: str
    cell: CellName
    kind: Kind
    outputs: Names
    text: TextConfig
    model: ModelConfig
    tokens: Names
    sha256: str

    def digest(self, weights: bytes) -> str:
        """Return the sha256 of the weights and of everything else in this file."""
        content = json.dumps(self.model_dump(exclude={"sha256"}), sort_keys=True)
        return sha256(content.encode() + weights).hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A trained model with everything needed to predict the P outputs of raw text."""

    task: str
    cell: str
    kind: Kind
    outputs: tuple[str, ...]
    text: TextConfig
    shape: ModelConfig
    vocabulary: Vocabulary
    model: SpanClassifier

    def predict(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the predictions for whole texts, (len(texts), P)."""
        if not texts:
            return np.empty((0, len(self.outputs)), dtype=np.float32)
        return predict(self.model, encode_texts(texts, self.text, self.vocabulary), np.arange(len(texts)))


def find_bundles(folder: Path) -> list[Path]:
    """Return the folders of a cell's bundles that predict together: those of all rows or, without any, of the folds."""
    return sorted(folder.glob("refit-*")) or sorted(folder.glob("fold-*"))


def predict_mean(bundles: Sequence[Bundle], texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return the mean of several bundles' predictions, (len(texts), P)."""
    mean: npt.NDArray[np.float32] = np.mean([bundle.predict(texts) for bundle in bundles], axis=0)
    return mean


def save_bundle(folder: Path, bundle: Bundle) -> None:
    """Write a bundle into an existing folder."""
    weights = save({name: tensor.contiguous().cpu() for name, tensor in bundle.model.state_dict().items()})
    (folder / WEIGHTS).write_bytes(weights)
    content = {name: getattr(bundle, name) for name in COMMON}
    content |= {"format": 5, "model": bundle.shape, "tokens": bundle.vocabulary.tokens, "sha256": ""}
    described = Description.model_validate(content)
    write_json(folder / DESCRIPTION, {**described.model_dump(), "sha256": described.digest(weights)})


def load_bundle(folder: Path) -> Bundle:
    """Rebuild a model from its folder, ready to predict.

    Raises:
        UnrollError: a file is missing or damaged, or the weights are not those of the description.
    """
    try:
        content = Description.model_validate_json((folder / DESCRIPTION).read_bytes())
        weights = (folder / WEIGHTS).read_bytes()
        tensors = {name: tensor.to(torch.float32, copy=True) for name, tensor in load(weights).items()}
        if content.model.layers > len(tensors):
            raise ValueError(f"the parts of {DESCRIPTION} do not fit each other")
        vocabulary = Vocabulary(content.tokens)
        with torch.device("meta"):  # no memory is taken before the weights are known to have these shapes
            size = len(content.outputs)
            model = SpanClassifier(content.cell, content.model, len(vocabulary), size, content.kind)
        model.load_state_dict(tensors, assign=True)
        if content.digest(weights) != content.sha256:
            raise UnrollError(f"{WEIGHTS} or {DESCRIPTION} is not as it was written: another sha256")
    except FileNotFoundError as error:
        raise UnrollError(f"{error.filename}: no such file; run `dvc repro`") from None
    except ValidationError as error:
        raise UnrollError(explain_errors(error.errors()[:1], str(folder / DESCRIPTION))) from None
    except (OSError, ValueError, RuntimeError, TypeError, OverflowError, SafetensorError, UnrollError) as error:
        raise UnrollError(f"{folder}: damaged model ({brief(error)}); run `dvc repro`") from None
    common = {name: getattr(content, name) for name in COMMON}
    return Bundle(**common, shape=content.model, vocabulary=vocabulary, model=model.eval())
