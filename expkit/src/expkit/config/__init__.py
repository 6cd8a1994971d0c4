"""From dataclasses and YAML to one typed object."""
