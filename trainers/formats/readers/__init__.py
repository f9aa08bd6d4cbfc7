"""One module for each format of preference data; `trainers.formats.source` lists them."""
