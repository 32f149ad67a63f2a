"""Commands: demo."""

import time
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from lungnode.cli._demo_node import DemoNode

_SLICES: Final = 40
_LIMIT_S: Final = 900.0  # for the results; a large study on a slow machine


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(demo)


def demo(
    study: Annotated[
        Path | None,
        typer.Option(help="Folder of a chest CT study, instead of a phantom.", exists=True, file_okay=False),
    ] = None,
) -> None:
    """Show the main job: a chest CT goes in, a report and heatmaps arrive at a stand-in PACS."""
    from rich.console import Console  # noqa: PLC0415 - when called

    from lungnode.cli._demo_node import clean_up, demo_node  # noqa: PLC0415

    console, start = Console(), time.monotonic()
    folder = Path(mkdtemp(prefix="lungnode-demo-"))
    kept = [folder / "node.log"]  # of a demo that failed
    try:
        with demo_node(folder) as node:
            kept = [_show(console, node, study)]
    except KeyboardInterrupt:
        kept = []
        raise
    finally:
        clean_up(folder, kept)
    console.print(f"All of it took {time.monotonic() - start:.0f} s.")


def _show(console: "Console", node: "DemoNode", study: Path | None) -> Path:
    """Send the study, wait, tell what became of it, and return the heatmap's file."""
    from lungnode.cli._story import read_arrived, read_result, save_heatmap, tell  # noqa: PLC0415

    with console.status("Starting the node") as status:
        paths = _instances(node, study)
        receiver = node.receiver()
        console.print(f"Lungnode listens on port {receiver.port}; a stand-in PACS waits for results.")
        status.update(f"Sending {len(paths)} instances")
        _send(node, paths)
        console.print(f"Sent {len(paths)} instances over one association.")
        status.update("Waiting for the report and the heatmaps at the stand-in PACS")
        result = node.wait_for(lambda: read_result(node.data), _LIMIT_S, "the results")
        arrived = read_arrived(node.received, result)
    heatmap = node.folder / "heatmap.png"
    save_heatmap(arrived, result, heatmap)
    tell(console, result, arrived, heatmap)
    return heatmap


def _instances(node: "DemoNode", study: Path | None) -> list[Path]:
    if study is not None:
        return sorted(path for path in study.rglob("*") if path.is_file())
    from lungnode.phantom import phantom_study  # noqa: PLC0415

    return list(phantom_study(node.folder / "study", _SLICES, lesions=True).paths)


def _send(node: "DemoNode", paths: list[Path]) -> None:
    from lungnode.cli._sender import send  # noqa: PLC0415

    send(node.receiver(), "DEMO", paths)
