"""How the help of `exp` looks: a short manual, plain text for 80 columns, with examples at its end."""

from __future__ import annotations

import inspect
from typing import Any

from typer.core import TyperCommand, TyperGroup


class _Manual:
    """Prints the epilog as it is written, below a heading."""

    epilog: str | None

    def format_epilog(self, _: Any, formatter: Any) -> None:
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.splitlines():
                    formatter.write(f"{line}\n")


class Command(_Manual, TyperCommand):
    """A command with examples."""


class Group(_Manual, TyperGroup):
    """A group of commands with examples."""


def manual(docstring: str | None) -> dict[str, Any]:
    """The help of a command, from its docstring: `help`; and `epilog`, what stands below "Examples:".

    A paragraph with a line that begins with spaces is a table: its lines stay as they are.
    """
    text, _, examples = inspect.cleandoc(docstring or "").partition("\n\nExamples:\n")
    paragraphs = [f"\b\n{part}" if "\n  " in part else part for part in text.split("\n\n")]
    return {"help": "\n\n".join(paragraphs), "epilog": examples}
