"""`unroll predict`: predictions of the trained models for texts of your own."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unroll.core import paths
from unroll.core.errors import UnrollError
from unroll.core.files import new_file
from unroll.data.competition import Competition, load_competition

if TYPE_CHECKING:
    from unroll.data.texts import TextColumn
    from unroll.models.ensemble import Probabilities
    from unroll.models.predictor import EnsemblePredictor, Explanation

STANDARD_INPUT = "-"
FILE_SUFFIXES = (".csv", ".tsv", ".txt")
MAX_EXPLAINED, MAX_EXPLAINED_TOKENS = 20, 200  # the work grows with the square of a text's length
BAR_WIDTH = 16
TEXT_WIDTH = 60


def predict(
    task: Annotated[str, typer.Argument(help="The task whose models predict.")],
    texts: Annotated[
        list[str],
        typer.Argument(help="Texts; or one file: .csv, .tsv, or any other with one text a line; - is standard input."),
    ],
    cell: Annotated[str | None, typer.Option("--cell", help="Use this cell alone instead of the ensemble.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many labels a text, the most probable first.")] = 1,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with every probability.")] = False,
    explained: Annotated[bool, typer.Option("--explain", help="Show how each word or letter changed it.")] = False,
) -> None:
    """Predict labels for texts of your own; for a file, as CSV with its rows in their order.

    Put -- before a text that begins with a dash.

    Example: unroll predict surnames Nakamura "O'Brien" --top 3
    """
    competition = load_competition(paths.competition(task))
    if top > len(competition.labels):
        raise UnrollError(f"--top {top}: expected at most {len(competition.labels)}, the number of labels of {task}")
    if output is not None and output.is_dir():
        raise UnrollError(f"--output {output}: is a folder, expected a file")
    file = find_file(texts)
    if explained and (file is not None or len(texts) > MAX_EXPLAINED or as_json or output is not None):
        raise UnrollError(f"--explain: expected up to {MAX_EXPLAINED} texts as arguments, without --json and --output")
    column = read_column(competition, texts, file)
    predictor = load_models(competition, cell)
    word = "letter" if predictor.text.tokenizer == "characters" else "word"
    if explained and max(map(len, predictor.tokenize(column.texts))) > MAX_EXPLAINED_TOKENS:
        raise UnrollError(f"--explain: found a text of more than {MAX_EXPLAINED_TOKENS} {word}s; shorten it")
    probabilities = predictor.predict(column.texts)
    unknown = predictor.find_unknown(column.texts)

    if as_json:
        write(output, format_json(competition, column.texts, probabilities, unknown))
    elif file is not None or output is not None:
        from unroll.data.texts import format_csv

        write(output, format_csv(table_rows(competition, column, probabilities, top)))
        warn_of_formulas(column.texts)
    else:
        from unroll.models.predictor import explain

        explanations = explain(predictor, column.texts) if explained else []
        lines = text_lines(competition, column.texts, probabilities, explanations, top)
        write(None, "".join(f"{line}\n" for line in lines))
    report_unknown(unknown, word, of_file=file is not None)
    if file is not None and column.heading.casefold() not in {name.casefold() for name in headings(competition)}:
        print(f"{file}: line 1 was read as the heading of its only column: {shown(column.heading)}", file=sys.stderr)


def headings(task: Competition) -> tuple[str, ...]:
    """Return the accepted names of a column of texts."""
    return tuple(dict.fromkeys(("name", "text", *task.text)))


def find_file(arguments: Sequence[str]) -> str | None:
    """Return the argument that is a file, a pipe or standard input; None if all are texts.

    Raises:
        UnrollError: there are other arguments beside a file, or a missing file, to judge by its suffix.
    """
    files = [argument for argument in arguments if is_file(argument)]
    if files and len(arguments) > 1:
        raise UnrollError(f"{files[0]}: is a file, expected no other arguments beside it")
    for argument in arguments:
        if not files and argument.lower().endswith(FILE_SUFFIXES):
            raise UnrollError(f"{argument}: no such file; give a text that ends like this on standard input (-)")
    return files[0] if files else None


def is_file(argument: str) -> bool:
    """Return whether an argument is a file or, as the shell's <(…) gives, a pipe; not a folder."""
    try:
        return argument == STANDARD_INPUT or (Path(argument).exists() and not Path(argument).is_dir())
    except (OSError, ValueError):  # too long for a file name
        return False


def read_column(task: Competition, arguments: Sequence[str], file: str | None) -> "TextColumn":
    """Read the texts of a file or of standard input, or take the arguments.

    Raises:
        UnrollError: the file cannot be read, or a text is not UTF-8.
    """
    from unroll.data.texts import TextColumn, parse_texts, read_texts

    if file == STANDARD_INPUT:
        if sys.stdin is None:
            raise UnrollError("standard input is closed; pipe texts into it, one a line, or name a file")
        return parse_texts(sys.stdin.buffer.read(), "standard input", "lines", headings(task))
    if file is not None:
        return read_texts(Path(file), headings(task))
    for number, text in enumerate(arguments, start=1):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UnrollError(f"text {number}: {text!r} is not UTF-8; set the terminal to UTF-8") from None
    return TextColumn("text", list(arguments))


