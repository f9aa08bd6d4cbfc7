"use strict";
// The mathematics of the page: pure functions, no document. All log-probs are sums over an answer's tokens, in nats.
const Dpo = (() => {
  // Bounds of a learned beta, as multiples of pref_beta (beta_min_ratio, beta_max_ratio).
  const LOWEST = 0.1, HIGHEST = 10;

  const sigmoid = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));
  // -log sigmoid(x) that neither overflows nor rounds to 0 too early.
  const negLogSigmoid = (x) => Math.max(-x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
  const logProb = (tokenProbabilities) => tokenProbabilities.reduce((sum, p) => sum + Math.log(p), 0);
  const preference = ({ pw, pl, rw, rl }) => (pw - pl) - (rw - rl);
  const loss = (beta, r) => negLogSigmoid(beta * r);
  const gradient = (beta, r) => -beta * sigmoid(-beta * r);
  const logPerplexity = (ppl) => Math.log(Math.max(ppl, 1));

  const fixed = ({ beta }) => ({ beta, note: "" });

  const foodpo = ({ beta, c, ppl }) => {
    if (c <= 0) return { beta, note: "FooDPO: c is 0, so it falls back to the fixed β." };
    const scaled = c * logPerplexity(ppl) * beta;
    return { beta: scaled, note: scaled === 0 ? "FooDPO: log PPL is 0, so β is 0 and nothing is learned from this pair." : "" };
  };

  const learnable = ({ beta, ppl, ppl0, eps, nn }) => {
    const w = beta / Math.log(ppl0);
    const free = w * logPerplexity(ppl) * (1 + eps * Math.tanh(nn));
    const low = LOWEST * beta, high = HIGHEST * beta;
    if (free < low) return { beta: low, note: `Learnable: β is at its lower bound, ${LOWEST} × pref_beta. Only the penalty can move it now.` };
    if (free > high) return { beta: high, note: `Learnable: β is at its upper bound, ${HIGHEST} × pref_beta. Only the penalty can move it now.` };
    return { beta: free, note: "" };
  };

  const RULES = { fixed, foodpo, learnable };

  // Every number the table shows, per rule.
  const compare = (state) => {
    const r = preference(state);
    const out = {};
    for (const [name, rule] of Object.entries(RULES)) {
      const { beta, note } = rule(state);
      out[name] = {
        beta, note,
        logit: beta * r,
        probability: sigmoid(beta * r),
        loss: loss(beta, r),
        gradient: gradient(beta, r),
        weight: -gradient(beta, r),
        relative: gradient(beta, r) / gradient(state.beta, r),
        beta_slope: -r * sigmoid(-beta * r),
      };
    }
    return { r, rules: out };
  };

  return { sigmoid, logProb, preference, loss, gradient, compare };
})();
