"""Ground floor: small modules that every package may use, and that import nothing above them."""
