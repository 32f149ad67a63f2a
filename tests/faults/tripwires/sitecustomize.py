"""Kills the program that loads it at a named point of its own code, for tests of faults.

Python imports `sitecustomize` from PYTHONPATH when it starts. Where FAULT_POINTS names a folder, the
functions below are wrapped as soon as their modules are loaded. A point is armed by a file of its name in the
folder; the process that comes there first renames the file, so that the hit is counted once, and ends itself
by SIGKILL. What is not armed costs a rename that fails. The product knows nothing of it, and a function that
is not there any more keeps the program from starting, so that no point is silently never hit.
"""

import functools
import os
import signal
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, Final

VARIABLE: Final = "FAULT_POINTS"


@dataclass(frozen=True)
class Point:
    """Where a program is killed: before or after a call of a function."""

    name: str
    module: str
    function: str
    is_before: bool
    program: str = ""  # words of the command; empty: any
    fits: Callable[..., bool] = lambda *_, **__: True

    @property
    def file(self) -> str:
        """The name of the file that arms it."""
        return self.name.replace(" ", "-").replace("'", "")


def _is_in_spool(descriptor: int) -> bool:
    is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
    return is_folder and "/spool/" in str(Path(f"/proc/self/fd/{descriptor}").readlink())


def _shows_something(_model: object, slices: Any, **_: Any) -> bool:
    return bool(slices.any())  # not the warm-up


POINTS: Final = (
    Point("after rename before directory sync", "os", "fsync", True, " receive", _is_in_spool),
    Point("mid-release of a scanner", "daemon.receiver.pdu", "encode_release_response", True, " receive"),
    Point("mid-batch of files", "lungnode.store.placing", "place", False, " clerk"),
    Point("after commit before unlink", "daemon.clerk.index", "_discard", True, " clerk"),
    Point("after commit before wake-up", "lungnode.queue", "wake", True),
    Point(
        "mid-batch of slices",
        "lungnode.runtime.loaded",
        "LoadedModel.predict",
        False,
        "--queue analysis",
        _shows_something,
    ),
    Point("after files before their rows", "worker.results", "commit", False, "--queue analysis"),
    Point(
        "after a C-STORE-RSP before its row",
        "worker.carriers.dimse",
        "StorageScp.store",
        False,
        "--queue delivery",
    ),
    Point("mid-release of ours", "pynetdicom.acse", "ACSE.send_release", False, "--queue delivery"),
)


def _end_at(armed: Path) -> None:
    try:
        armed.rename(armed.with_name(f"{armed.name}.hit"))
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()  # it is on its way


def _wrap(point: Point, armed: Path, call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        if point.is_before and point.fits(*arguments, **named):
            _end_at(armed)
        answer = call(*arguments, **named)
        if not point.is_before and point.fits(*arguments, **named):
            _end_at(armed)
        return answer

    return wrapped


def _install(module: ModuleType, folder: Path) -> None:
    program = " ".join(sys.orig_argv) + " "
    for point in POINTS:
        if point.module == module.__name__ and point.program in program:
            *owners, name = point.function.split(".")
            owner = functools.reduce(getattr, owners, module)
            setattr(owner, name, _wrap(point, folder / point.file, getattr(owner, name)))


class _Finder(MetaPathFinder):
    """Lets the modules of the points be changed when they have been loaded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._modules = {point.module for point in POINTS}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find one of them as Python would."""
        if fullname not in self._modules:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_install(module: ModuleType) -> None:
                load(module)
                _install(module, self._folder)

            spec.loader.exec_module = load_and_install  # type: ignore[method-assign]
        return spec


if VARIABLE in os.environ:
    _install(os, Path(os.environ[VARIABLE]))
    sys.meta_path.insert(0, _Finder(Path(os.environ[VARIABLE])))
