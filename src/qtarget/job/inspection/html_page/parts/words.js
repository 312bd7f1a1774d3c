/* Numbers as the page writes them. */
(function () {
  "use strict";
  const NOT_NEGATIVE = [0, Infinity];
  const isMissing = (x) => x === null || x === undefined || Number.isNaN(x);
  const number = (x, digits = 3) => {
    if (isMissing(x)) return "–";
    return Math.abs(x) >= 1e4 ? x.toExponential(1) : x.toFixed(digits);
  };
  const percent = (x, digits = 0) => (isMissing(x) ? "–" : `${(100 * x).toFixed(digits)}%`);
  const many = (x) => Math.round(x).toLocaleString("en");

  /* A number that is known up to a bound: marked, and within 1 of its last digit, where the bound passes the last one;
  between which two it lies, where that leaves no digit. `range` is what it can be at all. */
  function roughly(x, bound, digits = 3, range = [-Infinity, Infinity]) {
    if (!(2 * bound > 10 ** -digits) || Number.isNaN(x)) return number(x, digits);
    const certain = Math.floor(-Math.log10(2 * bound));
    if (certain > 0) return `≈${number(x, certain)}`;
    const [low, high] = [Math.max(x - bound, range[0]), Math.min(x + bound, range[1])];
    return `${number(Math.floor(10 * low) / 10, 1)} … ${number(Math.ceil(10 * high) / 10, 1)}`;
  }

  /* What an entry of a target can be at all. */
  const entries = (target) => (target.improper ? undefined : [0, 1]);

  /* A share that is known up to two ends. */
  const isRough = (low, high) => high - low > 1e-3;
  const percentBetween = (low, high) =>
    isRough(low, high) ? `${Math.floor(100 * low)} … ${Math.ceil(100 * high)}%` : percent((low + high) / 2, 1);

  TargetPage.words = { NOT_NEGATIVE, number, percent, many, roughly, entries, isRough, percentBetween };
})();
