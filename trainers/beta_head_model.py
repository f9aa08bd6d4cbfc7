"""The documented place of `trainers.models.beta_head`."""

from trainers.models.beta_head import AutoModelForCausalLMWithBetaHead, BetaHeadError, BetaHeadOutput

__all__ = ["AutoModelForCausalLMWithBetaHead", "BetaHeadError", "BetaHeadOutput"]
