/* The value of a hyperparameter at a token, and a setting in words. */
(function () {
  "use strict";
  const { clamp } = LiveTarget.arithmetic;

  /* A number that may change: itself, a statistic by its name, or a schedule at this token and the given progress. */
  const ALONG = {
    progress: (s, h) => h.progress || 0, position: (s) => s.position, p_y: (s) => s.p,
    reference_p_y: (s) => Math.exp(s.referenceLogp), teacher_p_y: (s) => s.teacherLabels[0],
    agreement: (s) => s.teacherOverlaps[0], uncertainty: (s) => uncertain(s, s.entropy),
    reference_uncertainty: (s) => uncertain(s, s.referenceEntropy),
    teacher_uncertainty: (s) => uncertain(s, s.teacherEntropies[0]),
  };
  const SHAPES = { linear: (x) => x, cosine: (x) => (1 - Math.cos(Math.PI * x)) / 2 };
  const uncertain = (s, entropy) => clamp(entropy / Math.log(s.vocabulary), 0, 1);
  function numberOf(setting, s, h) {
    if (typeof setting === "string") return ALONG[setting](s, h);
    if (typeof setting !== "object") return setting;
    const from = numberOf(setting.from, s, h), share = ALONG[setting.along || "progress"](s, h) / (setting.until || 1);
    return from + (numberOf(setting.to, s, h) - from) * SHAPES[setting.shape || "linear"](Math.min(share, 1));
  }

  /* A setting as people are told it: the twin of `setting_words` of the Python side. */
  function settingWords(setting) {
    if (typeof setting === "number") return numberWords(setting);
    if (Array.isArray(setting)) return `[${setting.map(settingWords).join(", ")}]`;
    if (setting === null || typeof setting !== "object") return String(setting);
    const until = "until" in setting ? ` until ${settingWords(setting.until)}` : "";
    const shape = (setting.shape || "linear") === "linear" ? "" : ` (${setting.shape})`;
    const fromTo = `${settingWords(setting.from)} → ${settingWords(setting.to)}`;
    return `${fromTo} along ${setting.along || "progress"}${until}${shape}`;
  }

  /* Twelve digits, as Python's `.12g` has them. */
  function numberWords(number) {
    const [digits, power] = number.toExponential(11).split("e");
    if (power >= -4 && power < 12) return String(Number(number.toPrecision(12)));
    return `${Number(digits)}e${power[0]}${power.slice(1).padStart(2, "0")}`;
  }

  LiveTarget.hyperparameters = { numberOf, settingWords };
})();
