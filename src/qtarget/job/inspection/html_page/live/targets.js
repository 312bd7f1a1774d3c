/* A token's target under a method, with its bounds, and what follows from it. */
(function () {
  "use strict";
  const { IMPOSSIBLE, STUDENT, termOf } = LiveTarget.pools;
  const { METHODS, READ_WEIGHTS } = LiveTarget.methods;

  const KNOWN_MASS = 2e-5; // of other tokens; what so little may add to KL is not shown

  /* Whether a method is the run's own, at the run's settings: what follows from its targets was then measured. */
  function isAsRun(s, name, h) {
    if (!s.run || s.run.name !== name) return false;
    const isSame = ([key, value]) => h[key] === value || JSON.stringify(h[key]) === JSON.stringify(value);
    return Object.entries(s.run.settings).every(isSame);
  }

  /* A token's target over its candidates: q, the bound of its error, trust, scale, and what follows from them. Of a
  method that the page does not move it is what was measured, whatever the hyperparameters. */
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

  /* ‖s(p − Q)‖ and KL(Q‖p), and how far each may be off (`gradientOff`, `klOff`) for the bounds of the target and for
  the tokens that are not kept. KL is with all of those as one, which is the least that it is over the vocabulary:
  `klIsLeast` says where it may be more, since the target's shares of them are not the student's. */
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
    const withOthers = (norm) => Math.sqrt(square + norm ** 2);
    const low = withOthers(Math.max(outside - others.norm, 0)), high = withOthers(outside + others.norm);
    const klIsLeast = others.mass > KNOWN_MASS || off > KNOWN_MASS;
    return {
      gradient: scale * (low + high) / 2,
      gradientOff: Math.abs(scale) * ((high - low) / 2 + Math.sqrt(squareOff)),
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

  Object.assign(LiveTarget, { METHODS: Object.keys(METHODS), targetOf, batchTrusts, allTargets });
})();
