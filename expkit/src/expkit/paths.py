"""On its way out: expkit.project."""

from expkit.project import *  # noqa: F403
from expkit.project import MARK as MARK
from expkit.project import ROOT as ROOT
