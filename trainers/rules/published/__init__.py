"""Rules from the literature and the constant ones; reached by name through `trainers.rules.catalogue`."""
