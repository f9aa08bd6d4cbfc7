"""Where runs are trained and evaluated: on this machine, or on a Ray cluster. One file and one registration per executor.

All of them start `harness.workers.train_worker`, so one cell is the same function everywhere.
"""

__all__ = ["base", "local", "memory", "registry"]
