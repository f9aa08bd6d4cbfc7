"""The documented place of `trainers.models.beta_head`."""

from trainers.models.beta_head import (
    AutoModelForCausalLMWithBetaHead as AutoModelForCausalLMWithBetaHead,
)
from trainers.models.beta_head import BetaHeadError as BetaHeadError
from trainers.models.beta_head import BetaHeadOutput as BetaHeadOutput
