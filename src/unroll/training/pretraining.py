"""Pretraining: a cell learns a corpus' language, and its labels if it has any, before it learns a task."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from unroll.core.settings import ModelConfig, TaskConfig, TrainConfig
from unroll.models.bundle import Bundle
from unroll.models.language_model import PROJECTIONS
from unroll.models.span_classifier import SpanClassifier
from unroll.text.batches import iterate_batches, plan_batches
from unroll.text.corpus import Corpus, Ints
from unroll.text.documents import HELD_OUT
from unroll.training.cache import FoldResult, hash_of
from unroll.training.distributed import join_processes, predict_sharded
from unroll.training.fit import make_train_step, train_epoch
from unroll.training.fold_data import TrainingData, set_vectors
from unroll.training.progress import open_bar
from unroll.training.state import EpochRecord, OnEpoch, TrainState, derive_seed

TOKENS_A_CHECKPOINT = 2_000_000
JUDGED = 256  # held-out sequences whose perplexity is measured, by the exact softmax
LABEL_OF_NONE = ("unlabelled",)  # the output of a model of texts without labels


@dataclass(frozen=True)
class Pretraining:
    """One cell trained on a corpus, as `train_all` takes it."""

    task: str  # whose models will begin from it
    corpus: str  # its name in messages
    cell: str  # "RNN", "LSTM" or "GRU"
    config: TaskConfig  # the task's settings
    labels: tuple[str, ...]  # those of the corpus
    seed: int  # from which every training derives its own
    fold: None = None
    refit: None = None

    def __str__(self) -> str:
        """Return its name in messages."""
        return f"{self.task} {self.cell} on {self.corpus}"

    def key(self, data: TrainingData) -> str:
        """Return the hash of all that the result depends on."""
        recipe = [self.recipe().model_dump(), self.shape().model_dump(), self.config.text.model_dump()]
        return hash_of(self.cell, self.labels, self.seed, self.config.pretrain.passes, *recipe, data.digest)

    def describe(self, summary: dict[str, Any]) -> str:
        """Return the scores of a finished training, for a line of output."""
        named = {
            "perplexity": "perplexity",
            "unigram_perplexity": "of a unigram model",
            "label_accuracy": "label accuracy",
        }
        return ", ".join(f"{text} {summary[name]:.4g}" for name, text in named.items() if name in summary)

    def recipe(self) -> TrainConfig:
        """Return the settings of the training loop."""
        pretrain = self.config.pretrain
        changes = {
            "epochs": 1, "min_steps": pretrain.min_steps, "batch_size": pretrain.batch_size, "lr": pretrain.lr,
            "batch_tokens": pretrain.batch_size * pretrain.chunk, "encoder_lr": 1.0, "optimizer": "adamw",
            "weight_decay": 0.01, "clip_norm": 1.0, "schedule": "one_cycle", "warmup": 0.1, "language_model": 1.0,
            "word_dropout": 0.0, "rare_word_dropout": 0.0, "label_smoothing": 0.0, "ema": 0.0, "patience": None,
        }  # fmt: skip
        return self.config.train.model_copy(update=changes)

    def shape(self) -> ModelConfig:
        """Return the model's shape: that of the task's, with a plain head for the corpus' labels."""
        dropout = self.config.pretrain.dropout
        changes = {"embedding_dropout": dropout, "head_dropout": dropout, "layer_dropout": 0.0}
        return self.config.model.model_copy(update={**changes, "head": "linear", "head_hidden": None})

    def train(self, data: TrainingData, result: FoldResult, on_epoch: OnEpoch) -> None:
        """Train and, in the main process, save the result; see parallel.train_once."""
        seed, shape, outputs = derive_seed(self.seed, 2), self.shape(), self.labels or LABEL_OF_NONE
        torch.manual_seed(seed)
        model = SpanClassifier(self.cell, shape, len(data.vocabulary), len(outputs))
        if data.vectors is not None:
            set_vectors(model, data.vectors, f"{self.task}.model.embedding")
        state = train_on_documents(self, model, data.corpus, seed, result.checkpoints, on_epoch)
        if join_processes().is_main:
            text = self.config.text
            text = text.model_copy(update={"tokenizer": self.config.pretrain.tokenizer or text.tokenizer})
            bundle = Bundle(self.task, self.cell, "classes", outputs, text, shape, data.vocabulary, model.cpu().eval())
            perplexity = unigram_perplexity(data.corpus, len(data.vocabulary))
            with result.saved(self.fold, bundle, state.history) as (scratch, summary):
                save_file(state.language_model.cpu().state_dict(), scratch / PROJECTIONS)
                summary |= {**state.history.epochs[-1].scores, "unigram_perplexity": perplexity}


