"""How the trainer's work is shown: bars on a terminal, lines in the log otherwise."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from trainer.progress import LoggedProgress, Progress


@contextmanager
def shown() -> Iterator[Progress]:
    """Show what is begun, on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield LoggedProgress()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bar(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        yield BarProgress(bar)


class BarProgress:
    """A bar for the work that was begun last."""

    def __init__(self, bar: Bar) -> None:
        """Show in `bar`."""
        self._bar = bar
        self._task = bar.add_task("Preparing", total=None)

    def begin(self, what: str, total: int) -> None:
        """Show another piece of work."""
        self._bar.remove_task(self._task)
        self._task = self._bar.add_task(what, total=total)

    def advance(self, steps: int = 1) -> None:
        """Move the bar."""
        self._bar.advance(self._task, steps)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(line, markup=False)
