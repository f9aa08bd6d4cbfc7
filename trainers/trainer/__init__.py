"""TRL's trainers with a rule, recorded rows and cached reference scores; internal to `trainers`."""

__all__ = ["dpo", "kto", "orpo", "recorded", "recording", "reference_store"]
