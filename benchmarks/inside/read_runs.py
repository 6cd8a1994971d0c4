"""The floor of the board: reads the files that it reads, and looks at those that it looks at."""

import os
import sys

for path, _, names in os.walk(sys.argv[1]):
    for name in names:
        if name in ("run.json", "result.json", "cv.json") or name.endswith(".jsonl"):
            with open(os.path.join(path, name), "rb") as stream:
                stream.read()
        elif "fold" in path:
            os.stat(os.path.join(path, name))
