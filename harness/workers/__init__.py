"""Worker processes: how they start, are told to stop, and end."""

__all__ = ["quiet", "stopping", "train_worker"]
