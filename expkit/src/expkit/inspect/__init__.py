"""From the disk to a person."""
