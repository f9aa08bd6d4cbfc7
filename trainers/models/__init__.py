"""Starting models: carried by a package, merged from an adapter, or with a beta head."""

__all__ = ["beta_head", "embedded", "starting"]