def load_models(task: Competition, cell: str | None) -> "EnsemblePredictor":
    """Load the models of the last `dvc repro`: one cell's, or all that have a weight in the ensemble.

    Raises:
        UnrollError: they are missing or damaged.
    """
    import torch

    from unroll.models.ensemble import load_ensemble
    from unroll.models.predictor import load_predictor
    from unroll.models.span_classifier import CELLS

    torch.set_num_threads(1)  # networks this small gain little from more, and much is lost beside another busy program
    found = {name: folders for name in CELLS if (folders := sorted(paths.model(task.name, name).glob("fold-*")))}
    if not found:
        raise UnrollError(f"{paths.models(task.name)}: no trained models; `dvc repro` trains them")
    if cell is not None:
        if cell not in found:
            raise UnrollError(f"--cell {cell}: no trained model; expected one of {', '.join(found)}")
        return load_predictor({cell: found[cell]}, {cell: 1.0}, task.labels)
    weights, calibration = load_ensemble(paths.ensemble(task.name) / "weights.json", len(task.labels))
    for name in weights:
        if name not in found:
            raise UnrollError(
                f"{paths.model(task.name, name)}: missing, and the ensemble needs it; `dvc repro` trains it, or use "
                f"--cell {next(iter(found))}"
            )
    return load_predictor({name: found[name] for name in weights}, weights, task.labels, calibration)


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


def rank(probabilities: "Probabilities", top: int) -> list[list[int]]:
    """Return the classes of the highest probabilities, (R, top); of equal ones the first."""
    ranked: list[list[int]] = (-probabilities).argsort(axis=1, kind="stable")[:, :top].tolist()
    return ranked


def format_json(
    task: Competition, texts: Sequence[str], probabilities: "Probabilities", unknown: Sequence[Sequence[str]]
) -> str:
    """Return a list with an object a text."""
    rows = zip(texts, probabilities.tolist(), rank(probabilities, 1), unknown, strict=True)
    predictions = [
        {
            "text": text,
            "label": task.labels[best],
            "name": task.label_names[best],
            "probability": row[best],
            "probabilities": dict(zip(task.labels, row, strict=True)),
            "unknown": tokens,
        }
        for text, row, [best], tokens in rows
    ]
    return json.dumps(predictions, indent=2, ensure_ascii=False) + "\n"


def table_rows(
    task: Competition, column: "TextColumn", probabilities: "Probabilities", top: int
) -> Iterator[list[str]]:
    """Yield the header and a row a text: the text, then `top` labels with their probabilities."""
    label = task.label_column.lower()
    more = [f"{name}_{place}" for place in range(2, top + 1) for name in (label, "probability")]
    yield [column.heading, label, "probability", *more]
    for text, row, best in zip(column.texts, probabilities.tolist(), rank(probabilities, top), strict=True):
        yield [text, *chain.from_iterable((task.labels[number], f"{row[number]:.6f}") for number in best)]


def text_lines(
    task: Competition,
    texts: Sequence[str],
    probabilities: "Probabilities",
    explanations: Sequence["Explanation"],
    top: int,
) -> Iterator[str]:
    """Yield a line a text, with its explanation below."""
    text_width = min(max(len(shown(text)) for text in texts), TEXT_WIDTH)
    name_width = max(map(len, task.label_names)) if len(texts) > 1 or top > 1 else 0
    for number, (text, best) in enumerate(zip(texts, rank(probabilities, top), strict=True)):
        labels = [f"{task.label_names[label]:<{name_width}} {probabilities[number, label]:.4f}" for label in best]
        yield f"{shown(text):<{text_width}}  {'  '.join(labels)}"
        if explanations:
            yield from explanation_lines(task, explanations[number])
            yield ""


def explanation_lines(task: Competition, explanation: "Explanation") -> Iterator[str]:
    """Yield a line a token: how it changed the probability of the prediction, a bar, and the prediction after it."""
    if not explanation.tokens:
        yield "  no tokens; read as one unknown token"
        return
    tokens = [shown(token) for token in explanation.tokens]
    changes = (explanation.probability - explanation.without).tolist()  # (T,)
    largest = max(*map(abs, changes), 1e-4)  # what prints as 0.0000 draws no bar
    width = max(map(len, tokens))
    yield f"  {'':<{width}}  change of {task.label_names[explanation.predicted]} by this token; prediction up to here"
    for token, change, row in zip(tokens, changes, explanation.after, strict=True):
        best = int(row.argmax())
        bar = signed_bar(change / largest)
        yield f"  {token:<{width}}  {change:+z.4f}  {bar}  {task.label_names[best]} {row[best]:.4f}"


def signed_bar(share: float) -> str:
    """Draw a share between -1 and 1 to the left or the right of a middle line."""
    bar = ("-" if share < 0 else "+") * round(BAR_WIDTH * abs(share))
    return f"{bar if share < 0 else '':>{BAR_WIDTH}}|{bar if share >= 0 else '':<{BAR_WIDTH}}"


def shown(text: str) -> str:
    """Return a text on one line, quoted if it has spaces at its ends or characters that steer a terminal."""
    return text if text and text.isprintable() and text == text.strip() else repr(text)


def warn_of_formulas(texts: Sequence[str]) -> None:
    """Print on standard error how many texts a spreadsheet would run as formulas; they are written unchanged."""
    count = sum(text.startswith(("=", "+", "-", "@", "\t", "\r")) for text in texts)
    if count:
        print(
            f"texts that begin with =, +, -, @ or a tab: {count:,}; import them as text into a spreadsheet",
            file=sys.stderr,
        )


def report_unknown(unknown: Sequence[Sequence[str]], word: str, *, of_file: bool) -> None:
    """Print on standard error how many tokens are not in the vocabulary, and the most frequent of them."""
    counts = Counter(chain.from_iterable(unknown))
    if counts:
        where = f" in {sum(map(bool, unknown)):,} of {len(unknown):,} texts" if of_file else ""
        examples = ", ".join(shown(token) for token, _ in counts.most_common(5))
        more = ", …" if len(counts) > 5 else ""
        print(f"unknown {word}s{where}: {len(counts):,} ({examples}{more})", file=sys.stderr)
