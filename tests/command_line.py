"""Many commands in one other process: each runs as `lungnode` does, without a new interpreter for each."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Reads {"arguments", "answer"}, a line each, and answers {"returncode", "stdout", "stderr"}.
_DRIVER = """
import contextlib, io, json, sys
from lungnode.cli import main

for line in sys.stdin:
    asked = json.loads(line)
    sys.argv = ["lungnode", *asked["arguments"]]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        kept, sys.stdin = sys.stdin, io.StringIO(asked["answer"])
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        finally:
            sys.stdin = kept
    print(json.dumps({"returncode": code, "stdout": out.getvalue(), "stderr": err.getvalue()}), flush=True)
"""


@dataclass(frozen=True)
class Result:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        """Return the JSON document that was printed."""
        parsed: dict[str, Any] = json.loads(self.stdout)
        return parsed


class CommandLine:
    """A process that runs one command after the other."""

    def __init__(self, **variables: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LUNGNODE_")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _DRIVER],
            env=environment | {"COLUMNS": "200"} | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, data: Path, *arguments: str | Path, answer: str = "") -> Result:
        """Run a command on a data folder; `answer` is what is typed."""
        assert self._process.stdin
        assert self._process.stdout
        asked = {"arguments": [*map(str, arguments), "--data", str(data)], "answer": answer}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return Result(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)
