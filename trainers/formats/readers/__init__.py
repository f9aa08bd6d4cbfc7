"""One module for each format of preference data; `trainers.formats.source` lists them."""

__all__ = ["alpaca", "hh_rlhf", "hub", "kto", "llamafactory", "sharegpt", "trl", "ultrafeedback", "vendors"]
