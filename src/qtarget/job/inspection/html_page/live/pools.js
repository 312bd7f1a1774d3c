/* A log-linear pool over a token's candidates, and how far each of its entries may be off for what the page does not
keep of the other tokens. A pool is { student, reference, teachers: [], slope }, exponents all; or { along: a slope },
or { student: 1, tangent: true }, whose entries sum to zero. */
(function () {
  "use strict";
  const { total } = LiveTarget.arithmetic;

  const IMPOSSIBLE = -5e29;
  const STUDENT = { student: 1 };
  const REFERENCE = { reference: 1 };
  const UNIFORM = {};
  const teacher = (index, power = 1) => ({ teachers: Object.assign([], { [index]: power }) });

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

  /* log Σ p^a·t^b over the tokens that are not kept is convex along a + b = 1, and known at η = 0 (p), at η = 1 (t) and
  at the run's own η: between two known points it is below their chord and above the next chord, drawn on. */
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

  /* A pool over the candidates: q, and how far each may be off for what is not known of the other tokens; of those
  their mass, and the most that their norm may be: none of them has more than the largest of them. */
  function poolOf(s, pool) {
    const exponents = exponentsOf(s, pool);
    const top = Math.max(...exponents);
    const weights = exponents.map((x) => Math.exp(x - top));
    const [low, high] = tailBounds(s, pool, top);
    const sum = total(weights), middle = sum + (low + high) / 2;
    const off = 1 / (sum + low) - 1 / (sum + high), outside = high / (sum + high);
    const largest = Math.min(Math.exp(largestOther(s, pool) - top) / (sum + low), outside) || 0;
    const q = weights.map((w) => w / middle), bound = weights.map((w) => w * off);
    return { q, bound, outside, norm: Math.sqrt(largest * outside) };
  }

  /* The logarithm of the largest weight that a pool may have on a token that is not kept. */
  function largestOther(s, pool) {
    const ofStudent = Math.log(Math.min(s.othersNorm, Math.exp(s.studentTail)));
    const parts = (pool.teachers || []).map((power, i) => [power, s.teacherTails[i]]);
    if (pool.student) parts.push([pool.student, ofStudent]);
    if (pool.reference) parts.push([pool.reference, s.reference === s.student ? ofStudent : s.referenceTail]);
    return total(parts.map(([power, x]) => (power ? power * x : 0)));
  }

  const isStudent = (pool) =>
    pool.student === 1 && !pool.reference && !pool.tangent && !pool.slope && !(pool.teachers || []).some(Boolean);

  /* The same of what a method may add to its target: a pool, or a slope or tangent, whose entries sum to zero. */
  function termOf(s, pool) {
    const nothing = () => s.student.map(() => 0);
    if (isStudent(pool)) return { q: s.student.map(Math.exp), bound: nothing(), outside: 0, norm: 0, isStudent: true };
    if (!pool.along && !pool.tangent) return poolOf(s, pool);
    const term = pool.along ? slopeOf(s, pool.along) : { q: entropyTangent(s), bound: nothing() };
    const outside = Math.abs(total(term.q)) + total(term.bound);
    const harder = (pull, k) => (s.student[k] < IMPOSSIBLE ? 0 : Math.abs(pull) / Math.exp(s.student[k]));
    const steepest = Math.max(...term.q.map(harder)); // no other token is taken to be pulled harder for its mass
    return { ...term, outside, norm: Math.max(outside, steepest * s.othersNorm) };
  }

  /* p∘(log p + H) over the candidates. */
  const entropyTangent = (s) =>
    s.student.map((logp) => (logp < IMPOSSIBLE ? 0 : Math.exp(logp) * (logp + s.entropy)));

  /* p∘(h − E_p h) over the candidates. */
  function slopeOf(s, slope) {
    const other = slope.reference ? s.reference : s.teacherLogps[0];
    const otherTail = slope.reference ? s.referenceTail : s.teacherTails[0];
    const p = s.student.map((logp) => (logp < IMPOSSIBLE ? 0 : Math.exp(logp)));
    const pulls = p.map((each, k) => (each ? slope.pull(each, Math.exp(other[k]), other[k] - s.student[k]) : 0));
    const P = Math.exp(s.studentTail), T = Math.exp(otherTail);
    const [low, high] = slope.mean || !(s.others > 0 && P) ? [0, 0] : slope.tail(P, T);
    const mean = slope.mean ? slope.mean(s) : total(pulls) + (low + high) / 2;
    return { q: pulls.map((pull, k) => pull - p[k] * mean), bound: p.map((each) => (each * (high - low)) / 2) };
  }

  LiveTarget.pools = { IMPOSSIBLE, STUDENT, REFERENCE, UNIFORM, teacher, exponentsOf, poolOf, termOf };
})();
