"""The experiments as packages: `expkit.experiments.<folder>.train` is the train.py of a folder in experiments/.

Any process that can import expkit can so load what was pickled in another one.
"""

from expkit.paths import code_root

__path__ = [str(code_root() / "experiments")]
