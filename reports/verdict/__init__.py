"""Claims, their evidence and the verdict."""
