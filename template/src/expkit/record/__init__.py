"""The files of a run: their names, what each holds, what "done" means, what the score is, and what is broken.

    output/<experiment>/<run>/      a version of the run; <run>@2, <run>@3, ... are later ones, made by overwrite=true
        config.yaml                 the configuration, for people
        run.json                    the configuration and the metric, for programs
        fold0/result.json           written last: the fold is done; lists the files that belong to it
        fold0/origin.json           how the fold was made: command, code, packages, machine
        fold0/oof.npz               out-of-fold predictions
        fold0/history.csv, train.log, model.*
        fold0/failed.txt        why the last training of a fold has failed, until the next one
        fold0/checkpoint/       the last state of a training that is under way
        full/                       exp.mode=sub: the same, trained on all rows, with submission.csv
        pruned.txt                  where a study has ended the run early, until it is trained to its end
        cv.json                     every score, made from the predictions of the folds; can be deleted and made again
    output/<experiment>/.<run>.version      which version counts; none: the lowest
    output/blends/<run>/                    a run that is a blend of others: `exp blend`
    output/submissions/<name>.csv, .json    what `exp submit` has made, and of which runs
    notes/<experiment>.jsonl                what a person thinks of its runs: `exp note`

Everything else reads and writes a run through this room. Nothing here raises for what it finds on the disk: what does
not fit is a problem, and what has a problem does not count. Nothing that is read is executed.
"""

from expkit.record.data import read_data, write_data
from expkit.record.fold import FoldRecord, fail_fold, read_fold, score_result, write_result
from expkit.record.layout import (
    BLENDS,
    CHECKPOINT,
    CONFIG,
    CV,
    FAILED,
    FOLD,
    HISTORY,
    LOG,
    NOT_EXPERIMENTS,
    OOF,
    ORIGIN,
    PRUNED,
    RESULT,
    RUN,
    SUBMISSION,
    SUBMISSIONS,
    TEST,
    THEN,
    VERSION,
    counting,
    counting_among,
    fold_name,
    fold_title,
    forget_deleted,
    grouped,
    install,
    run_folders,
    version_folder,
    version_number,
    versions,
)
from expkit.record.marks import COPY, marks_of, parent_marks
from expkit.record.notes import Notes, add_note, read_notes
from expkit.record.recipe import Parent, Recipe
from expkit.record.run import (
    RunRecord,
    Score,
    describe_again,
    deviation,
    forget_cv,
    prune_run,
    read_run,
    read_run_info,
    write_cv,
    write_run,
)
from expkit.record.submissions import write_submission

__all__ = [
    "BLENDS",
    "CHECKPOINT",
    "CONFIG",
    "COPY",
    "CV",
    "FAILED",
    "FOLD",
    "FoldRecord",
    "HISTORY",
    "LOG",
    "NOT_EXPERIMENTS",
    "OOF",
    "Notes",
    "ORIGIN",
    "PRUNED",
    "Parent",
    "RESULT",
    "RUN",
    "Recipe",
    "RunRecord",
    "SUBMISSION",
    "SUBMISSIONS",
    "Score",
    "TEST",
    "THEN",
    "VERSION",
    "add_note",
    "counting",
    "counting_among",
    "describe_again",
    "deviation",
    "fail_fold",
    "fold_name",
    "fold_title",
    "forget_cv",
    "forget_deleted",
    "grouped",
    "install",
    "marks_of",
    "parent_marks",
    "prune_run",
    "read_data",
    "read_fold",
    "read_notes",
    "read_run",
    "read_run_info",
    "run_folders",
    "score_result",
    "version_folder",
    "version_number",
    "versions",
    "write_cv",
    "write_data",
    "write_result",
    "write_run",
    "write_submission",
]
