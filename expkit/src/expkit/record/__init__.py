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

from expkit.record.data import read_data as read_data
from expkit.record.data import write_data as write_data
from expkit.record.fold import FoldRecord as FoldRecord
from expkit.record.fold import fail_fold as fail_fold
from expkit.record.fold import read_fold as read_fold
from expkit.record.fold import score_result as score_result
from expkit.record.fold import write_result as write_result
from expkit.record.layout import BLENDS as BLENDS
from expkit.record.layout import CHECKPOINT as CHECKPOINT
from expkit.record.layout import CONFIG as CONFIG
from expkit.record.layout import CV as CV
from expkit.record.layout import FAILED as FAILED
from expkit.record.layout import FOLD as FOLD
from expkit.record.layout import HISTORY as HISTORY
from expkit.record.layout import LOG as LOG
from expkit.record.layout import NOT_EXPERIMENTS as NOT_EXPERIMENTS
from expkit.record.layout import OOF as OOF
from expkit.record.layout import ORIGIN as ORIGIN
from expkit.record.layout import PRUNED as PRUNED
from expkit.record.layout import RESULT as RESULT
from expkit.record.layout import RUN as RUN
from expkit.record.layout import SUBMISSION as SUBMISSION
from expkit.record.layout import SUBMISSIONS as SUBMISSIONS
from expkit.record.layout import TEST as TEST
from expkit.record.layout import THEN as THEN
from expkit.record.layout import VERSION as VERSION
from expkit.record.layout import counting as counting
from expkit.record.layout import counting_among as counting_among
from expkit.record.layout import fold_name as fold_name
from expkit.record.layout import fold_title as fold_title
from expkit.record.layout import forget_deleted as forget_deleted
from expkit.record.layout import grouped as grouped
from expkit.record.layout import install as install
from expkit.record.layout import run_folders as run_folders
from expkit.record.layout import version_folder as version_folder
from expkit.record.layout import version_number as version_number
from expkit.record.layout import versions as versions
from expkit.record.marks import COPY as COPY
from expkit.record.marks import marks_of as marks_of
from expkit.record.marks import parent_marks as parent_marks
from expkit.record.recipe import Parent as Parent
from expkit.record.recipe import Recipe as Recipe
from expkit.record.run import RunRecord as RunRecord
from expkit.record.run import Score as Score
from expkit.record.run import describe_again as describe_again
from expkit.record.run import deviation as deviation
from expkit.record.run import forget_cv as forget_cv
from expkit.record.run import prune_run as prune_run
from expkit.record.run import read_run as read_run
from expkit.record.run import read_run_info as read_run_info
from expkit.record.run import write_cv as write_cv
from expkit.record.run import write_run as write_run
