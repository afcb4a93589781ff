"""Where each row lies: a span of a sequence of its group, or a sequence of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from unroll.core.settings import TextConfig
from unroll.text.tokenizer import get_tokenizer
from unroll.text.vocabulary import UNKNOWN

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Spans:
    """Where each of R rows lies: its sequence and the tokens from start to end, the end not included; all (R,)."""

    sequence: Ints
    start: Ints
    end: Ints


def cut_rows(rows: pd.DataFrame, config: TextConfig) -> tuple[list[list[str]], Spans, Ints]:
    """Cut a task's table of rows into tokens and place every row as a span of a sequence.

    Args:
        rows: has the columns text, group and fold; no group crosses folds.
        config: how to cut, and whether a row is read in its group's sequences or alone.

    Returns:
        S sequences, a span for each row, and the fold of each sequence, (S,).
    """
    tokenize = get_tokenizer(config)
    groups = rows["group"].tolist() if config.context == "sentence" else None
    sequences, spans = place_rows([tokenize(text) for text in rows["text"]], groups)
    _, first_rows = np.unique(spans.sequence, return_index=True)
    return sequences, spans, rows["fold"].to_numpy()[first_rows]  # the first row's fold is that of all


def place_rows(rows: Sequence[list[str]], groups: Sequence[str] | None) -> tuple[list[list[str]], Spans]:
    """LeaderboardEntry every row as a span of a sequence.

    Args:
        rows: tokens of each row, (R,). A row with no token is read as one unknown token.
        groups: group of each row, (R,). A row that stands, whole, in an earlier sequence of its group becomes a span
            of that sequence; any other becomes a sequence of its own. With None every row becomes a sequence.

    Returns:
        The sequences, in the order of their first row, and R spans.
    """
    sequences: list[list[str]] = []
    placer = SpanAligner()
    places = np.empty((len(rows), 3), dtype=np.int64)
    for number, row in enumerate(rows):
        tokens = row or [UNKNOWN]
        sequence, start = placer.place(tokens, groups[number] if groups is not None else None)
        if sequence == len(sequences):
            sequences.append(tokens)
        places[number] = sequence, start, start + len(tokens)
    return sequences, Spans(*places.T.copy())


class SpanAligner:
    """Finds each row a place in a sequence: an earlier one of its group that holds it whole, or a new one."""

    def __init__(self) -> None:
        """Begin with no sequence."""
        self.sequences = 0
        self._groups: dict[str, list[tuple[int, list[str]]]] = {}

    def place(self, tokens: list[str], group: str | None) -> tuple[int, int]:
        """Return a row's sequence and its first token there; a new sequence has the number of those before it.

        Args:
            tokens: of the row, at least one.
            group: of the row; None makes every row a sequence of its own.
        """
        known = self._groups.setdefault(group, []) if group is not None else []
        for sequence, others in known:
            start = _find(others, tokens)
            if start >= 0:
                return sequence, start
        known.append((self.sequences, tokens))
        self.sequences += 1
        return self.sequences - 1, 0

    def forget(self, group: str) -> list[int]:
        """Return a group's sequences and let go of them; no row of it may come any more."""
        return [sequence for sequence, _ in self._groups.pop(group)]


def _find(sequence: list[str], tokens: list[str]) -> int:
    """Return where the tokens first stand in the sequence, -1 where they do not."""
    start = 0
    while True:
        try:
            start = sequence.index(tokens[0], start)
        except ValueError:
            return -1
        if sequence[start : start + len(tokens)] == tokens:
            return start
        start += 1
