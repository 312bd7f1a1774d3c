/* The tokens of a page's store: its columns of numbers, taken apart again. */
(function () {
  "use strict";
  const { total } = LiveTarget.arithmetic;
  const { numberOf, settingWords } = LiveTarget.hyperparameters;
  const { exponentsOf } = LiveTarget.pools;
  const { guided } = LiveTarget.methods;

  const KINDS = { f: Float32Array, u: Uint32Array, h: Uint16Array };

  /* `count` numbers, deflated: of all of them the first bytes, then the second ones, and so on. */
  function column({ kind, count, data }) {
    const text = atob(data), deflated = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) deflated[i] = text.charCodeAt(i);
    const Numbers = KINDS[kind], width = Numbers.BYTES_PER_ELEMENT, planes = new Uint8Array(count * width);
    fflate.inflateSync(deflated, { out: planes });
    const bytes = new Uint8Array(planes.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = planes[(i % width) * count + Math.floor(i / width)];
    return new Numbers(bytes.buffer);
  }

  /* Every learned token of the store, in order, with its candidates and statistics. */
  function unpack(store) {
    const columns = Object.fromEntries(Object.entries(store.columns).map(([name, packed]) => [name, column(packed)]));
    const read = tokenReader(store, columns), tokens = [];
    let start = 0;
    store.rows.forEach((row, r) => {
      const members = row.learned.map((place) => {
        const t = tokens.length, stop = start + columns.counts[t];
        const s = read(t, start, stop);
        s.row = r;
        s.place = place;
        s.group = row.group;
        start = stop;
        tokens.push(s);
        return s;
      });
      const ratio = total(members.map((s) => s.logp - s.referenceLogp)) / Math.max(members.length, 1);
      members.forEach((s, i) => {
        s.sequence = { ratio };
        s.position = i / Math.max(members.length - 1, 1);
        if (columns["guided mass"]) s.guided = guidedPool(s, store.guided, columns["guided mass"][s.at]);
      });
    });
    return tokens;
  }

  /* Reads token t, whose candidates stand from start to stop. What is the same at all tokens is looked up once. */
  function tokenReader(store, columns) {
    const teachers = store.sources.filter((name) => name.startsWith("teacher"));
    const ofTeachers = (name) => teachers.map((teacher) => columns[teacher + name]);
    const [logps, tails, entropies, overlaps] = ["", " tail", " entropy", " overlap"].map(ofTeachers);
    const ownReference = store.sources.includes("reference");
    const referenceTails = columns[ownReference ? "reference tail" : "student tail"];
    const referenceEntropies = columns[ownReference ? "reference entropy" : "entropy"];
    const measured = store.methods.map((each) => each.name).filter((name) => columns[`${name} trust`]);
    const targets = measured.map((name) => [name, targetReader(name, columns, store.pools[name])]);
    const run = columns["run gradient"] ? consequencesReader("run", columns) : null;
    return (t, start, stop) => {
      const number = (name, otherwise = NaN) => (columns[name] ? columns[name][t] : otherwise);
      const part = (column) => Array.from(column.subarray(start, stop)), here = (column) => column[t];
      const student = part(columns.student), label = columns.label[t], count = stop - start;
      const s = {
        at: t, vocabulary: store.vocabulary, candidates: part(columns.candidates), others: store.vocabulary - count,
        label, rank: columns.rank[t], weight: number("token_weight", 1),
        student, studentTail: number("student tail"), logp: student[label], p: Math.exp(student[label]),
        logNot: number("log_not_y"), entropy: number("entropy"), collision: number("collision"),
        topEntropy: number("top_entropy"), topMass: number("top_mass"), headShare: number("head_share"),
        teachers, teacherLogps: logps.map(part), teacherTails: tails.map(here), teacherEntropies: entropies.map(here),
        teacherOverlaps: overlaps.map(here), teacherLabels: logps.map((column) => Math.exp(column[start + label])),
        reference: ownReference ? part(columns.reference) : student, referenceTail: referenceTails[t],
        referenceEntropy: referenceEntropies[t], referenceBelow: number("reference_mass_below"),
        reverseSlope: number("reverse_slope"), todiSlope: number("todi_slope"), tvdSlope: number("tvd_slope"),
        run: run ? { ...store.run, measured: run(t) } : undefined, measured: {},
      };
      const squares = total(student.map((x) => Math.exp(2 * x)));
      s.othersNorm = s.others > 0 ? Math.sqrt(Math.max(s.collision - squares, 0)) : 0;
      s.referenceLogp = number("reference_logp_y", s.reference[label]);
      for (const [name, read] of targets) s.measured[name] = read(s, start, stop);
      return s;
    };
  }

  /* Reads a target that the page does not move: its entries, where they are stored; else it is built of the label and a
  rest, which is a pool of fixed exponents or the student. */
  function targetReader(name, columns, fixed) {
    const of = (number) => columns[`${name} ${number}`];
    const [trusts, scales, masses, entries] = ["trust", "scale", "mass", "target"].map(of);
    const consequences = consequencesReader(name, columns);
    function build(s, trust) {
      const share = fixed ? fixed.rest : 1 - trust;
      const rest = fixed ? wholePool(s, fixed.pool, masses[s.at]) : s.student.map(Math.exp);
      return rest.map((each, k) => share * each + (k === s.label ? trust : 0));
    }
    return (s, start, stop) => {
      const trust = trusts[s.at], q = entries ? Array.from(entries.subarray(start, stop)) : build(s, trust);
      return { q, bound: q.map(() => 0), trust, scale: scales[s.at], ...consequences(s.at) };
    };
  }

  /* Reads what was measured to follow from a method's target. */
  function consequencesReader(name, columns) {
    const [gradients, divergences] = ["gradient", "target_kl"].map((of) => columns[`${name} ${of}`]);
    return (t) => {
      const kl = divergences[t];
      return { gradient: gradients[t], gradientOff: 0, kl, klOff: 0, klIsLeast: false, improper: Number.isNaN(kl) };
    };
  }

  /* A pool of which the logarithm of its mass on the tokens that are not kept is known. */
  function wholePool(s, pool, logMass) {
    const exponents = exponentsOf(s, pool), top = Math.max(...exponents);
    const weights = exponents.map((x) => Math.exp(x - top)), kept = -Math.expm1(logMass) / total(weights);
    return weights.map((weight) => weight * kept);
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
