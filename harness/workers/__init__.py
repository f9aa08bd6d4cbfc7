"""Worker processes: how they start, are told to stop, and end."""
