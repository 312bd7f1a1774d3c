/* The catalogue's methods, as the page moves them: the trust, residual and scale of each. */
(function () {
  "use strict";
  const { total, clamp, flag, sigmoid } = LiveTarget.arithmetic;
  const { numberOf } = LiveTarget.hyperparameters;
  const { reverse, mixed, variation, product, jensenShannon, skewForward, skewReverse } = LiveTarget.slopes;
  const { IMPOSSIBLE, STUDENT, REFERENCE, UNIFORM, teacher, poolOf } = LiveTarget.pools;

  /* A share of all teachers together, in equal parts, where a method takes one number a teacher. */
  const perTeacher = (share, s) => s.teachers.map(() => share / s.teachers.length);

  const guided = (eta, temperature, s) => ({ student: 1 - eta, teachers: perTeacher(eta / temperature, s) });

  const down = (slope) => [[1, STUDENT], [-1, { along: slope }]];
  const bothWays = (forward, backward) =>
    [[1 - forward, STUDENT], [forward, teacher(0)], [-backward, { along: reverse }]];

  /* trust: γ of a token's statistics and the hyperparameters; terms: [coefficient, pool]; scale: s. Where terms are
  left out the rest stays with the student. `batch` measures what a method reads of a whole micro-batch. */
  const METHODS = {
    sft: { trust: () => 1, terms: () => [] },
    dft: { trust: (s, h) => numberOf(h.trust, s, h) },
    "beyond-log": { trust: (s, h) => Math.exp(h.alpha * s.logp) },
    profit: { trust: (s, h) => flag(s.p > h.threshold) },
    eaft: {
      trust: (s, h) => {
        const most = h.normalizer === "log_k" ? Math.log(h.top_k) : h.normalizer || 1;
        return Math.pow(s.topEntropy / most, h.power);
      },
    },
    "iw-sft": {
      trust: (s, h) => Math.min(Math.exp(h.temperature * s.sequence.ratio), h.clip_max),
    },
    cft: { trust: (s) => s.weight },
    "label-smoothing": { trust: (s, h) => 1 - h.smoothing, terms: (s, h) => [[h.smoothing, UNIFORM]] },
    "sft-kl": {
      trust: (s, h) => 1 / (1 + h.kl_weight),
      terms: (s, h) => [[h.kl_weight / (1 + h.kl_weight), REFERENCE]],
      scale: (s, h) => 1 + h.kl_weight,
    },
    asft: {
      trust: (s, h) => (h.kl_weight ? s.p / (s.p + h.kl_weight) : 1),
      terms: (s, h) => (h.kl_weight ? [[h.kl_weight / (s.p + h.kl_weight), REFERENCE]] : []),
      scale: (s, h) => s.p + h.kl_weight,
    },
    psft: {
      trust: (s, h) => {
        const ratio = Math.exp(s.logp - s.referenceLogp);
        return ratio < 1 + h.clip_high ? ratio : 0;
      },
    },
    gem: {
      trust: (s, h) => (h.h === "linear" ? 1 : likelierMass(s, h)),
      trustBound: (s, h) => (h.h === "linear" ? 0 : likelierMassBound(s, h)),
      terms: (s, h, trust) => [[1, STUDENT], [-trust, gemPool(h)]],
    },
    kd: {
      trust: () => 0,
      terms: (s, h) => {
        const T = h.temperature, power = 1 / (T * h.teacher_temperature);
        const soft = perTeacher(1, s).map((share, i) => [T * share, teacher(i, power)]);
        return T === 1 ? soft : [[1, STUDENT], [-T, { student: 1 / T }], ...soft];
      },
    },
    "kd-hybrid": {
      trust: (s, h) => 1 - numberOf(h.teacher_weight, s, h),
      terms: (s, h) => {
        const shares = perTeacher(numberOf(h.teacher_weight, s, h), s);
        return shares.map((share, i) => [share, teacher(i, 1 / h.teacher_temperature)]);
      },
    },
    "target-sft": {
      trust: (s, h) => numberOf(h.trust, s, h),
      terms: (s, h, trust) => [[1 - trust, guided(numberOf(h.eta, s, h), h.teacher_temperature, s)]],
    },
    taid: { trust: () => 0, terms: (s, h) => [[1, guided(h.start + (h.end - h.start) * (h.progress || 0), 1, s)]] },
    gift: {
      trust: (s, h) => {
        const uniform = uniformShare(s, h);
        const label = (1 - uniform) * Math.exp(s.referenceLogp) + uniform / s.vocabulary;
        return 1 / (1 + 1 / (label * Math.expm1(h.beta)));
      },
      terms: (s, h, trust) => {
        const uniform = uniformShare(s, h);
        return [[(1 - trust) * (1 - uniform), REFERENCE], [(1 - trust) * uniform, UNIFORM]];
      },
    },
    deft: { trust: (s) => Math.exp(s.collision * s.logp) },
    idft: {
      trust: (s, h) => {
        const exponent = Math.exp(-(s.logp + s.entropy) / h.beta);
        return Math.exp(s.logp * clamp(exponent, h.exponent_min, h.exponent_max));
      },
    },
    prift: {
      trust: (s, h) => (h.variant === "prob" ? Math.exp(s.referenceLogp) : flag(s.referenceBelow >= h.mass_threshold)),
    },
    talr: {
      batch: (members) => {
        const means = [...bySequence(members).values()].map((each) => -total(each.map((s) => s.logp)) / each.length);
        means.sort((a, b) => a - b);
        const tau = Math.max(means[Math.floor((means.length - 1) / 2)], 1e-8);
        return (s, h) => Math.max(Math.exp(s.logp / tau), h.floor);
      },
    },
    focal: {
      trust: (s, h) => {
        const weight = Math.exp(h.focusing * s.logNot);
        return h.detached ? weight : weight - h.focusing * Math.exp((h.focusing - 1) * s.logNot + s.logp) * s.logp;
      },
    },
    "beyond-log-threshold": {
      trust: (s, h) =>
        Math.exp(h.alpha * s.logp) * flag(h.keep === "top" ? s.p >= h.threshold : s.p <= h.threshold),
    },
    "log-one-minus-p": { trust: (s, h) => Math.min(Math.exp(s.logp - s.logNot), h.weight_max) },
    "entropy-selected": { batch: (members, h) => topShare(members, (s) => s.entropy, h.share) },
    "excess-loss-selected": { batch: (members, h) => topShare(members, (s) => s.referenceLogp - s.logp, h.share) },
    "reverse-kl": { trust: () => 0, terms: () => down(reverse) },
    jsd: {
      trust: () => 0,
      terms: (s, h) => (h.beta ? down(h.beta === 1 ? reverse : jensenShannon(h.beta)) : [[1, teacher(0)]]),
    },
    "skew-kl": { trust: () => 0, terms: (s, h) => (h.alpha ? down(skewForward(h.alpha)) : [[1, teacher(0)]]) },
    "skew-reverse-kl": { trust: () => 0, terms: (s, h) => down(h.alpha ? skewReverse(h.alpha) : reverse) },
    todi: { trust: () => 0, terms: () => down(mixed) },
    akl: { trust: () => 0, terms: (s) => bothWays(s.headShare, 1 - s.headShare) },
    tvd: { trust: () => 0, terms: () => down(variation) },
    "entropy-aware-kl": { trust: () => 0, terms: (s, h) => bothWays(flag(s.teacherEntropies[0] > h.threshold), 1) },
    "symmetric-ce": { trust: (s, h) => h.alpha - h.beta * h.log_zero * s.p },
    elr: {
      trust: () => 1,
      terms: (s, h) => [[total(elrWeights(s, h)) / 2, { along: product }]],
      termsBound: (s, h) => (elrWeights(s, h)[1] - elrWeights(s, h)[0]) / 2,
    },
    "sed-sft": { trust: (s, h) => 1 - h.strength * flag(s.topMass < h.threshold) * s.p * (2 * s.p - 1) },
    unlikelihood: {
      trust: (s) => (s.weight < 0 ? -Math.min(Math.exp(s.logp - s.logNot), 1e8) : 1),
      scale: (s) => Math.abs(s.weight),
    },
    "confidence-penalty": { trust: () => 1, terms: (s, h) => [[-h.weight, { student: 1, tangent: true }]] },
  };

  /* λ/(1 − ⟨p,r⟩), the least and the most. */
  function elrWeights(s, h) {
    const kept = total(s.student.map((logp, k) => (logp < IMPOSSIBLE ? 0 : Math.exp(logp + s.reference[k]))));
    const most = kept + Math.exp(s.studentTail + s.referenceTail);
    return [kept, most].map((shared) => h.weight / Math.max(1 - shared, 1e-4));
  }

  /* Methods that read the tokens' weights themselves. */
  const READ_WEIGHTS = ["cft", "unlikelihood"];

  const uniformShare = (s, h) => (h.smoothing + h.floor * s.vocabulary) / (1 + h.floor * s.vocabulary);
  const GEM_SLOPE = 0.01;
  const gemPool = (h) => (h.h === "linear" ? { student: 1 / h.beta } : { student: 1 / h.beta, slope: GEM_SLOPE });

  function likelierMass(s, h) {
    const bare = poolOf(s, { student: 1 / h.beta });
    return total(bare.q.map((q, k) => q * sigmoid(GEM_SLOPE * (s.student[k] - s.logp))));
  }

  /* What the tokens that are not kept may add to that mass, or take from it. */
  function likelierMassBound(s, h) {
    const bare = poolOf(s, { student: 1 / h.beta });
    return total(bare.bound) + bare.outside;
  }

  function topShare(members, number, share) {
    const order = members.map((s, at) => [number(s), at]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    const chosen = new Set(order.slice(0, Math.ceil(share * members.length - 1e-9)).map(([, at]) => members[at]));
    return (s) => flag(chosen.has(s));
  }

  function bySequence(members) {
    const found = new Map();
    for (const s of members) found.set(s.row, [...(found.get(s.row) || []), s]);
    return found;
  }

  LiveTarget.methods = { METHODS, READ_WEIGHTS, guided };
})();
