"""Moving received files: every step may be repeated after a crash, and none overwrites another's bytes."""

import errno
import os
import shutil
from pathlib import Path
from typing import Final

from lungnode.digest import file_digest

_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP)  # how file systems without hard links refuse them


def place(source: Path, folder: Path, name: str, digest: str) -> Path:
    """Give a file its lasting name in `folder`, which is made if need be; `sync_folder` makes it durable.

    Where another file has the name, `<stem>.<12 digits of the digest>.<suffix>` is taken. A repeat finds the
    first one's work and does nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / name
    beside = target.with_name(f"{target.stem}.{digest[:12]}{target.suffix}")
    for path in (target, beside):
        if _put(source, path) or path.samefile(source) or file_digest(path) == digest:
            return path
    raise FileExistsError(errno.EEXIST, "another file has both of its names", str(beside))


def _put(source: Path, target: Path) -> bool:
    try:
        target.hardlink_to(source)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in {errno.EXDEV, *_NO_LINKS}:
            raise
        return _copy(source, target)
    return True


def _copy(source: Path, target: Path) -> bool:
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        shutil.copyfile(source, partial)
        received = source.stat()
        os.utime(partial, ns=(received.st_atime_ns, received.st_mtime_ns))
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        _name(partial, target)
    except FileExistsError:
        return False
    finally:
        partial.unlink(missing_ok=True)
    return True


def _name(partial: Path, target: Path) -> None:
    try:
        target.hardlink_to(partial)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if target.exists():
            raise FileExistsError(errno.EEXIST, "taken", str(target)) from error
        partial.rename(target)
