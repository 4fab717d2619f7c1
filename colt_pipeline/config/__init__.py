"""The schema of the configuration, its checks, and the runs that a command line describes."""
