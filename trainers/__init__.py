"""TRL's trainers with a beta for each example: preference data, beta rules, losses, and one training run."""