def train_on_documents(
    training: Pretraining, model: SpanClassifier, corpus: Corpus, seed: int, checkpoint: Path | None, on_epoch: OnEpoch
) -> TrainState:
    """Train a model on documents, as `make_document_corpus` cuts them, from the last checkpoint on if there is one.

    An epoch of the records is a part of a pass, of about TOKENS_A_CHECKPOINT.
    """
    processes, config = join_processes(), training.recipe()
    train, valid = np.flatnonzero(corpus.folds != HELD_OUT), np.flatnonzero(corpus.folds == HELD_OUT)
    lengths = np.diff(corpus.offsets)
    if not processes.is_main:
        checkpoint, on_epoch = None, lambda record, speed: None
    plan = partial(plan_batches, lengths[train], config.batch_size, config.batch_tokens)
    steps, tokens = len(plan()), int(lengths[train].sum())
    passes = max(training.config.pretrain.passes, math.ceil(config.min_steps / steps))
    parts = max(1, tokens // TOKENS_A_CHECKPOINT)
    counts = torch.from_numpy(np.bincount(corpus.tokens_of(train), minlength=model.tokens))
    state = TrainState(model, config, counts, passes * steps, seed, "log_loss", reports_all=True)
    done, total = state.resume(checkpoint, on_epoch), passes * tokens
    train_step = make_train_step(state, corpus)
    with open_bar(str(training), total, done * total // (passes * parts), "tokens", quiet=not processes.is_main) as bar:
        for epoch in range(done + 1, passes * parts + 1):
            torch.manual_seed(derive_seed(seed, epoch, processes.index))
            number, part = divmod(epoch - 1, parts)
            chunks = plan(np.random.default_rng([seed, number]))[part::parts]
            batches = [(train[chunk], int(lengths[train[chunk]].sum())) for chunk in chunks]
            loss = train_epoch(str(training), train_step, batches, bar, "pretrain") / sum(size for _, size in batches)
            scores = judge(state, corpus, valid, bool(training.labels))
            record = EpochRecord(epoch, loss, state.learning_rate(), scores)
            state.history.epochs.append(record)
            if checkpoint:
                state.save(checkpoint)
            on_epoch(record, None)
    state.history.best_epoch = state.history.planned = len(state.history.epochs)
    return state


def judge(state: TrainState, corpus: Corpus, valid: Ints, has_labels: bool) -> dict[str, float]:
    """Return the mean loss of a word, in nats, its perplexity, and the accuracy of labels, on documents held out."""
    if not len(valid):
        return {}
    model, device, losses = state.model, state.accelerator.device, []
    model.eval()
    with torch.inference_mode():
        for batch in iterate_batches(corpus, spread(valid, JUDGED), 64, 4096):
            batch = batch.to(device)
            hidden = model.encode(batch.tokens, batch.lengths)
            losses += [loss for _, loss in state.language_model.exact_losses(hidden, batch)]
    model.train()
    loss = float(torch.cat(losses).mean())
    scores = {"log_loss": loss, "perplexity": math.exp(min(loss, 700))}
    truth = corpus.targets[corpus.spans_of(valid), 0]
    known = np.isfinite(truth)
    if has_labels and known.any():
        predictions = predict_sharded(model, corpus, valid, join_processes())
        scores["label_accuracy"] = float((predictions.argmax(1) == truth)[known].mean())
    return scores


def unigram_perplexity(corpus: Corpus, size: int) -> float:
    """Return the perplexity of the documents held out by a model that knows only how often each of V words comes."""
    counts = np.bincount(corpus.tokens_of(np.flatnonzero(corpus.folds != HELD_OUT)), minlength=size) + 1.0  # (V,)
    words = corpus.tokens_of(spread(np.flatnonzero(corpus.folds == HELD_OUT), JUDGED))
    counts[0] = 0  # the unknown word is not predicted
    words = words[words != 0]
    return float(np.exp(-np.log(counts[words] / counts.sum()).mean())) if len(words) else math.nan


def spread(sequences: Ints, most: int) -> Ints:
    """Return at most so many of the sequences, evenly spread."""
    return sequences[np.linspace(0, len(sequences) - 1, min(most, len(sequences))).astype(np.int64)]
