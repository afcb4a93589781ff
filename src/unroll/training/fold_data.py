"""What a training reads: the corpus of a task, its vocabulary, and the weights that its models begin from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load_file

from unroll.core.errors import UnrollError
from unroll.core.files import MANIFEST, check_manifest, read_json
from unroll.core.settings import TaskConfig
from unroll.models.bundle import WEIGHTS
from unroll.models.span_classifier import SpanClassifier
from unroll.text.corpus import TEST_FOLD, Corpus, Ints, load_corpus
from unroll.text.vocabulary import Vocabulary

EMBEDDING = "embedding.weight"


@dataclass(frozen=True)
class TrainingData:
    """What every fold reads."""

    corpus: Corpus  # the arrays of both parts
    digest: str  # sha256 that stands for the corpus' files, the pretrained models aside
    vocabulary: Vocabulary  # of the whole training part
    # pretrained vectors, (V, size), NaN rows for tokens without one; None for a random embedding
    vectors: npt.NDArray[np.float32] | None
    # the weights of each cell's pretrained model by name
    pretrained: Mapping[str, Mapping[str, npt.NDArray[np.float32]]] = field(default_factory=dict)
    # for each token whether the pretrained models have seen it, (V,)
    is_pretrained: npt.NDArray[np.bool_] | None = None


def load_training_data(folder: Path) -> TrainingData:
    """Read what the tokenize stage wrote, or the pretrain stage.

    Raises:
        UnrollError: a file is missing or damaged.
    """
    check_manifest(folder, fix=f"delete {folder} and run `dvc repro`, which makes it again")
    vectors, seen = folder / "vectors.npy", folder / "is_pretrained.npy"
    files = [file for file in read_json(folder / MANIFEST)["files"] if Path(file["name"]).parent == Path()]
    return TrainingData(
        corpus=load_corpus(folder),
        digest=sha256(json.dumps(files).encode()).hexdigest(),
        vocabulary=Vocabulary(tuple(read_json(folder / "vocabulary.json"))),
        vectors=np.load(vectors, allow_pickle=False) if vectors.is_file() else None,
        pretrained={file.parent.name: load_file(file) for file in sorted(folder.glob(f"*/{WEIGHTS}"))},
        is_pretrained=np.load(seen, allow_pickle=False) if seen.is_file() else None,
    )


@dataclass(frozen=True)
class FoldData:
    """The corpus in the fold's own vocabulary, and the numbers of the sequences of each part."""

    corpus: Corpus
    vocabulary: Vocabulary
    vectors: npt.NDArray[np.float32] | None
    pretrained: Mapping[str, npt.NDArray[np.float32]]
    train: Ints
    valid: Ints
    test: Ints


def prepare_fold(data: TrainingData, held_out: npt.NDArray[np.bool_], config: TaskConfig, cell: str) -> FoldData:
    """Split the corpus and restrict the vocabulary to the tokens that the fold may know.

    These occur in the fold's training sequences at least text.min_count times, have a pretrained vector, or were seen
    by the pretrained model. Others are
    read as unknown in the rows held out, as they are in the test part. A language model reads the test part along; its
    labels, where they are known, are hidden.
    """
    corpus = data.corpus
    test = np.flatnonzero(corpus.folds == TEST_FOLD)
    train = np.flatnonzero(~held_out & (corpus.folds != TEST_FOLD))
    counts = np.bincount(corpus.tokens_of(train), minlength=len(data.vocabulary))
    known = counts >= config.text.min_count  # (V,)
    if data.vectors is not None:
        known |= np.isfinite(data.vectors).all(1)
    pretrained = dict(data.pretrained.get(cell, {}))
    if pretrained and data.is_pretrained is not None:
        known |= data.is_pretrained
    vocabulary, new_ids = data.vocabulary.restrict(known)
    known[0] = True  # the unknown token
    if pretrained:
        pretrained[EMBEDDING] = pretrained[EMBEDDING][known]
    targets = np.array(corpus.targets)
    targets[corpus.spans_of(test)] = np.nan
    return FoldData(
        corpus=replace(corpus, tokens=new_ids[corpus.tokens], targets=targets),
        vocabulary=vocabulary,
        vectors=None if data.vectors is None else data.vectors[known],
        pretrained=pretrained,
        train=np.concatenate([train, test]) if config.train.language_model else train,
        valid=np.flatnonzero(held_out),
        test=test,
    )


def set_vectors(model: SpanClassifier, vectors: npt.NDArray[np.float32], key: str) -> None:
    """Copy pretrained vectors, (V, size), into the embedding; rows of NaN stay random.

    Raises:
        UnrollError: the embedding has another size; the message names the key.
    """
    size = model.embedding.embedding_dim if model.embedding is not None else None
    if model.embedding is None or size != vectors.shape[1]:
        raise UnrollError(f"params.yaml: {key}: found {size}, but the vectors have {vectors.shape[1]} numbers a word")
    rows = torch.from_numpy(np.isfinite(vectors).all(1))
    with torch.no_grad():
        model.embedding.weight[rows] = torch.tensor(vectors)[rows]  # a copy: a worker of joblib gets a read-only array


def set_pretrained(model: SpanClassifier, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Copy the embedding and the recurrent layers of a pretrained model, whose head is of another task.

    Raises:
        UnrollError: they have other shapes.
    """
    wanted = {name: torch.tensor(array) for name, array in weights.items() if not name.startswith("head.")}
    own = model.state_dict()
    for name, tensor in wanted.items():
        if name not in own or own[name].shape != tensor.shape:
            found = tuple(own[name].shape) if name in own else "no such weights"
            raise UnrollError(
                f"pretrained weights {name}: found the shape {tuple(tensor.shape)}, expected {found}; run `dvc repro "
                "--force pretrain`"
            )
    model.load_state_dict(wanted, strict=False)
