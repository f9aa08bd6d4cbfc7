"""Rules from the literature and the constant ones."""
