"""Beta rules: one small module each, registered by name in `trainers.rules.catalogue`."""
