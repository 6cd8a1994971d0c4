"""The keys of an experiment, described from its classes: to editors as JSON schemas, to `train.py --help` as text."""
