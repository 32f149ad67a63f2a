"""One training, from labelled slices to a candidate; read it from top to bottom.

samples -> examples -> features of the frozen stages, kept on disk -> epochs of the rest, a checkpoint
after each -> the best epoch's weights -> calibration and threshold on validation data -> model folder
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lungnode.durable import sync_files, sync_folder
from lungnode.errors import LungnodeError
from lungnode.model_folder import Manifest
from lungnode.network import get_weights, write_weights
from lungnode.recipe import Recipe
from trainer.bench import first_network, make_task, with_init
from trainer.candidate import describe_candidate, measure_unseen, measure_validation, write_candidate
from trainer.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from trainer.curves import draw_curves
from trainer.decide import decide
from trainer.environment import describe_environment
from trainer.initial import IMAGENET, RANDOM
from trainer.manifest import digest_samples
from trainer.progress import Progress
from trainer.run_folder import LICENSES, RunFolder, RunInfo, new_run, write_json
from trainer.samples import Sample, Split
from trainer.workbench import open_bench


def begin(path: Path, info: RunInfo, recipe: Recipe, samples: Sequence[Sample], weights: Path) -> RunFolder:
    """Make a run folder that holds all that its training needs but the slices themselves.

    Args:
        path: The folder.
        info: Name and version of the model to be.
        recipe: Of the training.
        samples: Each with its split.
        weights: Folder that a relative path of initial weights starts from.

    Raises:
        UnusableError: The folder exists, or the initial weights cannot be used.
        UnavailableError: It cannot be written.
    """
    network = first_network(recipe, weights)
    init = recipe.network.init
    named = with_init(recipe, Path(init).name)  # the folder is this machine's own
    with new_run(path, info, named, as_learnt(samples, recipe)) as run:
        write_weights(get_weights(network), recipe.network, run.first_weights)
        if init not in (RANDOM, IMAGENET):
            for license_file in sorted(_folder_of(weights / init).glob(LICENSES)):
                shutil.copyfile(license_file, run.first_weights.parent / license_file.name)
        write_json(run.path / "environment.json", describe_environment())
    return RunFolder(path)


def as_learnt(samples: Sequence[Sample], recipe: Recipe) -> list[Sample]:
    """Return the samples with the splits that they have in a training.

    An exact head has nothing to stop early: it learns from the validation patients as well, and is judged by
    a cross-validation. Nobody may take what it learnt from for its validation afterwards.
    """
    if recipe.training.optimizer != "exact":
        return list(samples)
    return [replace(s, split=Split.TRAIN) if s.split is Split.VALIDATION else s for s in samples]


def _folder_of(init: Path) -> Path:
    """Return the folder of first weights: a model's own, or the one that the file lies in."""
    return init if init.is_dir() else init.parent


def train(run: RunFolder, samples: Sequence[Sample], cache: Path, progress: Progress) -> Path:
    """Train a run to its end, from wherever it is; return the candidate's folder.

    Args:
        run: From `begin`.
        samples: Of the run.
        cache: Folder of all stores of features.
        progress: Hears what is done.

    Raises:
        UnusableError: A slice, a file of the run or what was learnt cannot be used.
        UnavailableError: A slice is away, the disk is full, or another program trains the run.
    """
    with run.locked():
        if run.model.exists():
            run.end("done")  # it was killed before it could say so
            return run.model
        run.end("running")
        try:
            _train(run, samples, cache, progress)
        except KeyboardInterrupt:
            run.end("stopped")
            raise
        except LungnodeError as error:
            run.end("failed", str(error))
            raise
        run.end("done")
    return run.model


def _train(run: RunFolder, samples: Sequence[Sample], cache: Path, progress: Progress) -> None:
    recipe = run.recipe()
    bench = open_bench(recipe, cache, progress, run.first_weights)
    samples = as_learnt(samples, recipe)
    task = make_task(samples, recipe)

    def save(checkpoint: Checkpoint) -> None:
        save_checkpoint(checkpoint, run.checkpoint)
        run.write_history(checkpoint.history)

    checkpoint = bench.fit(task, load_checkpoint(run.checkpoint), save)
    draw_curves(checkpoint.history, checkpoint.best_epoch, run.path / "curves.png")
    run.write_history(checkpoint.history)
    unseen = bench.unseen(task)
    decision = decide(unseen, recipe)
    manifest = Manifest(
        name=run.info().name,
        version=run.info().version,
        decision=decision,
        data=_digests(samples),
    )
    staged = run.path / ".model.part"
    shutil.rmtree(staged, ignore_errors=True)
    write_candidate(staged, manifest, recipe, bench.weights(), run.licenses)
    told = _told(checkpoint, bench.features_cpu_s(task, checkpoint.epoch))
    is_exact = recipe.training.optimizer == "exact"
    measured = measure_unseen(unseen, decision) if is_exact else measure_validation(staged, samples)
    describe_candidate(staged, manifest, recipe, samples, {"evaluations": measured, "training": told})
    sync_files(staged)
    staged.rename(run.model)
    sync_folder(run.path)
    progress.say(f"{told['cpu_hours']} CPU hours; kept epoch {checkpoint.best_epoch}")


def _digests(samples: Sequence[Sample]) -> dict[str, str]:
    used = {sample.split for sample in samples if sample.split}
    return {split.value: digest_samples(s for s in samples if s.split is split) for split in sorted(used)}


def _told(checkpoint: Checkpoint, features_s: float) -> dict[str, Any]:
    spent = sum(record.cpu_seconds for record in checkpoint.history) + features_s
    return {
        "epochs": checkpoint.epoch,
        "best_epoch": checkpoint.best_epoch,
        "cpu_hours": round(spent / 3600, 3),
        "last_epoch": asdict(checkpoint.history[-1]),
    }
