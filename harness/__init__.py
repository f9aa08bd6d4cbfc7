"""The orchestrator: configuration, the matrix of runs, their state on disk, and the command line."""
