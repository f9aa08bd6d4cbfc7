"""Control rules: they repeat or break what another run's rule did."""
