"""Starting models: embedded, merged from adapters, with a beta head."""
