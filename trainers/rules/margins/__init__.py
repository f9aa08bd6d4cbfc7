"""Published rules that shift or replace the log-ratio margin."""
