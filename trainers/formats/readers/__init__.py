"""One module for each format of preference data."""
