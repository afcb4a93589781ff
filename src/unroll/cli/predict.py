"""`unroll predict`: predictions of the trained models for texts of your own."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unroll.core import paths
from unroll.core.errors import UnrollError
from unroll.core.files import new_file
from unroll.data.competition import CLASSES, Competition
from unroll.data.texts import TextColumn, format_csv, parse_texts, read_texts
from unroll.models.decisions import Decision, Floats, name_prediction

if TYPE_CHECKING:
    from unroll.models.ensemble import Probabilities
    from unroll.models.predictor import EnsemblePredictor, Explanation

STANDARD_INPUT = "-"
FILE_SUFFIXES = (".csv", ".tsv", ".txt")
MAX_EXPLAINED, MAX_EXPLAINED_TOKENS = 20, 200  # the work grows with the square of a text's length
BAR_WIDTH, TEXT_WIDTH = 16, 60


def predict(
    task: Annotated[str, typer.Argument(help="The task whose models predict.")],
    texts: Annotated[
        list[str],
        typer.Argument(help="Texts; or one file: .csv, .tsv, or any other with one text a line; - is standard input."),
    ],
    cell: Annotated[str | None, typer.Option("--cell", help="Use this cell alone instead of the ensemble.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many labels per text, the most probable first.")] = 1,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with every probability.")] = False,
    explained: Annotated[bool, typer.Option("--explain", help="Show the effect of each word or letter.")] = False,
) -> None:
    """Predict labels for texts of your own; for a file, as CSV with its rows in their order.

    Put -- before a text that begins with a dash.

    Example: unroll predict surnames Nakamura "O'Brien" --top 3
    """
    from unroll.data.rows import load_task

    competition = load_task(paths.competition(task), paths.rows(task))
    most = len(competition.outputs) if competition.kind in CLASSES else 1
    if top > most:
        why = f"the number of labels of {task}" if most > 1 else "since more is for tasks with one label per text"
        raise UnrollError(f"--top {top}: expected at most {most}, {why}")
    file = find_file(texts)
    if explained and (file is not None or len(texts) > MAX_EXPLAINED or as_json or output is not None):
        raise UnrollError(f"--explain: expected up to {MAX_EXPLAINED} texts as arguments, without --json and --output")
    headings = tuple(dict.fromkeys(("name", "text", *competition.text)))
    column = read_column(headings, competition.text, texts, file)
    predictor, decision = load_models(competition, cell)
    word = "letter" if predictor.text.tokenizer == "characters" else "word"
    if explained and max(map(len, predictor.tokenize(column.texts))) > MAX_EXPLAINED_TOKENS:
        raise UnrollError(f"--explain: found a text of more than {MAX_EXPLAINED_TOKENS} {word}s; shorten it")
    predictions = predictor.predict(column.texts)
    found = Predictions(competition, predictions, decision.apply(predictions, competition))
    unknown = predictor.find_unknown(column.texts)

    if as_json:
        write(output, format_json(found, column.texts, unknown))
    elif file is not None or output is not None:
        write(output, format_csv(table_rows(found, column, top)))
    else:
        from unroll.models.predictor import explain

        explanations = explain(predictor, column.texts) if explained else []
        typer.echo("\n".join(text_lines(found, column.texts, explanations, top)))
    if counts := Counter(chain.from_iterable(unknown)):
        where = f" in {sum(map(bool, unknown)):,} of {len(unknown):,} texts" if file is not None else ""
        examples = ", ".join([*(shown(token) for token, _ in counts.most_common(5)), *["…"][: len(counts) > 5]])
        print(f"unknown {word}s{where}: {len(counts):,} ({examples})", file=sys.stderr)
    if file is not None and column.heading.casefold() not in {name.casefold() for name in headings}:
        print(f"{file}: line 1 was read as the header; its only column is {shown(column.heading)}", file=sys.stderr)


def find_file(arguments: Sequence[str]) -> str | None:
    """Return the argument that is a file, a pipe or standard input; None if all are texts.

    Raises:
        UnrollError: there are other arguments beside a file, or a missing file, to judge by its suffix.
    """
    for argument in arguments:
        try:
            # not a folder; a pipe, as the shell's <(…) gives, is a file
            is_file = argument == STANDARD_INPUT or (Path(argument).exists() and not Path(argument).is_dir())
        except (OSError, ValueError):  # too long for a file name
            is_file = False
        if is_file and len(arguments) > 1:
            raise UnrollError(f"{argument}: is a file, expected no other arguments beside it")
        if is_file:
            return argument
        if argument.lower().endswith(FILE_SUFFIXES):
            raise UnrollError(f"{argument}: no such file; give a text with such an end on standard input (-)")
    return None


def read_column(
    headings: Sequence[str], together: Sequence[str], arguments: Sequence[str], file: str | None
) -> TextColumn:
    """Read the texts of a file, see data.texts.read_texts, or of standard input, or take the arguments.

    Raises:
        UnrollError: the file cannot be read, or a text is not UTF-8.
    """
    if file == STANDARD_INPUT:
        if sys.stdin is None:
            raise UnrollError("standard input is closed; pipe texts into it, one a line, or name a file")
        return parse_texts(sys.stdin.buffer.read(), "standard input", "lines", headings)
    if file is not None:
        return read_texts(Path(file), headings, together)
    for number, text in enumerate(arguments, start=1):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UnrollError(f"text {number}: {text!r} is not UTF-8; set the terminal to UTF-8") from None
    return TextColumn("text", list(arguments))


def load_models(task: Competition, cell: str | None) -> "tuple[EnsemblePredictor, Decision]":
    """Load the models of the last `dvc repro`, one cell's or all that have a weight in the ensemble, and the decision.

    Raises:
        UnrollError: they are missing or damaged.
    """
    import torch

    from unroll.models.bundle import find_bundles
    from unroll.models.ensemble import load_ensemble
    from unroll.models.predictor import load_predictor
    from unroll.models.span_classifier import CELLS

    torch.set_num_threads(1)  # networks this small gain little from more, and much is lost beside another busy program
    found = {name: folders for name in CELLS if (folders := find_bundles(paths.model(task.name, name)))}
    if not found:
        raise UnrollError(f"{paths.models(task.name)}: no trained models; `dvc repro` trains them")
    weights, calibration, decision = {str(cell): 1.0}, None, Decision.default(task)
    if cell is None:
        weights, calibration, decision = load_ensemble(paths.ensemble(task.name) / "weights.json", task)
    for name in weights:
        if name not in found:
            use = f"use --cell {' or '.join(found)}"
            raise UnrollError(f"{paths.model(task.name, name)}: no trained model; `dvc repro` trains it, or {use}")
    return load_predictor({name: found[name] for name in weights}, weights, task.outputs, calibration), decision


def write(output: Path | None, text: str) -> None:
    """Print the predictions, or write them to a file at once.

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
        raise UnrollError(f"--output {output}: cannot be written ({error.strerror}); give another file") from None


