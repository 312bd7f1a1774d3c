/* Slopes h of divergences, whose gradient is p∘(h − E_p h); x = log t − log p. pull: p·h. mean: E_p h, where the page
keeps it; else tail: the least and the most of Σ p·h over the tokens that are not kept, of mass P and T. */
(function () {
  "use strict";
  const { sigmoid, softplus, logit } = LiveTarget.arithmetic;

  const reverse = { pull: (p, t, x) => -p * x, mean: (s) => s.reverseSlope };
  const mixed = {
    pull: (p, t, x) => (1 - sigmoid(x)) * p * (1 - x) - sigmoid(x) * t, mean: (s) => s.todiSlope,
  };
  const TIE = 64 * 2 ** -23; // as training has it, in float32: nearer than this, p and t are the same, and pull nowhere
  const variation = { pull: (p, t, x) => (Math.abs(x) <= TIE ? 0 : (p * Math.sign(x)) / -2), mean: (s) => s.tvdSlope };
  const product = { pull: (p, r) => p * r, tail: (P, R) => [0, P * R], reference: true };
  const jensenShannon = (beta) => ({
    pull: (p, t, x) => (beta - 1) * p * (Math.log1p(-beta) + softplus(x + logit(beta))),
    tail: (P, T) => [(beta - 1) * P * Math.log((beta * T + (1 - beta) * P) / P), (beta - 1) * P * Math.log1p(-beta)],
  });
  const skewForward = (alpha) => ({
    pull: (p, t, x) => -t * sigmoid(-x - logit(alpha)),
    tail: (P, T) => [((alpha - 1) * T * P) / (alpha * T + (1 - alpha) * P), 0],
  });
  const skewReverse = (alpha) => ({
    pull: (p, t, x) => p * (sigmoid(x - logit(alpha)) - softplus(x - logit(alpha)) - Math.log(alpha)),
    tail: (P, T) => [-P * Math.log((alpha * P + (1 - alpha) * T) / P), -P * Math.log(alpha)],
  });

  LiveTarget.slopes = { reverse, mixed, variation, product, jensenShannon, skewForward, skewReverse };
})();
