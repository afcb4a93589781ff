"""`unroll predict`: what the trained models say about texts of a person's own."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
import typer

from unroll.core import paths
from unroll.core.errors import UnrollError
from unroll.core.files import new_file
from unroll.data.competition import Competition, load_competition
from unroll.data.texts import KINDS, TextColumn, format_csv, parse_texts, read_texts
from unroll.models.ensemble import Probabilities, load_ensemble
from unroll.models.predictor import EnsemblePredictor, Explanation, explain, load_predictor
from unroll.models.span_classifier import CELLS

STANDARD_INPUT = "-"
HEADINGS = ("name", "text")
FILE_SUFFIXES = (*KINDS, ".txt")
MOST_EXPLAINED = 20  # texts
LONGEST_EXPLAINED = 200  # tokens; the work grows with their square
EXAMPLES = 5  # of unknown tokens
BAR = 24  # characters
WIDEST = 60  # characters of a text that the answers beside it make room for


def predict(
    task_name: str,
    arguments: Sequence[str],
    *,
    cell: str | None,
    top: int,
    output: Path | None,
    as_json: bool,
    explained: bool,
) -> None:
    """Answer texts, all of them or none.

    Args:
        task_name: whose models to ask.
        arguments: texts, or one file of texts, or "-" for standard input.
        cell: ask the folds of this cell alone; None asks the ensemble.
        top: how many labels a text to give, the most probable first.
        output: file that gets the answers; None prints them.
        as_json: give JSON with every probability, otherwise CSV for a file and lines for a person.
        explained: show what each token did, too.

    Raises:
        UnrollError: the models, the file or the options are not as they should be; nothing is written then.
    """
    task = load_competition(paths.competition(task_name))
    if top > len(task.labels):
        raise UnrollError(f"--top {top}: {task.name} has {len(task.labels)} labels; give a number up to that")
    if output is not None and (not output.name or output.is_dir()):
        raise UnrollError(f"--output {output}: is a folder; name a file")
    file = find_file(arguments)
    if explained and (file is not None or len(arguments) > MOST_EXPLAINED or as_json or output is not None):
        raise UnrollError(
            f"--explain: draws up to {MOST_EXPLAINED} texts given as arguments, for a person; ask without a file, "
            "--json and --output"
        )
    asked = read_column(task, file) if file is not None else TextColumn("text", check_encoding(arguments))
    predictor = find_predictor(task, cell)
    # Matrices this small gain little from more threads, and threads that wait for a core beside a training that
    # runs here make it twenty times slower.
    torch.set_num_threads(1)
    probabilities = predictor.predict(asked.texts)  # (R, C)
    unknown = predictor.find_unknown(asked.texts)
    readings = explain_all(predictor, asked.texts) if explained else []

    if as_json:
        write(output, format_json(task, asked.texts, probabilities, unknown))
    elif file is not None or output is not None:
        write(output, format_csv(table_rows(task, asked, probabilities, top)))
        tell_formulas(asked.texts)
    else:
        write(output, "".join(f"{line}\n" for line in answer_lines(task, asked.texts, probabilities, readings, top)))
    tell_unknown(predictor, unknown, of_file=file is not None)
    if file is not None and asked.heading.casefold() not in {heading.casefold() for heading in headings(task)}:
        print(f"{file}: line 1 was read as the heading of its only column: {shown(asked.heading)}", file=sys.stderr)


def headings(task: Competition) -> tuple[str, ...]:
    """Return what a column of texts may be called."""
    return tuple(dict.fromkeys((*HEADINGS, *task.text)))


def find_file(arguments: Sequence[str]) -> str | None:
    """Return the argument that is a file, or None where all are texts.

    Raises:
        UnrollError: a file is not alone, or an argument is called like a file of texts and there is none.
    """
    files = [argument for argument in arguments if is_file(argument)]
    if files and len(arguments) > 1:
        raise UnrollError(f"{files[0]}: is a file, and a file is asked alone; leave out the other arguments")
    for argument in arguments:
        if not files and Path(argument).suffix.lower() in FILE_SUFFIXES:
            raise UnrollError(f"{argument}: no such file; a text that ends so can be given on standard input, as -")
    return files[0] if files else None


def is_file(argument: str) -> bool:
    """Say whether an argument stands for a file. A pipe, as the shell's <(…) gives, is one; a folder is not."""
    if argument == STANDARD_INPUT:
        return True
    try:
        return Path(argument).exists() and not Path(argument).is_dir()
    except (OSError, ValueError):  # too long for a name: a text
        return False


