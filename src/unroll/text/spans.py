"""Which rows are spans of which sequences: a phrase lies inside its sentence."""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class SpanAligner:
    """Places rows one by one: inside an earlier sequence of the same group, or else as a new sequence.

    A row is searched for in each sequence of its group, in time linear in the length of both.
    """

    def __init__(self) -> None:
        """Begin with no sequence."""
        self.sequences = 0
        self._groups: dict[str, list[tuple[int, str]]] = {}

    def place(self, tokens: list[str], group: str | None) -> tuple[int, int]:
        """Return the row's sequence and the position of its first token there.

        A sequence that did not exist before has the number of those that did; the row is all of it.

        Args:
            tokens: of the row, at least one, none with a blank in it (without a group, any).
            group: of the row; None makes every row a sequence of its own.
        """
        if group is not None:
            known = self._groups.setdefault(group, [])
            row = f" {' '.join(tokens)} "  # str.find is linear and written in C, unlike a search in a list
            for sequence, text in known:
                start = text.find(row)
                if start >= 0:
                    return sequence, text.count(" ", 0, start)
            known.append((self.sequences, row))
        self.sequences += 1
        return self.sequences - 1, 0
