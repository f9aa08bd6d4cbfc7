"""Thin wrappers over TRL: one trainer class, one small module per beta rule."""