def check_encoding(texts: Sequence[str]) -> list[str]:
    """Return the texts as they are.

    Raises:
        UnrollError: an argument was not UTF-8.
    """
    for number, text in enumerate(texts, start=1):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UnrollError(f"text {number}: {text!r} is not UTF-8; set the terminal to UTF-8") from None
    return list(texts)


def read_column(task: Competition, file: str) -> TextColumn:
    """Read the texts of a file or of standard input."""
    if file == STANDARD_INPUT:
        return parse_texts(sys.stdin.buffer.read(), "standard input", "lines", headings(task))
    return read_texts(Path(file), headings(task))


def find_predictor(task: Competition, cell: str | None) -> EnsemblePredictor:
    """Load the models that the last `dvc repro` left: one cell's, or all that the ensemble has weights for.

    Raises:
        UnrollError: there are none, or not all of them are there.
    """
    there = {name: folders for name in CELLS if (folders := sorted(paths.model(task.name, name).glob("fold-*")))}
    repro = "`dvc repro` (or `make repro`) in the project's folder trains them"
    if not there:
        raise UnrollError(f"{paths.model(task.name, '.')}: there are no trained models; {repro}")
    if cell is not None:
        if cell not in there:
            raise UnrollError(f"--cell {cell}: {task.name} has no trained model of it; there are {', '.join(there)}")
        return load_predictor({cell: there[cell]}, {cell: 1.0}, task.labels)
    weights, calibration = load_ensemble(paths.ensemble(task.name) / "weights.json", len(task.labels))
    for name in weights:
        if name not in there:
            raise UnrollError(
                f"{paths.model(task.name, name)}: the ensemble needs this model and it is not there; {repro}, "
                f"--cell {next(iter(there))} asks one that is there"
            )
    return load_predictor({name: there[name] for name in weights}, weights, task.labels, calibration)


def explain_all(predictor: EnsemblePredictor, texts: Sequence[str]) -> list[Explanation]:
    """Explain every text.

    Raises:
        UnrollError: a text is too long for it.
    """
    for number, row in enumerate(predictor.tokenize(texts), start=1):
        if len(row) > LONGEST_EXPLAINED:
            raise UnrollError(
                f"--explain: text {number} has {len(row):,} {token_word(predictor)}s; give up to {LONGEST_EXPLAINED}"
            )
    return explain(predictor, texts)


def write(output: Path | None, text: str) -> None:
    """Print the answers, or write them into a file that takes its name once it is whole.

    Raises:
        UnrollError: the file cannot be written.
    """
    if output is None:
        typer.echo(text.encode(), nl=False)
        return
    try:
        with new_file(output) as scratch:
            scratch.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise UnrollError(f"{output}: cannot be written ({error.strerror}); give --output another name") from None


def rank(probabilities: Probabilities, top: int) -> list[list[int]]:
    """Return the numbers of each text's most probable classes, the first of equal ones first, (R, top)."""
    ranked: list[list[int]] = np.argsort(-probabilities, axis=1, kind="stable")[:, :top].tolist()
    return ranked


def format_json(
    task: Competition, texts: Sequence[str], probabilities: Probabilities, unknown: Sequence[Sequence[str]]
) -> str:
    """Return a list with an object a text."""
    answers = [
        {
            "text": text,
            "label": task.labels[best],
            "name": task.label_names[best],
            "probability": row[best],
            "probabilities": dict(zip(task.labels, row, strict=True)),
            "unknown": tokens,
        }
        for text, row, [best], tokens in zip(
            texts, probabilities.tolist(), rank(probabilities, 1), unknown, strict=True
        )
    ]
    return json.dumps(answers, indent=2, ensure_ascii=False) + "\n"


