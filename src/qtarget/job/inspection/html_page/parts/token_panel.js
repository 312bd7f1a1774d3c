/* The panel: one token, what model, teacher and target give its candidates, and the facts of it. */
(function () {
  "use strict";
  const { $, make, soft } = TargetPage.nodes;
  const { NOT_NEGATIVE, number, many, roughly, entries } = TargetPage.words;
  const {
    store, tokens, ownReference, tokensOf, rowName, sourceName, seen, labelText, teacherP, isConflict, isContradicted,
    isMarked, AFTER, settingsWords,
  } = TargetPage.facts;
  const { state, when, letGo } = TargetPage.state;
  const { LOOK } = TargetPage.look;
  const { listed } = TargetPage.rows;
  const { saidBefore } = TargetPage.excerpts;
  const { ABOUT } = TargetPage.meanings;
  const { drawBars } = TargetPage.bars;
  const { underEveryMethod } = TargetPage.everyMethod;
  const MOST_CANDIDATES = 9;

  function drawToken() {
    if (state.token === null) return;
    const s = tokens[state.token], target = state.targets[state.token];
    const series = seriesOf(s, target), first = firstCandidates(s, series);
    const about = "bars of the probabilities in the table below";
    const chart = make("div", { class: "chart", role: "img", "aria-label": about });
    const panel = $("token"), scrolled = panel.scrollTop;
    drawWalk(s);
    $("token-body").replaceChildren(
      heading(s), context(s), ...notes(s, target), chart, facts(s, target), ...roughNote(target), formula(),
      probabilities(s, target, series, first), underEveryMethod(s));
    drawBars(chart, series, first, s);
    panel.scrollTop = scrolled;
  }

  /* [key of its colour, name, probabilities of the candidates] of each source, and of the target. */
  function seriesOf(s, target) {
    const sources = [
      ["student", "model", s.student],
      ...s.teachers.map((name, i) => ["teacher", sourceName(name), s.teacherLogps[i]]),
      ...(ownReference ? [["reference", "reference", s.reference]] : []),
    ];
    const ofSources = sources.map(([key, name, logps]) => [key, name, logps.map((x) => Math.exp(x))]);
    return [...ofSources, ["target", "target", target.q]];
  }

  /* Those with the most mass in any series, and the label. */
  function firstCandidates(s, series) {
    const most = (k) => Math.max(...series.map(([, , values]) => values[k]));
    const first = s.student.map((_, k) => k).sort((a, b) => most(b) - most(a)).slice(0, MOST_CANDIDATES);
    if (!first.includes(s.label)) first[first.length - 1] = s.label;
    return first;
  }

  /* Which of the listed marked tokens it is. */
  function drawWalk(s) {
    const among = listed().flatMap(tokensOf).filter(isMarked), nth = among.indexOf(s) + 1;
    $("walk-of").textContent = nth ? `${many(nth)} of ${many(among.length)}` : `${many(among.length)} listed`;
  }

  function heading(s) {
    const under = [state.method.name, settingsWords(state.method, state.settings)].filter(Boolean).join(", ");
    const close = make("button", { type: "button", onclick: letGo, "aria-label": "let go of this token" }, "×");
    const pinned = make("span", { id: "pinned", hidden: state.isPinned ? null : "" }, "· pinned; Esc lets go ", close);
    return soft(`${rowName(store.rows[s.row].number)}, token ${s.place + 1}, under ${under} `, pinned);
  }

  function context(s) {
    const before = saidBefore(s, innerWidth > 900 ? 200 : 90);
    return make("div", { class: "text context", dir: "auto" }, before, make("b", null, labelText(s)));
  }

  function notes(s, target) {
    const follows = s.follows ? `, ${AFTER}: the answer may have gone wrong there` : "";
    const said = [
      target.improper ? "Improper target: some entries are below zero." : "",
      isConflict(s) ? "A confident conflict." : "",
      isContradicted(s) ? `The teacher contradicts this label${follows}.` : "",
    ];
    return said.filter(Boolean).map((note) => make("p", { class: "flag" }, note));
  }

  function facts(s, target) {
    const pairs = [
      ["p_y", number(s.p, 4)], ["rank", many(s.rank)], ["entropy", number(s.entropy, 2)],
      ...(s.teachers.length ? [["teacher's p_y", number(teacherP(s), 4)]] : []),
      ["trust γ", number(target.trust)], ["scale s", number(target.scale)],
      ["pull", roughly(target.gradient, target.gradientOff, 3, NOT_NEGATIVE)], ["KL(Q‖p)", klWords(target)],
    ];
    const pair = ([name, value]) =>
      [make("dt", { title: ABOUT[name] }, name), make("dd", { "data-fact": name }, value)];
    return make("dl", null, ...pairs.flatMap(pair));
  }

  function klWords({ kl, klOff, klIsLeast }) {
    if (!klIsLeast || Number.isNaN(kl)) return number(kl);
    return `≥ ${number(Math.max(Math.floor(1000 * (kl - klOff)) / 1000, 0))}`;
  }

  /* What the marks of numbers mean, where the target is known up to a bound. */
  function roughNote(target) {
    const isRough = Math.max(...target.bound) > 1e-4 || target.gradientOff > 5e-4 || target.klIsLeast;
    const says = "≈: within 1 of its last digit; a … b: somewhere between; ≥: at least. The page keeps the likeliest " +
      "tokens alone.";
    return isRough ? [make("p", { class: "soft", id: "rough" }, says)] : [];
  }

  function formula() {
    const { does, trust, residual } = state.method;
    const says = residual.startsWith("Q") ? residual : `γ = ${trust}; π̃: ${residual}`;
    const below = make("a", { class: "no-print", href: "#every-method" }, "under every method ↓");
    return make("p", { class: "soft", id: "formula" }, `${does} `, make("br"), `${says}. `, below);
  }

  function probabilities(s, target, series, first) {
    const told = (key, value, bound) =>
      key === "target" ? roughly(value, bound, 4, entries(target)) : number(value, 4);
    const head = series.map(([key, name]) =>
      make("th", { class: "n", title: ABOUT[name] }, make("span", { class: `key ${key}` }), name));
    const lineOf = (k) => {
      const name = make("td", null, (k === s.label ? "● " : "") + seen(s.candidates[k]));
      const values = series.map(([key, , of]) => make("td", { class: "n" }, told(key, of[k], target.bound[k])));
      const attributes = { class: k === s.label ? "label" : "", "data-candidate": store.ids[s.candidates[k]] };
      return make("tr", attributes, name, ...values);
    };
    const left = (values) => first.reduce((rest, k) => rest - values[k], 1), leftOff = 1 - left(target.bound);
    const others = series.map(([key, , values]) => make("td", { class: "n" }, told(key, left(values), leftOff)));
    const rest = make("tr", { class: "soft" }, make("td", null, "all others"), ...others);
    const heads = make("thead", null, make("tr", null, make("th", null, "token"), ...head));
    return make("table", null, heads, make("tbody", null, ...first.map(lineOf), rest));
  }

  when(["token", "targets", ...LOOK], drawToken);
  when(["isPinned"], () => { $("pinned").hidden = !state.isPinned; });
})();
