"""From a configuration to results on the disk."""
