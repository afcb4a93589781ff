"""How far a training is: a bar in a terminal, a plain line an epoch elsewhere."""

import sys
import time
from multiprocessing.synchronize import RLock

from tqdm import tqdm


class Progress:
    """Shows loss, validation score, spans a second and time left."""

    line = 0  # below the cursor, where the bars of this process stand

    def __init__(self, title: str, *, epochs: int, spans: int, done: int = 0, quiet: bool = False) -> None:
        """Begin.

        Args:
            title: stands at the beginning of each line.
            epochs: how many there will be at the most.
            spans: spans in an epoch.
            done: epochs finished before, by an interrupted run.
            quiet: show nothing.
        """
        self.title, self.epochs, self.spans, self.done = title, epochs, spans, done
        self.quiet = quiet
        self.is_terminal = sys.stderr.isatty()
        self.begin = time.perf_counter()
        self.valid = ""
        self.bar = tqdm(
            total=epochs * spans,
            initial=done * spans,
            desc=title,
            unit=" spans",
            position=self.line,
            unit_scale=True,
            disable=quiet or not self.is_terminal,
            dynamic_ncols=True,
        )

    def step(self, spans: int, loss: float) -> None:
        """Count a batch's spans and show its loss."""
        self.bar.update(spans)
        self.bar.set_postfix_str(f"loss {loss:.3f}{self.valid}", refresh=False)

    def epoch(self, epoch: int, loss: float, accuracy: float) -> None:
        """Show an epoch's mean loss and validation accuracy."""
        self.valid = f", valid accuracy {accuracy:.4f}"
        if self.quiet or self.is_terminal:
            return
        seconds = time.perf_counter() - self.begin
        rate = seconds / (epoch - self.done)
        print(
            f"{self.title}: epoch {epoch}/{self.epochs}, loss {loss:.4f}, valid accuracy {accuracy:.4f}, "
            f"{self.spans / rate:,.0f} spans/s, {rate * (self.epochs - epoch):.0f} s left",
            flush=True,
        )

    def close(self) -> None:
        """Take the bar away from the line that it stands on."""
        self.bar.close()


def share_terminal(line: int, lock: RLock) -> None:
    """Show the bars of this process on a line of their own, beside those of others that hold the same lock."""
    Progress.line = line
    tqdm.set_lock(lock)
