/* What the page holds, which never changes: rows, their learned tokens, methods, and what was found. */
(function () {
  "use strict";
  const page = JSON.parse(TargetPage.nodes.$("store").textContent);
  const { store, findings } = page;
  const methods = store.methods;
  const tokens = LiveTarget.unpack(store);
  const teachers = store.sources.filter((name) => name.startsWith("teacher"));
  const ownReference = store.sources.includes("reference");
  const firstOfRow = [];
  tokens.forEach((s, t) => { if (firstOfRow[s.row] === undefined) firstOfRow[s.row] = t; });

  /* ---- rows and sources */
  const tokensOf = (r) => tokens.slice(firstOfRow[r], firstOfRow[r] + store.rows[r].learned.length);
  const isSample = (s) => ["random", "all"].includes(store.rows[s.row].why);
  const rowName = (n) => `row ${n}${findings.places[n] ? ` (${findings.places[n]})` : ""}`;
  const sourceName = (name) => (name === "teacher 0" && teachers.length === 1 ? "teacher" : name);

  /* ---- a token: its texts */
  const text = (candidate) => store.texts[candidate] || "∅";
  const seen = (candidate) => text(candidate).replace("↵\n", "↵").replace(/\s/g, "␣");
  const labelText = (s) => store.rows[s.row].texts[s.place] || text(s.candidates[s.label]);

  /* ---- a token: what model and teacher say of it */
  const likeliest = (values) => values.reduce((best, value, k) => (value > values[best] ? k : best), 0);
  const teacherP = (s, i = 0) => (s.teachers.length > i ? Math.exp(s.teacherLogps[i][s.label]) : NaN);
  const surestP = (s) => Math.exp(Math.max(...s.teacherLogps[0]));
  const isConflict = (s) => s.p < page.conflict[0] && s.entropy < page.conflict[1];
  const contradicted = new Set(tokens.filter((s) =>
    s.teachers.length > 0 && teacherP(s) < page.contradiction[0] && surestP(s) >= page.contradiction[1]));
  const isContradicted = (s) => contradicted.has(s);
  const [isMarked, marked] =
    teachers.length ? [isContradicted, "contradicted token"] : [isConflict, "confident conflict"];

  /* How sure the teacher is against each row, at most; a token `follows` where it is against an earlier one. */
  const againstRow = store.rows.map(() => 0);
  tokens.forEach((s) => {
    const sureness = isContradicted(s) ? surestP(s) - teacherP(s) : 0;
    s.follows = againstRow[s.row] > 0;
    againstRow[s.row] = Math.max(againstRow[s.row], sureness);
  });
  const AFTER = "after an earlier contradicted token of its row";

  /* The token that a finding names, if its row is on this page. */
  const ofSurest = (each) => tokens.find((s) => store.rows[s.row].number === each.row && s.place + 1 === each.token);

  /* Its region of the map, counted as `page.regions`. */
  function regionOf(s) {
    const place = (edges, x) => {
      let i = 0;
      while (i + 2 < edges.length && x >= edges[i + 1]) i++;
      return i;
    };
    return place(page.entropy_edges, s.entropy) * (page.p_edges.length - 1) + place(page.p_edges, s.p);
  }

  /* ---- methods */
  const runSettings = (method) => Object.fromEntries(method.settings.map((each) => [each.name, each.value]));
  const gloss = (method) => `${method.does} For: ${method.use_when} (${method.source})`;
  const settingsWords = (method, settings) =>
    method.settings.map((each) => `${each.name} ${LiveTarget.settingWords(settings[each.name])}`).join(", ");

  TargetPage.facts = {
    page, store, findings, methods, tokens, teachers, ownReference, firstOfRow, tokensOf, isSample, rowName, sourceName,
    seen, labelText, likeliest, teacherP, isConflict, isContradicted, isMarked, marked, againstRow, AFTER, ofSurest,
    regionOf, runSettings, gloss, settingsWords,
  };
})();