@dataclass(frozen=True)
class Predictions:
    """What a task's models predict for R texts: the outputs, (R, P), and what is decided from them, (R, K)."""

    task: Competition
    outputs: "Probabilities"
    decided: Floats

    def rank(self, row: int, top: int) -> list[int]:
        """Return the outputs of a text to show: classes with the decided one first, decided labels, all numbers."""
        if self.task.kind in CLASSES:
            first = int(self.decided[row, 0])
            others = (-self.outputs[row]).argsort(kind="stable").tolist()
            return [first, *(number for number in others if number != first)][:top]
        size = len(self.task.outputs)
        return [number for number in range(size) if self.task.kind == "number" or self.decided[row, number]]


def format_json(found: Predictions, texts: Sequence[str], unknown: Sequence[Sequence[str]]) -> str:
    """Return a list with an object a text."""
    task, content = found.task, []
    for text, outputs, decided, tokens in zip(texts, found.outputs, found.decided, unknown, strict=True):
        named = name_prediction(task, outputs, decided)
        name = {"name": task.output_names[int(decided[0])]} if task.kind in CLASSES else {}
        content.append({"text": text, **named, **name, "unknown": tokens})
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def table_rows(found: Predictions, column: TextColumn, top: int) -> Iterator[list[str]]:
    """Yield the header and a row a text: the text, then `top` labels with their probabilities, or all outputs."""
    task = found.task
    if task.kind not in CLASSES:
        yield [column.heading, *task.outputs]
        for text, row in zip(column.texts, found.outputs.tolist(), strict=True):
            yield [text, *(f"{value:.6f}" for value in row)]
        return
    label = task.target.columns[0].lower()
    more = [f"{name}_{place}" for place in range(2, top + 1) for name in (label, "probability")]
    yield [column.heading, label, "probability", *more]
    for row, text in enumerate(column.texts):
        shown = ((task.outputs[number], f"{found.outputs[row, number]:.6f}") for number in found.rank(row, top))
        yield [text, *chain.from_iterable(shown)]


def text_lines(
    found: Predictions, texts: Sequence[str], explanations: Sequence["Explanation"], top: int
) -> Iterator[str]:
    """Yield a line a text, with its explanation below."""
    names = found.task.output_names
    text_width = min(max(len(shown(text)) for text in texts), TEXT_WIDTH)
    name_width = max(map(len, names)) if len(texts) > 1 or top > 1 else 0
    for row, text in enumerate(texts):
        labels = [f"{names[number]:<{name_width}} {found.outputs[row, number]:.4f}" for number in found.rank(row, top)]
        yield f"{shown(text):<{text_width}}  {'  '.join(labels) or 'none'}"
        if explanations:
            yield from explanation_lines(found.task, explanations[row])
            yield ""


def explanation_lines(task: Competition, explanation: "Explanation") -> Iterator[str]:
    """Yield a line a token: how it changed the probability of the prediction, a bar, and the prediction after it."""
    tokens = [shown(token) for token in explanation.tokens]
    changes = (explanation.probability - explanation.without).tolist()  # (T,)
    largest = max([*map(abs, changes), 1e-4])  # what prints as 0.0000 draws no bar
    width = max(map(len, tokens), default=0)
    yield f"  {'':<{width}}  change of {task.output_names[explanation.predicted]} by this token; prediction up to here"
    for token, change, row in zip(tokens, changes, explanation.after, strict=True):
        best, bar = int(row.argmax()), ("-" if change < 0 else "+") * round(BAR_WIDTH * abs(change) / largest)
        left, right = (bar, "") if change < 0 else ("", bar)
        drawn = f"{left:>{BAR_WIDTH}}|{right:<{BAR_WIDTH}}"
        yield f"  {token:<{width}}  {change:+z.4f}  {drawn}  {task.output_names[best]} {row[best]:.4f}"


def shown(text: str) -> str:
    """Return a text on one line, quoted if it has spaces at its ends or characters that steer a terminal."""
    return text if text and text.isprintable() and text == text.strip() else repr(text)
