"""Published rules that weight, shift or extend the loss, and the latest rules of beta, by name."""

from __future__ import annotations

import math

from trainers.rules.parameters import (
    BELOW_ONE,
    BOTH,
    COLUMN,
    NON_NEGATIVE,
    NUMBER,
    OPTIONAL_POSITIVE,
    POSITIVE,
    SHARE,
    SMOOTHING,
    Param,
    RuleInfo,
    sigmoid_only,
)

LOSS_RULES: dict[str, RuleInfo] = {
    info.name: info
    for info in (
        RuleInfo(
            "madpo",
            "trainers.rules.weights.madpo:MADPO",
            "loss weighted by a column of reward margins (MADPO, arXiv 2510.05342)",
            sigmoid_only(
                column=Param("reward_margin", COLUMN, "the column with reward(chosen) - reward(rejected)"),
                c_max=Param(2.0, POSITIVE, "largest amplification, at margins of 0"),
                c_min=Param(0.5, POSITIVE, "smallest, at large margins"),
                tau=Param(1.0, NON_NEGATIVE, "the margin that is left as it is"),
                rate=Param(math.log(999), POSITIVE, "lambda: how fast c falls around tau"),
            ),
            dynamic=False,
            own="loss",
        ),
        RuleInfo(
            "tur_dpo",
            "trainers.rules.weights.tur_dpo:TURDPO",
            "loss weighted by one column, shifted by another (TUR-DPO, arXiv 2605.00224)",
            sigmoid_only(
                weight_column=Param("weight", COLUMN, "the column with each pair's weight"),
                reward_column=Param("reward_gap", COLUMN, "the column with the difference of the shaping rewards"),
                gamma=Param(1.0, NON_NEGATIVE, "factor of that difference"),
            )
            | {"pref_beta": Param(2.0, POSITIVE, "the fixed beta")},
            dynamic=False,
            own="loss",
        ),
        RuleInfo(
            "focal_po",
            "trainers.rules.weights.focal_po:FocalPO",
            "loss weighted by sigmoid(beta * delta)^gamma (FocalPO, arXiv 2501.06645)",
            sigmoid_only(gamma=Param(0.05, NON_NEGATIVE, "the focal exponent; 0 is DPO")),
            dynamic=False,
            own="loss",
        ),
        RuleInfo(
            "dr_dpo",
            "trainers.rules.weights.dr_dpo:DrDPO",
            "-b log mean exp(-loss / b) over the batch (Dr. DPO, arXiv 2407.07880)",
            sigmoid_only(beta_prime=Param(1.0, POSITIVE, "b: small values leave out pairs with a large loss")),
            dynamic=False,
            own="loss",
            batch_statistics=True,
        ),
        RuleInfo(
            "uni_dpo",
            "trainers.rules.weights.uni_dpo:UniDPO",
            "loss weighted by the answers' scores and by how well a pair is learned (Uni-DPO, arXiv 2506.10054)",
            sigmoid_only(
                chosen_column=Param("score_chosen", COLUMN, "the column with the chosen answer's score"),
                rejected_column=Param("score_rejected", COLUMN, "the column with the rejected answer's score"),
                eta=Param(0.1, NON_NEGATIVE, "factor of the scores' difference"),
                tau_ref=Param(0.8, NUMBER, "the margin at which a pair counts as half learned"),
                gamma=Param(1.0, NON_NEGATIVE, "the focal exponent"),
                nll=Param(0.01, NON_NEGATIVE, "weight of the calibrated likelihood term"),
                tau_good=Param(7.0, NUMBER, "the score from which on a chosen answer gets that term"),
            )
            | {"pref_beta": Param(2.0, POSITIVE, "beta of the log-ratios per token")},
            dynamic=False,
            own="score",
        ),
        RuleInfo(
            "r_dpo",
            "trainers.rules.margins.r_dpo:RDPO",
            "pairs whose chosen answer is the longer pull less (R-DPO, arXiv 2403.19159)",
            sigmoid_only(alpha=Param(0.01, NON_NEGATIVE, "a token's share of the margin")),
            dynamic=False,
            own="loss",
        ),
        RuleInfo(
            "odpo",
            "trainers.rules.margins.odpo:ODPO",
            "a margin alpha * log(gap), gap a column (ODPO, arXiv 2402.10571)",
            sigmoid_only(
                column=Param("reward_gap", COLUMN, "the column with reward(chosen) - reward(rejected), above 0"),
                alpha=Param(1.0, NON_NEGATIVE, "factor of log(gap)"),
            ),
            dynamic=False,
            own="loss",
        ),
        RuleInfo(
            "dpo_shift",
            "trainers.rules.margins.dpo_shift:DPOShift",
            "the rejected log-ratio counts shift times (DPO-Shift, arXiv 2502.07599)",
            sigmoid_only(
                shift=Param(0.75, SHARE, "f(lambda), at the first step"),
                shift_end=Param(
                    None, OPTIONAL_POSITIVE, "its value at the last step, reached linearly; null: as at the first"
                ),
            ),
            dynamic=False,
            own="score",
        ),
        RuleInfo(
            "dpop",
            "trainers.rules.margins.dpop:DPOP",
            "a penalty where the chosen answer becomes less likely (DPO-Positive, arXiv 2402.13228)",
            sigmoid_only(strength=Param(5.0, NON_NEGATIVE, "lambda, the weight of the penalty")),
            dynamic=False,
            own="score",
        ),
        RuleInfo(
            "minor_dpo",
            "trainers.rules.margins.minor_dpo:MinorDPO",
            "the rejected answer is pushed down to the reference's likelihood only (Minor DPO, arXiv 2408.09834)",
            sigmoid_only(),
            dynamic=False,
            own="score",
        ),
        RuleInfo(
            "bpo",
            "trainers.rules.margins.bpo:BPO",
            "the smaller of both answers' gains (BPO, arXiv 2506.03557)",
            sigmoid_only(balance=Param(1.0, POSITIVE, "factor of the rejected answer's gain")),
            dynamic=False,
            own="score",
        ),
        RuleInfo(
            "chi_po",
            "trainers.rules.margins.chi_po:ChiPO",
            "ratio + log-ratio in place of the log-ratio (chi-squared PO, arXiv 2407.13399)",
            sigmoid_only(),
            dynamic=False,
            own="score",
        ),
        RuleInfo(
            "h_dpo",
            "trainers.rules.margins.h_dpo:HDPO",
            "policy log-probs times alpha, which sets the policy's entropy (H-DPO, arXiv 2411.07595)",
            sigmoid_only(alpha=Param(0.95, POSITIVE, "below 1: a sharper policy; 1 is DPO")),
            dynamic=False,
            own="score",
        ),
        RuleInfo(
            "cal_dpo",
            "trainers.rules.terms.cal_dpo:CalDPO",
            "the log-ratios are pulled to +-1 / (2 beta) (Cal-DPO, arXiv 2412.14516)",
            sigmoid_only(calibration=Param(0.5, NON_NEGATIVE, "weight of the squared distances")),
            dynamic=False,
            own="loss",
        ),
        RuleInfo(
            "c2_dpo",
            "trainers.rules.terms.c2_dpo:C2DPO",
            "the two log-ratios are pulled to a sum of 0 (C2-DPO, arXiv 2502.17507)",
            sigmoid_only(constraint=Param(2e-4, NON_NEGATIVE, "weight of the squared sum")),
            dynamic=False,
            own="loss",
        ),
        RuleInfo(
            "cdpo",
            "trainers.rules.terms.cdpo:CDPO",
            "DPO for labels flipped with a known probability (cDPO, ericmitchell.ai/cdpo.pdf)",
            sigmoid_only(label_smoothing=SMOOTHING),
            dynamic=False,
            own="loss",
        ),
        RuleInfo(
            "robust",
            "trainers.rules.terms.robust:Robust",
            "the unbiased loss under flipped labels (robust DPO, arXiv 2403.00409)",
            sigmoid_only(label_smoothing=SMOOTHING),
            dynamic=False,
            own="loss",
        ),
        RuleInfo(
            "rpo",
            "trainers.rules.terms.rpo:RPO",
            "adds the chosen answer's negative log-likelihood per token (arXiv 2404.19733; pref_ftx of LLaMA-Factory)",
            sigmoid_only(nll=Param(1.0, NON_NEGATIVE, "weight of the likelihood term")),
            dynamic=False,
            own="loss",
        ),
        RuleInfo(
            "mm_dpo",
            "trainers.rules.published.mm_dpo:MMDPO",
            "beta * (1 + w * f), f a column (MM-DPO, arXiv 2502.10391)",
            {
                **BOTH,
                "column": Param("ls_factor", COLUMN, "the column with f, 1 - exp(-k * reward margin) in the paper"),
                "w": Param(0.1, NON_NEGATIVE, "how strongly beta follows f"),
                "beta_min": Param(1e-3, POSITIVE, "lower bound of beta"),
            },
        ),
        RuleInfo(
            "risk_beta",
            "trainers.rules.published.risk_beta:RiskBeta",
            "one beta a batch, raised while too many margins lie above their running quantile",
            {
                **BOTH,
                "delta": Param(0.1, SHARE, "share of margins that may lie above the threshold"),
                "alpha": Param(0.005, NON_NEGATIVE, "largest change of log beta in a step"),
                "gamma": Param(2.0, POSITIVE, "how fast that is reached"),
                "momentum": Param(0.9, BELOW_ONE, "of the running quantile"),
                "beta_min": Param(0.01, POSITIVE, "lower bound of beta"),
                "beta_max": Param(1.0, POSITIVE, "upper bound of beta"),
            },
            batch_statistics=True,
        ),
    )
}
