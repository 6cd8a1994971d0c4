"""The files of a run: their names, what each holds, what "done" means, what the score is, and what is broken.

    output/<experiment>/<run>/      a version of the run; <run>@2, <run>@3, ... are later ones, made by overwrite=true
        config.yaml                 the configuration, for people
        run.json                    the configuration and the metric, for programs
        fold0/result.json           written last: the fold is done; lists the files that belong to it
        fold0/origin.json           how the fold was made: command, code, packages, machine
        fold0/oof.npz               out-of-fold predictions
        fold0/lockbox.npz           predictions of what exp.split.lockbox sets aside, which `exp unlock` alone scores
        fold0/history.csv, train.log, model.*
        fold0/failed.txt        why the last training of a fold has failed, until the next one
        fold0/checkpoint/       the last state of a training that is under way
        fold0/state/            what the training has learned, from which exp.start_from of another run begins
        full/                       exp.mode=sub: the same, trained on all rows, with submission.csv
        pruned.txt                  where a study has ended the run early, until it is trained to its end
        cv.json                     every score, made from the predictions of the folds; can be deleted and made again
        installed.txt               empty: this version has taken the place of those before it; none: the lowest counts
    output/blends/<run>/                    a run that is a blend of others: `exp blend`
    output/submissions/<name>.csv, .json    what `exp submit` has made, and of which runs
    notes/<experiment>.jsonl                what a person thinks of its runs: `exp note`

Everything else reads and writes a run through this room. Nothing here raises for what it finds on the disk: what does
not fit is a problem, and what has a problem does not count. Nothing that is read is executed.

`records` has the names and the types, and a fold; `versions` where runs lie, locks, and what is written; `runs` reads a
run; `marks` says what to know of its score.
"""

# What the rest of expkit finds here is whatever these four have.
# ruff: noqa: F403
from expkit.store.marks import *
from expkit.store.records import *
from expkit.store.runs import *
from expkit.store.versions import *
