/* Arithmetic of the files beside this one, which compute a token's target from what the page keeps of it: the likeliest
tokens of every source and the mass of the others. The definition is qtarget.target_distribution; tests hold these twins
of its methods to it. Each file lays what it makes into LiveTarget under its own name; `targets` is what others call. */
globalThis.LiveTarget = {};
(function () {
  "use strict";
  const total = (values) => values.reduce((a, b) => a + b, 0);
  const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
  const flag = (condition) => (condition ? 1 : 0);
  const sigmoid = (x) => 1 / (1 + Math.exp(-x));
  const softplus = (x) => (x > 40 ? x : Math.log1p(Math.exp(x)));
  const logit = (share) => Math.log(share) - Math.log1p(-share);

  LiveTarget.arithmetic = { total, clamp, flag, sigmoid, softplus, logit };
})();
