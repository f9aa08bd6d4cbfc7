"""TRL's trainers with a rule, recorded rows and cached reference scores; internal to `trainers`."""
