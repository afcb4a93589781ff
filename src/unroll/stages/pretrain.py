"""Stage pretrain: the cells of a task learn other texts first; the task's corpus in the vocabulary of both."""

from pathlib import Path

import numpy as np

from unroll.core import paths
from unroll.core.errors import run_stage, warn
from unroll.core.files import MANIFEST, check_written, copy_folder, new_output, sha256_of_array, write_json
from unroll.core.params import read_config
from unroll.core.settings import TaskConfig
from unroll.data.corpora import find_corpus, read_documents
from unroll.data.rows import load_task
from unroll.text.documents import TokenizedDocuments, join_vocabularies, make_document_corpus, tokenize_documents
from unroll.text.encode import EncodedRows, encode_rows, read_batches
from unroll.text.vectors import extend_vocabulary
from unroll.tracking.live import LiveFold
from unroll.tracking.runs import workspace_tags
from unroll.training.distributed import join_processes, leave_processes, relaunch
from unroll.training.fold_data import TrainingData
from unroll.training.parallel import train_all
from unroll.training.pretraining import Pretraining

FEW_SHARED = 0.6  # of a task's tokens, below which a corpus is probably of another language


def main(task_name: str) -> None:
    """Write data/corpus/<task>/pretrained/: a folder a cell, and the task's corpus, vocabulary and vectors anew."""
    relaunch("unroll.stages.pretrain", [task_name])
    config, task = read_config(paths.PARAMS), load_task(paths.competition(task_name), paths.rows(task_name))
    check_written(paths.pretrained(task.name))
    sections, processes = config.task[task.name], join_processes()
    name = str(sections.pretrain.corpus)
    if processes.is_main:
        print(f"{task.name}: reading corpus {name}", flush=True)
    source = find_corpus(name, config.corpora[name], config.data, paths.DOWNLOAD_CACHE) if processes.is_main else None
    source = processes.from_main(source)
    own = encode_rows(read_batches(paths.rows(task.name)), sections.text)
    if source is None:
        documents = TokenizedDocuments.of_rows(own)
    else:
        texts = read_documents(source, config.corpora[name])
        documents = tokenize_documents(texts, sections.text, sections.pretrain.tokenizer)
    known = own.build_vocabulary(sections.text.min_count, sections.text.max_size)
    vocabulary = join_vocabularies(known, documents, sections.pretrain)
    if processes.is_main:
        compare_words(task.name, name, own, documents)
    vectors = None
    if sections.text.vectors:
        vocabulary, vectors = extend_vocabulary(vocabulary, own.tokens, sections.text.vectors, paths.VECTOR_CACHE)
    corpus = make_document_corpus(documents, vocabulary, sections.pretrain.chunk, config.seed)
    arrays = [corpus.tokens, corpus.offsets, corpus.targets, *([] if vectors is None else [vectors])]
    digest = sha256_of_array(*arrays, np.frombuffer("\n".join(vocabulary.tokens).encode(), dtype=np.uint8))
    data = TrainingData(corpus, digest, vocabulary, vectors)
    trainings = [
        Pretraining(task.name, name, cell, sections, documents.labels, config.seed)
        for cell in config.cells
        if cell in sections.pretrain.cells
    ]
    params = run_params(sections)
    listener = LiveFold(Path.cwd(), task.name, "log_loss", params, digest, workspace_tags())
    results = train_all(trainings, data, cache=paths.FOLD_CACHE, listener=listener)
    leave_processes()
    if not processes.is_main:
        return
    with new_output(paths.pretrained(task.name)) as scratch:
        own.with_vocabulary(vocabulary).save(scratch)
        write_json(scratch / "vocabulary.json", vocabulary.tokens)
        seen = documents.counts()
        is_seen = np.array([seen[token] >= sections.pretrain.min_count for token in vocabulary.tokens])
        if vectors is not None:
            np.save(scratch / "vectors.npy", vectors)
            is_seen |= np.isfinite(vectors).all(1)
        np.save(scratch / "is_pretrained.npy", is_seen)
        for training, result in zip(trainings, results, strict=True):
            folder = copy_folder(result.done, scratch / training.cell, MANIFEST)
            write_json(folder / "run.json", {"corpus": name, "corpus_sha256": digest, "params": params})


def compare_words(task: str, corpus: str, own: EncodedRows, documents: TokenizedDocuments) -> None:
    """Print the sizes of a corpus, and how many of the task's tokens occur in it; warn if few do."""
    counts = documents.counts()
    words = np.bincount(own.corpus.tokens, minlength=len(own.tokens))
    shared = words[[token in counts for token in own.tokens]].sum() / words.sum()
    print(
        f"{task}: corpus {corpus}: {len(documents.targets):,} documents of {len(documents.numbers):,} tokens, labels: "
        f"{', '.join(documents.labels) or 'none'}; {shared:.1%} of the task's tokens occur in it"
    )
    if shared < FEW_SHARED:
        warn(
            f"{task}.pretrain: only {shared:.1%} of the task's tokens occur in corpus {corpus}; check its language, "
            "pretrain.tokenizer and text.lower"
        )


def run_params(sections: TaskConfig) -> dict[str, object]:
    """Return the settings that a run logs as its parameters."""
    return {
        "pretrain": sections.pretrain.model_dump(),
        "model": sections.model.model_dump(include={"embedding", "hidden", "layers", "bidirectional"}),
        "text": sections.text.model_dump(),
    }


if __name__ == "__main__":
    run_stage(main)
