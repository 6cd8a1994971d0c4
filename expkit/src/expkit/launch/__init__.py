"""From the command line to jobs on any machine."""
