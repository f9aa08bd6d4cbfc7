"""Commands that analyse what has been run."""
