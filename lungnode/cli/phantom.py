"""Commands: phantom."""

from pathlib import Path
from typing import Annotated

import typer

from lungnode.errors import UnusableError


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(phantom)


def phantom(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write to.", file_okay=False)],
    slices: Annotated[int, typer.Option(min=1, max=2000, help="Number of slices.")] = 60,
    lesions: Annotated[bool, typer.Option("--lesions", help="Draw ground-glass opacities.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another patient.")] = 0,
) -> None:
    """Write a synthetic chest CT study: valid DICOM, Hounsfield units, no patient."""
    from lungnode.phantom import Patient, phantom_study  # noqa: PLC0415 - loads SciPy

    try:
        if out.is_dir() and any(out.iterdir()):
            raise UnusableError(f"The folder {out} is not empty; a phantom needs one of its own.")
        patient = Patient(patient_id=f"PHANTOM-{seed}")
        study = phantom_study(out, slices, lesions, seed, patient=patient)
    except OSError as error:
        raise UnusableError(f"The folder {out} cannot be written: {error.strerror}.") from error
    typer.echo(
        f"{len(study.paths)} slices in {out}, lung on {study.first + 1} to {study.last + 1}, "
        f"opacities on {len(study.lesion_slices)}: study {study.study_instance_uid}"
    )
