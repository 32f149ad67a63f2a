"""Print what the choices of the first model rest on: residual stages, painted lesions, weight decay.

`python -m trainer.compare --data ../shared/data` computes the features of stages 2 to 4 once and keeps them.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from tempfile import gettempdir
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lungnode.recipe import Recipe
from trainer.figures import STUDIES
from trainer.first_model import INITIAL, RECIPE, TESTED, Paths, build_table, read_initial
from trainer.head import Values
from trainer.metrics import auc
from trainer.table import Rows, Table, cross_validate

COLUMNS: Final = {2: slice(0, 512), 3: slice(512, 1536), 4: slice(1536, 3584)}  # of the stages' features
STAGES: Final = ((2,), (3,), (4,), (2, 3), (3, 4), (2, 3, 4))
DECAYS: Final = (0.1, 0.01, 0.001)
# AUC of held-out patients, specificity on healthy scans, AUC of left-out sources, then the mean logit of the
# two studies' most suspicious slices when their source is left out.
HEADINGS: Final = (
    *("stages", "painted", "decay"),
    *("covid-ct", "sars", "covid-ct-md", "luna16 spe"),
    *("covid-ct left out", "sars left out", "covid-ct-md left out"),
    *STUDIES,
)


@dataclass(frozen=True)
class Trial:
    """One combination of choices."""

    stages: tuple[int, ...]
    painted: bool
    weight_decay: float


def trials() -> Iterator[Trial]:
    """Yield the trials: each varies one choice of the recipe."""
    for stages in STAGES:
        yield Trial(stages, painted=True, weight_decay=RECIPE.weight_decay)
    yield Trial(RECIPE.stages, painted=False, weight_decay=RECIPE.weight_decay)
    for decay in DECAYS:
        if decay != RECIPE.weight_decay:
            yield Trial(RECIPE.stages, painted=True, weight_decay=decay)


def main(arguments: list[str]) -> int:
    """Print a Markdown table, a row a trial."""
    parser = argparse.ArgumentParser(prog="python -m trainer.compare", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path(gettempdir()) / "lungnode-features")
    wanted = parser.parse_args(arguments)
    recipe = replace(RECIPE, stages=(2, 3, 4))
    paths = Paths(wanted.data, wanted.cache, wanted.cache)
    table, _ = build_table(paths, read_initial(wanted.data / INITIAL), recipe)
    sys.stdout.write(f"| {' | '.join(HEADINGS)} |\n{'|---' * len(HEADINGS)}|\n")
    for trial in trials():
        sys.stdout.write(_row(table, trial, replace(recipe, weight_decay=trial.weight_decay)))
        sys.stdout.flush()
    return 0


def _row(table: Table, trial: Trial, recipe: Recipe) -> str:
    rows = np.ones(len(table.labels), np.bool_) if trial.painted else ~_painted(table)
    columns = np.concatenate([np.arange(COLUMNS[4].stop)[COLUMNS[stage]] for stage in trial.stages])
    chosen = _part(table, rows, columns)
    held_out = cross_validate(chosen, recipe)
    left_out = {source: _left_out(chosen, source, recipe) for source in TESTED}
    cells = [
        "+".join(map(str, trial.stages)),
        "yes" if trial.painted else "no",
        f"{trial.weight_decay:g}",
        *(f"{_area(chosen, held_out, source):.3f}" for source in TESTED),
        f"{(held_out[chosen.genuine & (chosen.sources == 'luna16')] < 0).mean():.2f}",
        *(f"{_area(chosen, logits, source):.3f}" for source, logits in left_out.items()),
        *(f"{_study(chosen, left_out['covid-ct-md'], study, recipe):+.2f}" for study in STUDIES),
    ]
    return f"| {' | '.join(cells)} |\n"


def _painted(table: Table) -> Rows:
    healthy = (table.sources == "luna16") | np.char.startswith(table.groups, "covid-ct-md/normal")
    painted: Rows = healthy & table.labels
    return painted


def _part(table: Table, rows: Rows, columns: NDArray[np.intp]) -> Table:
    return Table(
        table.features[rows][:, columns],
        table.labels[rows],
        table.sources[rows],
        table.groups[rows],
        table.file_types[rows],
        table.genuine[rows],
        table.validation[rows],
    )


def _left_out(table: Table, source: str, recipe: Recipe) -> Values:
    return table.fit(table.sources != source, recipe).logits(table.features)


def _area(table: Table, logits: Values, source: str) -> float:
    rows = table.genuine & (table.sources == source)
    return auc(logits[rows], table.labels[rows])


def _study(table: Table, logits: Values, study: str, recipe: Recipe) -> float:
    """Return the mean logit of a study's most suspicious slices."""
    rows = table.genuine & np.char.startswith(table.groups, f"covid-ct-md/{study}/")
    values = np.sort(logits[rows])
    return float(values[-ceil(recipe.suspicious_share * len(values)) :].mean())


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
