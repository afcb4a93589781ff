"""`unroll generate`: texts from a language model, of a corpus or of a task's texts."""

import random
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from unroll.core import paths
from unroll.core.errors import UnrollError
from unroll.core.params import read_config
from unroll.core.settings import CellName, Config
from unroll.data.competition import CLASSES


def generate(
    name: Annotated[str, typer.Argument(help="A corpus of params.yaml that a task is pretrained on, or a task.")],
    begin: Annotated[str, typer.Argument(help="The beginning of the text.")] = "",
    label: Annotated[
        str | None, typer.Option(help="Label of the texts to generate, of a task of classes; by default any.")
    ] = None,
    cell: Annotated[CellName, typer.Option(help="Cell whose language model generates.")] = "LSTM",
    count: Annotated[int, typer.Option(min=1, help="How many texts.")] = 5,
    length: Annotated[int, typer.Option(min=1, help="Maximum number of tokens of a text.")] = 40,
    temperature: Annotated[float, typer.Option(min=0.01, help="Below 1: likelier texts; above: stranger ones.")] = 0.8,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same texts.")] = 1,
) -> None:
    """Show what a language model has learned: texts that it generates.

    For a task, a model of its texts with the label as input is trained on first use: half a minute for the sample's
    surnames.

    Example: unroll generate surnames --label Italian
    """
    from nltk.tokenize.treebank import TreebankWordDetokenizer

    from unroll.data.rows import load_task
    from unroll.models.generation import load_generator
    from unroll.text.documents import BEGIN, END, label_token
    from unroll.text.vocabulary import UNKNOWN_ID, get_tokenizer

    config = read_config(paths.PARAMS)
    if name in config.tasks:
        folder = train_on_task(config, name, cell)
    elif name in config.corpora:
        folder = find_pretrained(config, name, cell)
    else:
        known = ", ".join([*config.tasks, *config.corpora])
        raise UnrollError(f"{name}: expected a task or a corpus of params.yaml: {known}")
    generator = load_generator(folder)
    text = generator.bundle.text
    labels = load_task(paths.competition(name), paths.rows(name)).outputs if name in config.tasks else ()
    if label is not None and label not in labels:
        expected = f"one of {', '.join(labels)}" if labels else "none, since a corpus has no labels to ask for"
        raise UnrollError(f"--label: found {label}, expected {expected}")
    start = get_tokenizer(text)(begin)
    numbers = generator.bundle.vocabulary.encode(start)
    unknown = [token for token, number in zip(start, numbers, strict=True) if number == UNKNOWN_ID]
    if unknown:
        print(f"unknown tokens: {', '.join(unknown)}", file=sys.stderr)
    join, never = TreebankWordDetokenizer(), [BEGIN, *map(label_token, labels)]
    for number in range(count):
        asked = label or (random.Random(seed + number).choice(labels) if labels else None)
        first = BEGIN if asked is None else label_token(asked)
        tokens = [*start, *generator.generate([first, *start], END, length, temperature, seed + number, never)]
        typer.echo("".join(tokens) if text.tokenizer == "characters" else join.detokenize(tokens))


def find_pretrained(config: Config, corpus: str, cell: str) -> Path:
    """Return the folder of the model that the pretrain stage made of a corpus.

    Raises:
        UnrollError: no task is pretrained on it, or the stage has not run.
    """
    tasks = [task for task in config.pretrained if config.task[task].pretrain.corpus == corpus]
    if not tasks:
        raise UnrollError(f"params.yaml: pretrained: no task is trained on corpus {corpus}; README.md shows how")
    found = [paths.pretrained(task) / cell for task in tasks if (paths.pretrained(task) / cell).is_dir()]
    cells = {each for task in tasks for each in config.task[task].pretrain.cells}
    if cell not in cells:
        raise UnrollError(f"--cell: found {cell}, but pretrain.cells names {', '.join(sorted(cells))}")
    if not found:
        raise UnrollError(f"{paths.pretrained(tasks[0]) / cell}: no such model; run `dvc repro pretrain@{tasks[0]}`")
    return found[0]


def train_on_task(config: Config, name: str, cell: str) -> Path:
    """Return the folder of a language model of a task's texts that begin with their labels; train it, or find it.

    Raises:
        UnrollError: the task's rows are missing, or its targets are not classes.
    """
    import pyarrow.parquet as parquet

    from unroll.core.files import sha256_of_array
    from unroll.data.corpora import Document
    from unroll.data.rows import TRAIN, TRUTH, load_task
    from unroll.text.documents import join_vocabularies, make_document_corpus, tokenize_documents
    from unroll.text.vocabulary import UNKNOWN, Vocabulary
    from unroll.training.fold_data import TrainingData
    from unroll.training.parallel import FoldListener, train_all
    from unroll.training.pretraining import Pretraining

    if not paths.rows(name).is_file():
        raise UnrollError(f"{paths.rows(name)}: no such file; run `dvc repro prepare@{name}`")
    if config.task[name].model.layers > 1:
        raise UnrollError(f"{name}.model.layers: found {config.task[name].model.layers}; only one layer can generate")
    task, sections = load_task(paths.competition(name), paths.rows(name)), config.task[name]
    if task.kind not in CLASSES:
        raise UnrollError(f"{name}: targets of kind {task.kind}, expected classes, or generate from a corpus")
    columns = ["text", TRUTH + task.target.columns[0]]
    rows = parquet.read_table(paths.rows(name), columns=columns, filters=[("part", "=", TRAIN)])
    pairs = zip(*(column.to_pylist() for column in rows.columns), strict=True)
    texts = [Document(text, task.outputs[int(number)]) for text, number in pairs]
    documents = tokenize_documents(texts, sections.text, None, label_first=True)
    pretrain = sections.pretrain.model_copy(update={"min_count": 1, "max_size": None, "passes": 12})
    vocabulary = join_vocabularies(Vocabulary((UNKNOWN,)), documents, pretrain)
    corpus = make_document_corpus(documents, vocabulary, pretrain.chunk, config.seed)
    data = TrainingData(corpus, sha256_of_array(corpus.tokens, corpus.offsets), vocabulary, None)
    training = Pretraining(
        name, "its texts", cell, sections.model_copy(update={"pretrain": pretrain}), documents.labels, config.seed
    )
    with redirect_stdout(sys.stderr):  # standard output is for the texts
        return train_all([training], data, cache=paths.FOLD_CACHE, listener=FoldListener())[0].done
