"""A snapshot of a working tree in which nothing has changed, over `git add -A` into a copy of its index."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from common import answer, arguments, in_turns


def main() -> None:
    args = arguments("--folder")
    from expkit import snapshot

    folder = Path(args.folder)
    scratch = Path(tempfile.mkdtemp())

    def plain() -> None:
        shutil.copy2(folder / ".git/index", scratch / "index")
        environment = os.environ | {"GIT_INDEX_FILE": str(scratch / "index")}
        subprocess.run(["git", "add", "-A"], cwd=folder, env=environment, check=True)

    snapshot.take(folder)
    answer(in_turns((lambda: snapshot.take(folder), plain), args.repeat))


main()
