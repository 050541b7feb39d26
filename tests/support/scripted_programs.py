"""Programs on the PATH that record their calls and answer by a script."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROGRAM = """#!{python} -IS
import json, pathlib, sys
folder = pathlib.Path({folder!r})
call = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
stdin = sys.stdin.read() if "-" in call else ""
with (folder / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps({{"call": call, "stdin": stdin}}) + "\\n")
answers_path = folder / "answers.json"
answers = json.loads(answers_path.read_text())
for number, (words, output, code, times) in enumerate(answers):
    if all(word in call for word in words) and times != 0:
        answers[number][3] = times - 1
        answers_path.write_text(json.dumps(answers))
        print(output if code == 0 else "", end="")
        print(output if code != 0 else "", end="", file=sys.stderr)
        sys.exit(code)
"""


@dataclass(frozen=True, slots=True)
class ScriptedPrograms:
    """A folder for the PATH."""

    folder: Path

    def install(self, *names: str) -> None:
        (self.folder / "answers.json").write_text("[]")
        for name in names:
            program = self.folder / name
            text = _PROGRAM.format(python=sys.executable, folder=str(self.folder))
            program.write_text(text, encoding="utf-8")
            program.chmod(0o755)

    def answer(self, *words: str, output: Any = "", code: int = 0, times: int = -1) -> None:
        """Answer calls with all of these words, at most `times`; earlier answers come first.

        Calls without an answer succeed and print nothing.
        """
        path = self.folder / "answers.json"
        text = output if isinstance(output, str) else json.dumps(output)
        answers = [*json.loads(path.read_text()), [list(words), text, code, times]]
        path.write_text(json.dumps(answers))

    def calls(self) -> list[tuple[str, str]]:
        """Return the command and the standard input of each call, in order."""
        path = self.folder / "calls.jsonl"
        if not path.exists():
            return []
        lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        return [(" ".join(line["call"]), line["stdin"]) for line in lines]

    def commands(self) -> list[str]:
        return [command for command, _ in self.calls()]
