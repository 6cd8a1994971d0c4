"""Bring the results of another machine's project home, over ssh: `exp fetch`.

What comes is a fold, whole: its `result.json` says that it is done there, and which files it has. First come the small
files that say what is there; then those of the folds that are missing here, by rsync, or by tar where it lacks. They
wait in `output/.fetch/`, where they are held against the checksums. Then a fold is copied beside its place and renamed,
under the locks that a training takes. So a kill loses nothing, and the same command goes on.

The folds of two machines are one run only when configuration, code and data are the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

from expkit import files, scores, store
from expkit.config import compared, load_experiment, same
from expkit.data import read_manifest, write_manifest
from expkit.errors import Error, Failed, described, require
from expkit.project import code_root, output_dir
from expkit.snapshot import REFS, git
from expkit.store import CONFIG, INSTALLED, LOG, OOF, PRUNED, RESULT, RUN, TEST, FoldRecord, Result, RunInfo, Versions

FIND = "find -L . '(' -path ./debug -o -path ./multirun -o -path ./.fetch ')' -prune -o -print"
FIND_WANDB = "find -L wandb -name '*.wandb' -exec wc -c {} +"  # a W&B run ends after its fold, and grows until then
SMALL = re.compile(rf"\./([^/]+/.+/({RUN}|{RESULT}|{CONFIG}|{PRUNED}|{INSTALLED})|\.data/[^/]+)")


class Source:
    """The folder of a project on another machine, or of another project on this one.

    Args:
        name: HOST:PATH, as ssh calls the host; or a path here.
        lock: an open file. What runs for the source holds its lock, too; also what goes on when this process is killed.

    Attributes:
        url: as git and rsync call it.
        names: of what is in its output/.
        wandb: the bytes of each offline W&B run in its output/.

    Raises:
        Failed: there is no such folder, or the machine does not answer.
    """

    def __init__(self, name: str, lock: IO[str]) -> None:
        self._host, colon, path = name.partition(":") if re.match(r"[^-/:][^/:]*:.", name) else ("", "", name)
        self._path = path.removeprefix("~/") if colon else os.path.abspath(path)
        self.url, self._lock = f"{self._host}{colon}{self._path}", lock.fileno()
        first, *self.names = self._run(self._command(f"(command -v rsync || echo; {FIND}; {FIND_WANDB}; true)"), [])
        sizes = [re.fullmatch(r" *(\d+) (wandb/offline-run-[\w-]+)/[^/]+", line) for line in self.names]
        self.wandb = {size[2]: int(size[1]) for size in sizes if size}
        both_have_it = first.endswith("/rsync") and shutil.which("rsync") is not None
        self._by_rsync = both_have_it and shlex.quote(self._path) == self._path  # not every rsync takes another path

    def _command(self, script: str) -> list[str]:
        """What runs a script in output/ there."""
        said = "echo 'there is no output/ there: give the folder of the project' >&2"
        script = f"cd -- {shlex.quote(self._path)}/output || {{ {said}; exit 1; }}; {script}"
        return ["ssh", self._host, f"sh -c {shlex.quote(script)}"] if self._host else ["sh", "-c", script]

    def _run(self, command: list[str], names: list[str]) -> list[str]:
        done = subprocess.run(command, input=os.fsencode("\n".join(names)), capture_output=True, pass_fds=[self._lock])
        if done.returncode not in (0, 23, 24):  # rsync: a file that was listed has gone
            raise Failed(f"{self.url}: {(os.fsdecode(done.stderr).strip() or command[0]).splitlines()[-1]}")
        return os.fsdecode(done.stdout).splitlines()

    def bring(self, names: list[str], folder: Path) -> None:
        """Copy files and folders of output/ there into a folder; one may have gone meanwhile.

        Raises:
            Failed: the machine, or the disk here, has failed.
        """
        command = ["rsync", "-rtL", "--partial", "--files-from=-", f"{self.url}/output/", f"{folder}/"]
        if not self._by_rsync:
            pack = shlex.join(self._command("tar -chf - -T -"))
            end, into = shlex.quote(f"{folder}.end"), shlex.quote(str(folder))
            script = f"({pack}; echo $? >{end}) | tar -xof - -C {into} || exit; test $(cat {end}) -le 2"  # as of tar
            command = ["sh", "-c", script]
        if names:
            self._run(command, names)


class Incoming:
    """A run that is there.

    Args:
        folder: its version that counts there, with the small files alone.
        staged: the folder where the others come to.

    Attributes:
        results: of the folds that are done there, by their names.
        problems: what is wrong there, a line each.
        doubles: the folds that were trained here, too, to the same predictions.
    """

    def __init__(self, folder: Path, staged: Path) -> None:
        self.folder, self.staged, self.versions = folder, staged, Versions.of(folder)
        self.versions.parent = output_dir() / folder.parent.name
        self.title, self.problems, self.doubles = f"{folder.parent.name}/{self.versions.run}", list[str](), list[str]()
        info = store.read_checked(folder / RUN, RunInfo, self.problems)
        self.id, self.config = (info["id"], compared(info["config"])) if info else ("", {})
        self.results: dict[str, Result] = {}
        for file in sorted(folder.glob(f"*/{RESULT}")) if info else ():
            if result := store.read_checked(file, Result, self.problems):
                self.results[file.parent.name] = result

    def missing(self) -> list[str]:
        """The names of the folds that are not here.

        Raises:
            Error: none of them can come: what is here is another run.
        """
        here = store.read_run(current) if (current := self.versions.current()) else None
        parts = here.parts if here else []
        own = {part.folder.name: done for part in parts if (done := part.result or part.unscored)}
        missing = [name for name in self.results if name not in own]
        both = [name for name in self.results if name in own]  # a copy has the times of the files, too
        twice = [name for name in both if own[name]["files"] != self.results[name]["files"]]
        self.doubles = [name for name in twice if _predictions(own[name]) == _predictions(self.results[name])]
        how = f"give one of the two another name, or remove the run here: exp remove {self.title} --yes"
        if here and self.results and here.id != self.id:
            old, new = compared(here.config), self.config
            keys = [key for key in {**old, **new} if not same(old.get(key), new.get(key))]
            require(not keys, f"another configuration here ({', '.join(keys[:3])}): {how}")
            pairs = [(one, self.results[name]) for one in own.values() for name in missing]
            other = {"code" for one, two in pairs if not store.same_code(one["code"], two["code"])}
            other |= {"data" for one, two in pairs if one["data"] != two["data"]} | ({"runs"} if here.recipe else set())
            require(not other or not missing, f"of other {' and '.join(sorted(other))} here: {how}")
        names = ", ".join(name for name in twice if name not in self.doubles)
        require(not names, f"{names} trained here and there, to other predictions: {how}")
        return missing

    def fold(self, name: str) -> FoldRecord:
        """A fold as it has come: done, if it is whole."""
        return store.read_fold(self.staged, self.results[name]["fold"], self.id)

    def wanted(self) -> list[str]:
        """The names of the files that are to come; one may not be there. Errors as of `missing`."""
        found = list[str]()
        for name in self.missing():
            there, folder = f"./{self.folder.parent.name}/{self.folder.name}/{name}", self.staged / name
            result = files.text_of(self.folder / name / RESULT)
            if files.text_of(folder / RESULT) != result:  # what has come, if anything, is of an earlier training
                files.remove(folder)
                files.make_folder(folder)
                files.write_text(folder / RESULT, result)
            if self.fold(name).result is None:
                found += [f"{there}/{file}" for file in (*self.results[name]["files"], LOG)]
        return found

    def place(self) -> list[str]:
        """Put the folds that have come among those of the run here; their names. Errors as of `missing`."""
        with self.versions.locked(), ExitStack() as stack:
            come = {name: fold for name in self.missing() if (fold := self.fold(name)).result}
            if come and self.versions.current() is None:
                self.versions.make(files.read_if_whole(self.folder / RUN), files.text_of(self.folder / CONFIG))
            if version := self.versions.current():
                held, run_id = self.versions.take(version, stack, come), store.read_run(version).id or ""
                come = {name: fold for name, fold in come.items() if name not in held}
                for fold in come.values():
                    store.keep_fold(fold, version, run_id)
                    files.remove(fold.folder)
                if run_id == self.id and (pruned := files.first_line(self.folder / PRUNED)):
                    store.prune_run(version, pruned)
            return [*come]

    def report(self, found: dict[str, Any]) -> None:
        """`place` it, compute the scores that are not known, and add what there is to say to `found`, as of `fetch`."""
        refused, notes, come = [f"{problem} there" for problem in self.problems], list[str](), list[str]()
        try:
            come = self.place()
            refused += [f"{name} is not whole there, or trained here now" for name in self.missing()]
        except (Error, OSError) as error:
            refused.append(described(error))
        here = store.read_run(current) if (current := self.versions.current()) else None
        try:
            if here and here.done and here.cv is None:
                scores.update(load_experiment(here.scored_by).experiment, self.versions, here.folder)
        except Exception as error:  # whatever the code of the experiment raises
            notes.append(f"no score: {described(error)}")
        if here and come:
            found["runs"][self.title] = come
            notes += store.stale(here)
        found["refused"] += [f"{self.title}: {line}" for line in refused]
        found["notes"] += [f"{self.title}: {line}" for line in notes]


def _predictions(result: Result) -> list[str | None]:
    return [result["files"][name][-1] for name in (OOF, TEST) if name in result["files"]]


def fetch(name: str) -> dict[str, Any]:
    """Bring the folds that are done in another project and missing in this one, with their snapshots and W&B runs.

    Args:
        name: of the other project, HOST:PATH, or the path of a folder.

    Returns:
        "runs": the names of the folds that have come, by the title of the run; "refused": why others have not, a line
        each; "notes": what else there is to know, a line each.

    Raises:
        Failed: the machine does not answer, or no more; what has come whole is here.
    """
    output, found = output_dir(), dict[str, Any](runs={}, refused=[], notes=[])
    staging = output / ".fetch" / hashlib.sha256(name.encode()).hexdigest()[:16]
    staged = staging / "folds"
    files.make_folder(staging.parent)
    with open(f"{staging}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        files.make_folder(staged)  # only now: who had the lock has removed it
        source = Source(name, lock)
        about = Path(tempfile.mkdtemp(dir=staging))
        source.bring([name for name in source.names if SMALL.fullmatch(name)], about)
        try:
            git(code_root(), "fetch", "--quiet", "--no-tags", source.url, f"{REFS}/*:{REFS}/*")
        except (OSError, subprocess.CalledProcessError) as error:
            what = f"no snapshots, which exp reproduce needs: {getattr(error, 'stderr', error)}".partition("\n")[0]
            found["notes"].append(f"{what}: if the clone is elsewhere, git fetch HOST:CLONE '{REFS}/*:{REFS}/*'")
        for file in about.glob(".data/*.json"):
            if manifest := read_manifest(about, file.stem):
                write_manifest(output, file.stem, manifest)
        incoming = [Incoming(folder, staged / folder.relative_to(about)) for folder in store.run_folders(about)]
        wanted, tracked = list[str](), list[str]()
        for run in incoming:
            with suppress(Error):  # it is said below
                wanted += run.wanted()
                parts = [f"-{run.id}-{fold}-" for fold in run.results if fold not in run.doubles]
                tracked += [each for each in source.wandb if any(part in each for part in parts)]
        here = {one: sum(file.stat().st_size for file in (output / one).glob("*.wandb")) for one in tracked}
        tracked = [one for one in tracked if here[one] != source.wandb[one]]
        try:
            source.bring([*wanted, *tracked], staged)
        finally:  # what has come whole stays
            for folder in filter(Path.is_dir, (staged / each for each in tracked)):
                files.remove(output / "wandb" / folder.name)
                files.make_folder(output / "wandb")
                shutil.move(folder, output / "wandb")
            for run in incoming:
                run.report(found)
            if doubled := [run for run in incoming if run.doubles]:
                title, more = doubled[0].title, f" (and folds of other runs: {len(doubled) - 1})" * (len(doubled) > 1)
                how = f"what is here stays: exp remove {title} --yes, and fetching again, takes what is there"
                found["notes"].append(f"{title}: {', '.join(doubled[0].doubles)}{more} trained here and there; {how}")
        shutil.rmtree(staging, ignore_errors=True)  # what a kill has left running may write there
    return found
