/* The tokens of a page's store: its columns of numbers, taken apart again. */
(function () {
  "use strict";
  const { total } = LiveTarget.arithmetic;
  const { inflate } = LiveTarget.inflate;
  const { numberOf, settingWords } = LiveTarget.hyperparameters;
  const { exponentsOf } = LiveTarget.pools;
  const { guided } = LiveTarget.methods;

  const KINDS = { f: Float32Array, u: Uint32Array, h: Uint16Array };

  /* `count` numbers, deflated: of all of them the first bytes, then the second ones, and so on. */
  function column({ kind, count, data }) {
    const text = atob(data), deflated = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) deflated[i] = text.charCodeAt(i);
    const Numbers = KINDS[kind], width = Numbers.BYTES_PER_ELEMENT, planes = inflate(deflated, count * width);
    const bytes = new Uint8Array(planes.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = planes[(i % width) * count + Math.floor(i / width)];
    return new Numbers(bytes.buffer);
  }

  /* Every learned token of the store, in order, with its candidates and statistics. */
  function unpack(store) {
    const columns = Object.fromEntries(Object.entries(store.columns).map(([name, packed]) => [name, column(packed)]));
    const tokens = [];
    let start = 0;
    store.rows.forEach((row, r) => {
      const members = row.learned.map((place) => {
        const s = { row: r, place, group: row.group, at: tokens.length };
        const stop = start + columns.counts[s.at];
        readToken(s, store, columns, start, stop);
        start = stop;
        tokens.push(s);
        return s;
      });
      const ratio = total(members.map((s) => s.logp - s.referenceLogp)) / Math.max(members.length, 1);
      members.forEach((s, i) => {
        Object.assign(s, { sequence: { ratio }, position: i / Math.max(members.length - 1, 1) });
        if (columns["guided mass"]) s.guided = guidedPool(s, store.guided, columns["guided mass"][s.at]);
      });
    });
    return tokens;
  }

  /* What the columns hold of one token, whose candidates stand from start to stop. */
  function readToken(s, store, columns, start, stop) {
    const number = (name, otherwise = NaN) => (columns[name] ? columns[name][s.at] : otherwise);
    const part = (name) => Array.from(columns[name].subarray(start, stop));
    const teachers = store.sources.filter((name) => name.startsWith("teacher"));
    const of = (numbers) => teachers.map((name) => number(`${name} ${numbers}`));
    const reference = store.sources.includes("reference") ? "reference" : "student";
    const student = part("student"), label = number("label");
    Object.assign(s, {
      vocabulary: store.vocabulary, candidates: part("candidates"), label, rank: number("rank"),
      others: store.vocabulary - (stop - start), weight: number("token_weight", 1),
      student, studentTail: number("student tail"), logp: student[label], p: Math.exp(student[label]),
      logNot: number("log_not_y"), entropy: number("entropy"), collision: number("collision"),
      topEntropy: number("top_entropy"), topMass: number("top_mass"),
      teachers, teacherLogps: teachers.map(part), teacherTails: of("tail"),
      teacherEntropies: of("entropy"), teacherOverlaps: of("overlap"),
      reference: reference === "student" ? student : part(reference), referenceTail: number(`${reference} tail`),
      referenceEntropy: number(reference === "student" ? "entropy" : "reference entropy"),
      referenceBelow: number("reference_mass_below"), headShare: number("head_share"),
      reverseSlope: number("reverse_slope"), todiSlope: number("todi_slope"), tvdSlope: number("tvd_slope"),
    });
    s.teacherLabels = s.teacherLogps.map((logps) => Math.exp(logps[label]));
    s.referenceLogp = number("reference_logp_y", s.reference[label]);
    s.othersNorm = s.others > 0 ? Math.sqrt(Math.max(s.collision - total(student.map((x) => Math.exp(2 * x))), 0)) : 0;
    if (columns["run gradient"]) s.run = { ...store.run, measured: consequencesOf("run", number) };
    const measured = store.methods.map((each) => each.name).filter((name) => columns[`${name} trust`]);
    s.measured = Object.fromEntries(measured.map((name) => {
      const entries = columns[`${name} target`] ? part(`${name} target`) : null;
      return [name, measuredTarget(s, name, number, entries, store.pools[name])];
    }));
  }

  /* A target that the page does not move: its entries, where they are stored; else it is built of the label and a rest,
  which is a pool of fixed exponents or the student. */
  function measuredTarget(s, name, number, entries, fixed) {
    const trust = number(`${name} trust`);
    const share = fixed ? fixed.rest : 1 - trust;
    const rest = () => (fixed ? wholePool(s, fixed.pool, number(`${name} mass`)) : s.student.map(Math.exp));
    const q = entries || rest().map((each, k) => share * each + (k === s.label ? trust : 0));
    return { q, bound: q.map(() => 0), trust, scale: number(`${name} scale`), ...consequencesOf(name, number) };
  }

  /* A pool of which the logarithm of its mass on the tokens that are not kept is known. */
  function wholePool(s, pool, logMass) {
    const exponents = exponentsOf(s, pool), top = Math.max(...exponents);
    const weights = exponents.map((x) => Math.exp(x - top)), kept = -Math.expm1(logMass) / total(weights);
    return weights.map((weight) => weight * kept);
  }

  /* What was measured to follow from a method's target. */
  function consequencesOf(name, number) {
    const gradient = number(`${name} gradient`), kl = number(`${name} target_kl`);
    return { gradient, gradientOff: 0, kl, klOff: 0, klIsLeast: false, improper: Number.isNaN(kl) };
  }

  /* The run's own pool of student and teachers, and the logarithm of its weights' sum over the tokens that are not
  kept: the store has the mass that they hold of the whole. */
  function guidedPool(s, { eta, teacher_temperature }, logMass) {
    const pool = guided(numberOf(eta, s, { progress: 0 }), teacher_temperature, s), exponents = exponentsOf(s, pool);
    const top = Math.max(...exponents), kept = top + Math.log(total(exponents.map((x) => Math.exp(x - top))));
    return { ...pool, tail: kept + logMass - Math.log(Math.max(-Math.expm1(logMass), 1e-12)) };
  }

  Object.assign(LiveTarget, { unpack, settingWords });
})();
