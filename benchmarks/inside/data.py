"""The record of the data: 1,000 files that have not changed, over os.stat of each; a new gigabyte, over its hash."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from pathlib import Path

from common import answer, arguments, in_turns


def main() -> None:
    args = arguments("--megabytes")
    root = Path(tempfile.mkdtemp(dir="output")).resolve()
    os.environ["PROJECT_ROOT"] = str(root)
    from expkit.data import hash_inputs

    many = root / "input/many"
    many.mkdir(parents=True)
    for number in range(1000):
        (many / f"{number:04d}.bin").write_bytes(os.urandom(10_000))
    old = time.time() - 100
    for file in many.iterdir():
        os.utime(file, (old, old))
    time.sleep(2.5)  # what has changed a moment ago is read once more
    hash_inputs()

    def plain_stat() -> None:
        for path, _, names in os.walk(root / "input"):
            for name in names:
                os.stat(os.path.join(path, name))

    unchanged = in_turns((lambda: hash_inputs(), plain_stat), args.repeat)
    large = root / "large.bin"
    with open(large, "wb") as stream:
        block = os.urandom(2**20)
        for _ in range(int(args.megabytes or 1000)):
            stream.write(block)
    ages = iter(range(1000))

    def new() -> None:
        age = old - next(ages)
        os.utime(large, (age, age))
        hash_inputs([str(large)])

    def plain_hash() -> None:
        with open(large, "rb") as stream:
            hashlib.file_digest(stream, "sha256").hexdigest()

    answer({"unchanged": unchanged, "new": in_turns((new, plain_hash), args.repeat)})


main()