def table_rows(task: Competition, asked: TextColumn, probabilities: Probabilities, top: int) -> Iterator[list[str]]:
    """Yield the header and a row a text: the text under its own heading, then labels as a submission has them."""
    answer = task.label_column.lower()
    more = [f"{heading}_{place}" for place in range(2, top + 1) for heading in (answer, "probability")]
    yield [asked.heading, answer, "probability", *more]
    for text, row, best in zip(asked.texts, probabilities.tolist(), rank(probabilities, top), strict=True):
        yield [text, *chain.from_iterable((task.labels[number], f"{row[number]:.6f}") for number in best)]


def answer_lines(
    task: Competition, texts: Sequence[str], probabilities: Probabilities, readings: Sequence[Explanation], top: int
) -> Iterator[str]:
    """Yield a line a text for a person, and what explains it below."""
    text_width = min(max(len(shown(text)) for text in texts), WIDEST)
    name_width = max(map(len, task.label_names)) if len(texts) > 1 or top > 1 else 0
    for number, (text, best) in enumerate(zip(texts, rank(probabilities, top), strict=True)):
        named = [f"{task.label_names[label]:<{name_width}} {probabilities[number, label]:.4f}" for label in best]
        yield f"{shown(text):<{text_width}}  {'  '.join(named)}"
        if readings:
            yield from reading_lines(task, readings[number])
            yield ""


def reading_lines(task: Competition, reading: Explanation) -> Iterator[str]:
    """Yield a line a token with a bar each: what the token changed, then the answer after it."""
    if not reading.tokens:
        yield "  there is nothing in it to read, and that is read as one unknown token"
        return
    tokens = [shown(token) for token in reading.tokens]
    width = max(map(len, tokens))
    answer = task.label_names[reading.answer]
    yield f"  what each changed: {answer} {reading.probability:.4f}, less its probability with an unknown one instead"
    changes = reading.probability - reading.without  # (T,)
    largest = max(float(np.abs(changes).max()), 1e-4)  # what prints as 0.0000 draws no bar
    for token, change in zip(tokens, changes.tolist(), strict=True):
        yield f"    {token:<{width}}  {change:+z.4f}  {signed_bar(change / largest)}".rstrip()
    yield "  step by step: the most probable label after each"
    name_width = max(map(len, task.label_names))
    for token, row in zip(tokens, reading.after, strict=True):
        best = int(row.argmax())
        bar = "#" * round(BAR * float(row[best]))
        yield f"    {token:<{width}}  {task.label_names[best]:<{name_width}}  {row[best]:.4f}  {bar}".rstrip()


def signed_bar(share: float) -> str:
    """Draw a share between -1 and 1 to the left or the right of a middle line."""
    length = round(BAR * abs(share))
    return f"{'-' * length if share < 0 else '':>{BAR}}|{'+' * length if share > 0 else ''}"


def shown(text: str) -> str:
    """Return a text in one line in which its ends can be seen and nothing steers the terminal."""
    return text if text and text.isprintable() and text == text.strip() else repr(text)


def token_word(predictor: EnsemblePredictor) -> str:
    """Return what a token is, for people."""
    return "letter" if predictor.text.tokenizer == "characters" else "word"


def tell_formulas(texts: Sequence[str]) -> None:
    """Say on standard error that a spreadsheet would run texts as formulas. They are written letter for letter."""
    formulas = sum(text.startswith(("=", "+", "-", "@", "\t", "\r")) for text in texts)
    if formulas:
        text = "1 text begins" if formulas == 1 else f"{formulas:,} texts begin"
        print(f"{text} with =, +, -, @ or a tab: a spreadsheet should import that column as text", file=sys.stderr)


def tell_unknown(predictor: EnsemblePredictor, unknown: Sequence[Sequence[str]], *, of_file: bool) -> None:
    """Say on standard error how many tokens the model does not know, the most frequent ones first."""
    counts = Counter(chain.from_iterable(unknown))
    if not counts:
        return
    word = token_word(predictor) + ("s" if len(counts) > 1 else "")
    where = f", in {sum(map(bool, unknown)):,} of {len(unknown):,} texts," if of_file else ""
    examples = ", ".join(shown(token) for token, _ in counts.most_common(EXAMPLES))
    rest = ", …" if len(counts) > EXAMPLES else ""
    print(f"{len(counts):,} {word}{where} unknown to the model, read as such: {examples}{rest}", file=sys.stderr)
