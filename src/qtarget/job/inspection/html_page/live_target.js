/* The target of a token, computed from what the page keeps of it: the likeliest tokens of every source and the mass of
the others. The definition is qtarget.target_distribution; tests hold these twins of its methods to it. */
(function (root) {
  "use strict";
  const IMPOSSIBLE = -5e29;
  const KNOWN_MASS = 2e-5; // of other tokens; what so little may add to KL is not shown
  const sigmoid = (x) => 1 / (1 + Math.exp(-x));
  const STUDENT = { student: 1 };
  const REFERENCE = { reference: 1 };
  const UNIFORM = {};
  const teacher = (index, power = 1) => ({ teachers: Object.assign([], { [index]: power }) });
  const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
  const total = (values) => values.reduce((a, b) => a + b, 0);
  const flag = (condition) => (condition ? 1 : 0);

  /* A share of all teachers together, in equal parts, where a method takes one number a teacher. */
  const perTeacher = (share, s) => s.teachers.map(() => share / s.teachers.length);

  const guided = (eta, temperature, s) => ({ student: 1 - eta, teachers: perTeacher(eta / temperature, s) });

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
    return `${settingWords(setting.from)} → ${settingWords(setting.to)} along ${setting.along || "progress"}${until}${shape}`;
  }

  /* Twelve digits, as Python's `.12g` has them. */
  function numberWords(number) {
    const [digits, power] = number.toExponential(11).split("e");
    if (power >= -4 && power < 12) return String(Number(number.toPrecision(12)));
    return `${Number(digits)}e${power[0]}${power.slice(1).padStart(2, "0")}`;
  }

  /* Slopes h of divergences, whose gradient is p∘(h − E_p h); x = log t − log p. pull: p·h. mean: E_p h, where the page
  keeps it; else tail: the least and the most of Σ p·h over the tokens that are not kept, of mass P and T. */
  const softplus = (x) => (x > 40 ? x : Math.log1p(Math.exp(x)));
  const logit = (share) => Math.log(share) - Math.log1p(-share);
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
  const down = (slope) => [[1, STUDENT], [-1, { along: slope }]];
  const bothWays = (forward, backward) => [[1 - forward, STUDENT], [forward, teacher(0)], [-backward, { along: reverse }]];

  /* trust: γ of a token's statistics and the hyperparameters; terms: [coefficient, pool]; scale: s. Where terms are left
  out the rest stays with the student. `batch` measures what a method reads of a whole micro-batch. */
  const METHODS = {
    sft: { trust: () => 1, terms: () => [] },
    dft: { trust: (s, h) => numberOf(h.trust, s, h) },
    "beyond-log": { trust: (s, h) => Math.exp(h.alpha * s.logp) },
    profit: { trust: (s, h) => flag(s.p > h.threshold) },
    eaft: {
      trust: (s, h) => Math.pow(s.topEntropy / (h.normalizer === "log_k" ? Math.log(h.top_k) : h.normalizer || 1), h.power),
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
      terms: (s, h) =>
        perTeacher(numberOf(h.teacher_weight, s, h), s).map((share, i) => [share, teacher(i, 1 / h.teacher_temperature)]),
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
      trust: (s, h) => Math.exp(s.logp * clamp(Math.exp(-(s.logp + s.entropy) / h.beta), h.exponent_min, h.exponent_max)),
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

  /* The mass that a pool's unnormalised weights may have outside the candidates: [low, high]. */
  function tailBounds(s, pool, top) {
    const parts = [];
    if (pool.student) parts.push([pool.student, s.studentTail]);
    if (pool.reference) parts.push([pool.reference, s.referenceTail]);
    (pool.teachers || []).forEach((power, i) => power && parts.push([power, s.teacherTails[i]]));
    const others = s.others;
    if (others <= 0) return [0, 0];
    const together = Math.exp(total(parts.map(([power, tail]) => power * tail)) - top) || 0;
    const sum = total(parts.map(([power]) => power)), isOne = parts.length === 1 && !pool.slope;
    if (isOne && Math.abs(sum - 1) < 1e-12) return [together, together];
    const guidedOnes = guidedBounds(s, pool, top);
    if (guidedOnes) return guidedOnes;
    if (!parts.length) return [others * Math.exp(-top), others * Math.exp(-top)];
    const spread = together * Math.pow(others, 1 - sum) || 0;
    if (isOne) return sum > 1 ? [spread, together] : [together, spread];
    return [0, Math.max(together, spread)];
  }

  /* log Σ p^a·t^b over the tokens that are not kept is convex along a + b = 1, and known at η = 0 (p), at η = 1 (t) and at
  the run's own η: between two known points it is below their chord and above the next chord, drawn on. */
  function guidedBounds(s, pool, top) {
    const known = s.guided, { student = 0, reference = 0, teachers = [] } = pool;
    if (!known || reference || pool.slope || pool.tangent || teachers.length !== known.teachers.length) return null;
    const near = (a, b) => Math.abs(a - b) < 1e-12;
    if (near(student, known.student) && teachers.every((power, i) => near(power, known.teachers[i]))) {
      return [Math.exp(known.tail - top), Math.exp(known.tail - top)];
    }
    const eta = teachers[0], middle = known.teachers[0], ends = [s.studentTail, s.teacherTails[0]];
    const isMixture = teachers.length === 1 && near(student + eta, 1) && near(known.student + middle, 1);
    if (!isMixture || !(middle > 0 && middle < 1) || ![...ends, known.tail].every(Number.isFinite)) return null;
    const left = ends[0] + (known.tail - ends[0]) * (eta / middle);
    const right = ends[1] + (known.tail - ends[1]) * ((1 - eta) / (1 - middle));
    const [low, high] = eta < middle ? [right, left] : [left, right];
    return [Math.exp(Math.min(low, high) - top), Math.exp(high - top)];
  }

  /* The logarithms of a pool's unnormalised weights of the candidates. */
  function exponentsOf(s, pool) {
    return s.student.map((logp, k) => {
      if (logp < IMPOSSIBLE) return -Infinity;
      let out = (pool.student || 0) * logp;
      if (pool.reference) out += pool.reference * s.reference[k];
      (pool.teachers || []).forEach((power, i) => power && (out += power * s.teacherLogps[i][k]));
      return pool.slope ? out - Math.log1p(Math.exp(-pool.slope * (logp - s.logp))) : out;
    });
  }

  /* The run's own pool of student and teachers, and the logarithm of its weights' sum over the tokens that are not kept:
  the store has the mass that they hold of the whole. */
  function guidedPool(s, { eta, teacher_temperature }, logMass) {
    const pool = guided(numberOf(eta, s, { progress: 0 }), teacher_temperature, s), exponents = exponentsOf(s, pool);
    const top = Math.max(...exponents), kept = top + Math.log(total(exponents.map((x) => Math.exp(x - top))));
    return { ...pool, tail: kept + logMass - Math.log(Math.max(-Math.expm1(logMass), 1e-12)) };
  }

  /* A pool over the candidates: q, and how far each may be off for what is not known of the other tokens; of those their
  mass, and the most that their norm may be: none of them has more than the largest of them. */
  function poolOf(s, pool) {
    const exponents = exponentsOf(s, pool);
    const top = Math.max(...exponents);
    const weights = exponents.map((x) => Math.exp(x - top));
    const [low, high] = tailBounds(s, pool, top);
    const sum = total(weights), middle = sum + (low + high) / 2;
    const off = 1 / (sum + low) - 1 / (sum + high), outside = high / (sum + high);
    const largest = Math.min(Math.exp(largestOther(s, pool) - top) / (sum + low), outside) || 0;
    return { q: weights.map((w) => w / middle), bound: weights.map((w) => w * off), outside, norm: Math.sqrt(largest * outside) };
  }

  /* The logarithm of the largest weight that a pool may have on a token that is not kept. */
  function largestOther(s, pool) {
    const ofStudent = Math.log(Math.min(s.othersNorm, Math.exp(s.studentTail)));
    const parts = (pool.teachers || []).map((power, i) => [power, s.teacherTails[i]]);
    if (pool.student) parts.push([pool.student, ofStudent]);
    if (pool.reference) parts.push([pool.reference, s.reference === s.student ? ofStudent : s.referenceTail]);
    return total(parts.map(([power, x]) => (power ? power * x : 0)));
  }

  const isStudent = (pool) => pool.student === 1 && !pool.reference && !pool.tangent && !pool.slope && !(pool.teachers || []).some(Boolean);

  function termOf(s, pool) {
    if (isStudent(pool)) return { q: s.student.map(Math.exp), bound: s.student.map(() => 0), outside: 0, norm: 0, isStudent: true };
    if (!pool.along && !pool.tangent) return poolOf(s, pool);
    const term = pool.along ? slopeOf(s, pool.along) : { q: s.student.map((logp) => (logp < IMPOSSIBLE ? 0 : Math.exp(logp) * (logp + s.entropy))), bound: s.student.map(() => 0) };
    const outside = Math.abs(total(term.q)) + total(term.bound); // all entries together are 0
    const steepest = Math.max(...term.q.map((pull, k) => (s.student[k] < IMPOSSIBLE ? 0 : Math.abs(pull) / Math.exp(s.student[k]))));
    return { ...term, outside, norm: Math.max(outside, steepest * s.othersNorm) }; // no other token is taken to be pulled harder for its mass
  }

  /* p∘(h − E_p h) over the candidates. */
  function slopeOf(s, slope) {
    const [other, otherTail] = slope.reference ? [s.reference, s.referenceTail] : [s.teacherLogps[0], s.teacherTails[0]];
    const p = s.student.map((logp) => (logp < IMPOSSIBLE ? 0 : Math.exp(logp)));
    const pulls = p.map((each, k) => (each ? slope.pull(each, Math.exp(other[k]), other[k] - s.student[k]) : 0));
    const P = Math.exp(s.studentTail), T = Math.exp(otherTail);
    const [low, high] = slope.mean || !(s.others > 0 && P) ? [0, 0] : slope.tail(P, T);
    const mean = slope.mean ? slope.mean(s) : total(pulls) + (low + high) / 2;
    return { q: pulls.map((pull, k) => pull - p[k] * mean), bound: p.map((each) => (each * (high - low)) / 2) };
  }

  /* Whether a method is the run's own, at the run's settings: what follows from its targets was then measured. */
  function isAsRun(s, name, h) {
    if (!s.run || s.run.name !== name) return false;
    return Object.entries(s.run.settings).every(([key, value]) => h[key] === value || JSON.stringify(h[key]) === JSON.stringify(value));
  }

  /* A token's target over its candidates: q, the bound of its error, trust, scale, and what follows from them. Of a method
  that the page does not move it is what was measured, whatever the hyperparameters. */
  function targetOf(s, name, h, batchTrust) {
    if (s.measured[name]) return s.measured[name];
    const method = METHODS[name];
    const trust = batchTrust ? batchTrust(s, h) : method.trust(s, h);
    const terms = method.terms ? method.terms(s, h, trust) : [[1 - trust, STUDENT]];
    const weight = READ_WEIGHTS.includes(name) ? 1 : s.weight;
    const scale = (method.scale ? method.scale(s, h) : 1) * weight;
    const q = s.student.map((_, k) => (k === s.label ? trust : 0)), bound = q.map(() => 0);
    const trustBound = method.trustBound ? method.trustBound(s, h) : 0;
    const termsBound = method.termsBound ? method.termsBound(s, h) : trustBound;
    const others = { student: 0, mass: 0, norm: 0 }; // of the target's share of the tokens that are not kept
    bound[s.label] += trustBound;
    for (const [coefficient, pool] of terms) {
      const term = termOf(s, pool), most = Math.abs(coefficient) + termsBound;
      if (term.isStudent) others.student += coefficient;
      others.mass += most * term.outside;
      others.norm += most * term.norm;
      for (let k = 0; k < q.length; k++) {
        q[k] += coefficient * term.q[k];
        bound[k] += Math.abs(coefficient) * term.bound[k] + termsBound * (Math.abs(term.q[k]) + term.bound[k]);
      }
    }
    if (isAsRun(s, name, h)) return { q, bound, trust, scale, ...s.run.measured };
    return { q, bound, trust, scale, ...consequences(s, q, bound, scale, others) };
  }

  /* ‖s(p − Q)‖ and KL(Q‖p), and how far each may be off (`gradientOff`, `klOff`) for the bounds of the target and for the
  tokens that are not kept. KL is with all of those as one, which is the least that it is over the vocabulary: `klIsLeast`
  says where it may be more, since the target's shares of them are not the student's. */
  function consequences(s, q, bound, scale, others) {
    let square = 0, squareOff = 0, kl = 0, klOff = 0, off = 0, improper = false, rest = 1;
    q.forEach((value, k) => {
      const p = s.student[k] < IMPOSSIBLE ? 0 : Math.exp(s.student[k]);
      square += (p - value) ** 2;
      squareOff += bound[k] ** 2;
      improper = improper || value < -1e-6;
      if (value > 0) kl += value * (Math.log(value) - s.student[k]);
      if (bound[k]) klOff += bound[k] * (1 + Math.abs(Math.log(Math.max(value, bound[k])) - s.student[k]));
      rest -= value;
      off += bound[k];
    });
    if (rest > 1e-9 && s.studentTail > -Infinity) kl += rest * (Math.log(rest) - s.studentTail);
    if (off && s.studentTail > -Infinity) klOff += off * (1 + Math.abs(Math.log(Math.max(rest, off)) - s.studentTail));
    const outside = Math.abs(1 - others.student) * s.othersNorm;
    const [low, high] = [Math.max(outside - others.norm, 0), outside + others.norm].map((each) => Math.sqrt(square + each ** 2));
    const klIsLeast = others.mass > KNOWN_MASS || off > KNOWN_MASS;
    return {
      gradient: scale * (low + high) / 2, gradientOff: Math.abs(scale) * ((high - low) / 2 + Math.sqrt(squareOff)),
      kl: improper || rest < -1e-6 ? NaN : Math.max(kl, 0), klOff, klIsLeast, improper,
    };
  }

  /* What a method needs of whole micro-batches, by group: a function for its trust. */
  function batchTrusts(tokens, name, h) {
    const method = METHODS[name];
    if (!method || !method.batch) return null;
    const groups = new Map();
    for (const s of tokens) {
      if (!groups.has(s.group)) groups.set(s.group, []);
      groups.get(s.group).push(s);
    }
    return new Map([...groups].map(([group, members]) => [group, method.batch(members, h)]));
  }

  /* Every token's target under a method. */
  function allTargets(tokens, name, h) {
    const batches = batchTrusts(tokens, name, h);
    return tokens.map((s) => targetOf(s, name, h, batches && batches.get(s.group)));
  }

  const KINDS = { f: Float32Array, u: Uint32Array, h: Uint16Array };
  function column(packed) {
    const text = atob(packed.data), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return new KINDS[packed.kind](bytes.buffer);
  }

  /* What was measured of a method's target at a token. */
  function measuredOf(columns, name, t) {
    const kl = columns[`${name} target_kl`][t];
    return { gradient: columns[`${name} gradient`][t], gradientOff: 0, kl, klOff: 0, klIsLeast: false, improper: Number.isNaN(kl) };
  }

  /* The tokens of a page's store, each with its candidates and statistics. */
  function unpack(store) {
    const columns = Object.fromEntries(Object.entries(store.columns).map(([name, packed]) => [name, column(packed)]));
    const teachers = store.sources.filter((name) => name.startsWith("teacher"));
    const ownReference = store.sources.includes("reference");
    const notMoved = store.methods.map((each) => each.name).filter((name) => columns[`${name} trust`]);
    const tokens = [];
    let at = 0, t = 0;
    store.rows.forEach((row, r) => {
      const members = row.learned.map((place) => {
        const count = columns.counts[t], part = (name) => Array.from(columns[name].subarray(at, at + count));
        const student = part("student"), label = columns.label[t];
        const s = {
          row: r, place, group: row.group, at: t, candidates: part("candidates"), label, student,
          logp: student[label], p: Math.exp(student[label]), logNot: columns.log_not_y[t],
          entropy: columns.entropy[t], topEntropy: columns.top_entropy[t], topMass: columns.top_mass[t], collision: columns.collision[t],
          rank: columns.rank[t], weight: columns.token_weight ? columns.token_weight[t] : 1,
          studentTail: columns["student tail"][t], teachers, vocabulary: store.vocabulary,
          teacherLogps: teachers.map(part), teacherTails: teachers.map((name) => columns[`${name} tail`][t]),
          teacherEntropies: teachers.map((name) => columns[`${name} entropy`][t]),
          teacherOverlaps: teachers.map((name) => columns[`${name} overlap`][t]),
          teacherLabels: teachers.map((name) => Math.exp(columns[name][at + label])),
          referenceEntropy: columns[ownReference ? "reference entropy" : "entropy"][t],
          reference: ownReference ? part("reference") : student,
          referenceTail: columns[ownReference ? "reference tail" : "student tail"][t],
          referenceBelow: columns.reference_mass_below ? columns.reference_mass_below[t] : NaN,
          reverseSlope: columns.reverse_slope ? columns.reverse_slope[t] : NaN,
          todiSlope: columns.todi_slope ? columns.todi_slope[t] : NaN,
          tvdSlope: columns.tvd_slope ? columns.tvd_slope[t] : NaN,
          headShare: columns.head_share ? columns.head_share[t] : NaN,
          others: store.vocabulary - count, measured: {},
        };
        for (const name of notMoved) {
          const of = (number) => columns[`${name} ${number}`][t], trust = of("trust");
          const q = columns[`${name} target`] ? part(`${name} target`)
            : student.map((logp, k) => (1 - trust) * Math.exp(logp) + (k === label ? trust : 0));
          s.measured[name] = { q, bound: q.map(() => 0), trust, scale: of("scale"), ...measuredOf(columns, name, t) };
        }
        s.othersNorm = s.others > 0 ? Math.sqrt(Math.max(s.collision - total(student.map((x) => Math.exp(2 * x))), 0)) : 0;
        s.referenceLogp = columns.reference_logp_y ? columns.reference_logp_y[t] : s.reference[label];
        at += count; t += 1;
        return s;
      });
      const ratio = total(members.map((s) => s.logp - s.referenceLogp)) / Math.max(members.length, 1);
      members.forEach((s, i) => {
        Object.assign(s, { sequence: { ratio }, position: i / Math.max(members.length - 1, 1) });
        if (columns["guided mass"]) s.guided = guidedPool(s, store.guided, columns["guided mass"][s.at]);
        if (columns["run gradient"]) s.run = { ...store.run, measured: measuredOf(columns, "run", s.at) };
        tokens.push(s);
      });
    });
    return tokens;
  }

  root.LiveTarget = { METHODS: Object.keys(METHODS), unpack, targetOf, batchTrusts, allTargets, settingWords };
})(typeof globalThis === "undefined" ? this : globalThis);
