"""State on disk: records, locks, checkpoints, clean-up."""
