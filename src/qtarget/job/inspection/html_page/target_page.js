/* The page over the store: every text from rows goes in as text, never as markup. */
(function () {
  "use strict";
  const page = JSON.parse(document.getElementById("store").textContent);
  const { store, findings } = page;
  const tokens = LiveTarget.unpack(store);
  const teachers = store.sources.filter((name) => name.startsWith("teacher"));
  const ownReference = store.sources.includes("reference"), methods = store.methods;
  const $ = (id) => document.getElementById(id);
  const state = { method: null, settings: {}, targets: [], token: null, isPinned: false, region: null };
  const firstOfRow = [];
  tokens.forEach((s, t) => { if (firstOfRow[s.row] === undefined) firstOfRow[s.row] = t; });

  function make(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "class") node.className = value;
      else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children.filter((each) => each !== null && each !== undefined));
    return node;
  }
  const number = (x, digits = 3) => (x === null || x === undefined || Number.isNaN(x) ? "–" : Math.abs(x) >= 1e4 ? x.toExponential(1) : x.toFixed(digits));
  const percent = (x, digits = 0) => (x === null || x === undefined || Number.isNaN(x) ? "–" : `${(100 * x).toFixed(digits)}%`);
  /* A number that is known up to a bound: marked, and within 1 of its last digit, where the bound passes the last one;
  between which two it lies, where that leaves no digit. `range` is what it can be at all. */
  const roughly = (x, bound, digits = 3, range = [-Infinity, Infinity]) => {
    if (!(2 * bound > 10 ** -digits) || Number.isNaN(x)) return number(x, digits);
    const certain = Math.floor(-Math.log10(2 * bound));
    if (certain > 0) return `≈${number(x, certain)}`;
    const [low, high] = [Math.max(x - bound, range[0]), Math.min(x + bound, range[1])];
    return `${number(Math.floor(10 * low) / 10, 1)} … ${number(Math.ceil(10 * high) / 10, 1)}`;
  };
  const NOT_NEGATIVE = [0, Infinity], entries = (target) => (target.improper ? undefined : [0, 1]);
  const many = (x) => Math.round(x).toLocaleString("en");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const rowName = (n) => `row ${n}${findings.places[n] ? ` (${findings.places[n]})` : ""}`;
  const sourceName = (name) => (name === "teacher 0" && teachers.length === 1 ? "teacher" : name);
  const options = (select, pairs, chosen) => {
    select.replaceChildren(...pairs.map(([value, text]) => make("option", { value, selected: value === chosen || null }, text)));
  };

  function table(heads, lines) {
    const head = make("tr", null, ...heads.map((text, i) => make("th", { class: i ? "n" : "" }, text)));
    const body = lines.map((line) => {
      const cells = line.cells.map((cell, i) => make("td", { class: i ? "n" : "" }, cell));
      return make("tr", { class: line.class || "" }, ...cells);
    });
    return make("div", { class: "scroll" }, make("table", null, make("thead", null, head), make("tbody", null, ...body)));
  }

  /* ---- what the words mean */
  const MEANINGS = [
    ["label", "the token that the row has at this place"],
    ["model", "the one that is trained, as it is before the first step; in the words of methods, the student"],
    ...(teachers.length ? [["teacher", `a second model, which has read the same rows${findings.teacher ? `: ${findings.teacher}` : ""}`]] : []),
    ["p_y", "the model's probability of the label"],
    ["entropy", "how unsure the model is, in nats; 0 where it is sure"],
    ["target Q", "the distribution that the method would train the model toward here: γ·label + (1 − γ)·π̃"],
    ["trust γ", "how much of the target is put on the label itself; the rest may hold the label too"],
    ["rest π̃", "where the other mass goes: to what the model itself (p), a teacher (t) or the reference (r) finds likely"],
    ["improper", "a target with entries below zero: the method pushes these tokens down"],
    ...(store.sources.includes("reference") || methods.some((each) => /\br\b/.test(each.residual)) ? [["reference", "the model as it was before training, or the one that the run names"]] : []),
    ["scale s", "how strongly the method weighs this token"],
    ["pull", "the norm of the token's gradient, s(p − Q)"],
    ["KL(Q‖p)", "how far the target is from the model, in nats"],
    ["confident conflict", `the model is sure of another token: p_y below ${page.conflict[0]}, entropy below ${page.conflict[1]}; the label may be right and new to it`],
    ...(teachers.length ? [["contradicted", `the teacher gives the label less than ${page.contradiction[0]} and another token at least ${page.contradiction[1]}`]] : []),
  ];
  const ABOUT = { ...Object.fromEntries(MEANINGS), rank: "the label's place among the model's tokens, 1 for the likeliest", "teacher's p_y": "the teacher's probability of the label", target: "the target Q" };
  function drawMeanings() {
    $("meanings").open = innerWidth > 900;
    $("meanings").append(make("dl", null, ...MEANINGS.map(([name, says]) => make("div", null, make("dt", null, name), make("dd", null, says)))));
  }

  /* ---- numbers of a token */
  const teacherP = (s, i = 0) => (s.teachers.length > i ? Math.exp(s.teacherLogps[i][s.label]) : NaN);
  const isConflict = (s) => s.p < page.conflict[0] && s.entropy < page.conflict[1];
  const contradicted = new Set(tokens.filter((s) => s.teachers.length > 0 && teacherP(s) < page.contradiction[0] &&
    Math.exp(Math.max(...s.teacherLogps[0])) >= page.contradiction[1]));
  const isContradicted = (s) => contradicted.has(s);
  const sureness = (s) => (isContradicted(s) ? Math.exp(Math.max(...s.teacherLogps[0])) - teacherP(s) : 0);
  const againstRow = store.rows.map(() => 0);
  tokens.forEach((s) => { s.follows = againstRow[s.row] > 0; againstRow[s.row] = Math.max(againstRow[s.row], sureness(s)); });
  const [isMarked, marked] = teachers.length ? [isContradicted, "contradicted token"] : [isConflict, "confident conflict"];
  const AFTER = "after an earlier contradicted token of its row";
  const ofSurest = (each) => tokens.find((s) => store.rows[s.row].number === each.row && s.place + 1 === each.token);
  const regionOf = (s) => {
    const place = (edges, x) => { let i = 0; while (i + 2 < edges.length && x >= edges[i + 1]) i++; return i; };
    return place(page.entropy_edges, s.entropy) * (page.p_edges.length - 1) + place(page.p_edges, s.p);
  };
  const text = (candidate) => store.texts[candidate] || "∅";
  const seen = (candidate) => text(candidate).replace("↵\n", "↵").replace(/\s/g, "␣");
  const labelText = (s) => store.rows[s.row].texts[s.place] || text(s.candidates[s.label]);
  const likeliest = (values) => values.reduce((best, value, k) => (value > values[best] ? k : best), 0);

  /* ---- the method and its hyperparameters */
  const runSettings = (method) => Object.fromEntries(method.settings.map((each) => [each.name, each.value]));
  const isMoved = () => JSON.stringify(state.settings) !== JSON.stringify(runSettings(state.method));
  const gloss = (method) => `${method.does} For: ${method.use_when} (${method.source})`;
  const settingsWords = (method, settings) => method.settings.map((each) => `${each.name} ${LiveTarget.settingWords(settings[each.name])}`).join(", ");

  function chooseMethod(name, settings) {
    const method = methods.find((each) => each.name === name);
    if (!method) return;
    state.method = method;
    state.settings = settings || runSettings(method);
    $("method").value = name;
    drawSettings();
    recompute();
  }

  function drawSettings() {
    const back = state.method.name === findings.configured ? "back to the run's settings" : "back to its defaults";
    $("settings").replaceChildren(...state.method.settings.map((each) => make("label", { title: each.about }, each.name, ...control(each))),
      make("button", { type: "button", id: "back", hidden: "", onclick: () => chooseMethod(state.method.name) }, back));
    const { does, use_when, source } = state.method;
    $("method-gloss").replaceChildren(does, make("strong", null, " For: "), `${use_when} (${source})`);
    $("method-note").textContent = noteOn(state.method);
    $("method-note").hidden = !$("method-note").textContent;
  }

  /* What the page cannot do with a method, and at which progress of the run its numbers hold. */
  function noteOn(method) {
    if (method.not_moved) return `The page does not move ${method.name}: its targets are shown as they were measured, with the settings beside. For ${method.not_moved}.`;
    const progress = method.settings.find((each) => each.name === "progress");
    return progress ? `${method.name} follows the run: targets are those at the chosen progress, of the models that training starts with. The table of methods holds at progress ${progress.says}.` : "";
  }

  function control(each) {
    const set = (value) => { state.settings[each.name] = value; recompute(); };
    if (each.choices) {
      const select = make("select", { "aria-label": each.name, onchange: () => set(each.choices[select.selectedIndex]) });
      options(select, each.choices.map((value, i) => [String(i), value === null ? "none" : String(value)]), String(each.choices.indexOf(state.settings[each.name])));
      return [select];
    }
    const value = state.settings[each.name];
    if (each.low === undefined || state.method.not_moved || (value !== null && typeof value === "object")) return [make("output", null, LiveTarget.settingWords(value))];
    const high = Math.min(each.high, Math.max(1, 4 * each.value));
    const low = each.open ? high / 200 : each.low;
    const bounds = `${each.open ? "above" : "from"} ${each.low} to ${each.high}`;
    const box = make("input", { type: "number", value, min: low, max: each.high, step: "any", "aria-label": `${each.name}, as a number` });
    const refused = make("span", { class: "flag", role: "status" });
    const allow = (isGood) => { box.setAttribute("aria-invalid", String(!isGood)); refused.textContent = isGood ? "" : `${bounds}; not used`; };
    const slider = make("input", { type: "range", min: low, max: high, step: each.open ? low : (high - low) / 200, value, "aria-label": each.name });
    slider.addEventListener("input", () => { box.value = Number(slider.value).toPrecision(4) / 1; allow(true); set(Number(slider.value)); });
    box.addEventListener("input", () => {
      const given = Number(box.value);
      const isGood = box.value !== "" && given >= each.low && given <= each.high && !(each.open && given === each.low);
      allow(isGood);
      if (isGood) { slider.value = given; set(given); }
    });
    return [slider, box, refused];
  }

  let pending = 0;
  function recompute() {
    state.targets = LiveTarget.allTargets(tokens, state.method.name, state.settings);
    $("back").hidden = !isMoved();
    if (state.token !== null) drawToken();
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(() => { drawRegions(); recolour(); markMethod(); });
  }

  /* ---- audit */
  function drawAudit() {
    const audit = findings.audit;
    const heading = make("p", null, `${many(audit.rows)} training rows, counted from 1; ${audit.looked < audit.rows ? `in the first ${many(audit.looked)}: ` : ""}${many(audit.tokens)} tokens, ${many(audit.learned)} of them learned.`);
    const found = audit.lines.filter((line) => line.count), clean = audit.lines.filter((line) => !line.count);
    const lines = found.map((line) => {
      const says = make("span", { class: "flag" }, `${many(line.count)} of ${many(line.of)} rows ${line.says}`);
      return line.numbers.length ? make("details", null, make("summary", null, says), ...shownRows(line.numbers, line.count)) : make("div", null, says);
    });
    const extremes = [["learn least", audit.least], ["learn most", audit.most]].map(([says, numbers]) =>
      make("details", null, make("summary", null, `rows that ${says}`), ...shownRows(numbers, numbers.length)));
    const none = clean.length ? make("details", { class: "soft" }, make("summary", null, `${clean.length} faults looked for and not found`), `Rows that ${clean.map((line) => line.says).join("; ")}.`) : null;
    $("audit-body").replaceChildren(...[heading, ...lines, ...extremes, none].filter(Boolean));
  }

  function shownRows(numbers, count) {
    const rows = numbers.filter((n) => store.audit_rows[n]).map((n) => {
      const row = store.audit_rows[n], on = store.rows.findIndex((each) => each.number === n);
      const body = make("div", { class: "text", dir: "auto" }, ...row.stretches.map(([learned, part]) => make("span", { class: learned ? "learned" : "masked" }, part)));
      const open = on >= 0 ? make("button", { type: "button", onclick: () => pin(firstOfRow[on], true) }, "its tokens") : make("span", null, teachers.length ? "not read by model and teacher" : "not read by the model");
      return make("article", null, make("header", null, `${rowName(n)}: ${many(row.learned)} of ${many(row.tokens)} tokens learned`, open), body);
    });
    const others = numbers.filter((n) => !store.audit_rows[n]);
    const more = count - numbers.length, and = more > 0 ? ` and ${many(more)} more` : "";
    return others.length || more > 0 ? [...rows, make("p", { class: "soft" }, `also rows ${others.join(", ")}${and}`)] : rows;
  }

  /* ---- map */
  const AXES = { p: ["p_y, the model's", (s) => s.p, [0, 1]], entropy: ["entropy, nats", (s) => s.entropy, null] };
  if (teachers.length) AXES.teacher = ["p_y, the teacher's", (s) => teacherP(s), [0, 1]];
  const isSample = (s) => ["random", "all"].includes(store.rows[s.row].why);
  const inMap = (s) => $("all-rows").checked || isSample(s);
  let mapChart = null, mapOrder = [];

  function drawMap() {
    const [xName, x, xRange] = AXES[$("x-axis").value], [yName, y, yRange] = AXES[$("y-axis").value];
    mapOrder = tokens.filter(inMap).sort((a, b) => x(a) - x(b));
    const conflicts = mapOrder.filter(isConflict), learnt = conflicts.filter((s) => teacherP(s) >= 0.9).length;
    $("of-conflicts").textContent = teachers.length && conflicts.length ? `The teacher gives ${many(learnt)} of these ${many(conflicts.length)} labels at least 0.9: the model has them to learn.` : "";
    const kinds = [(s) => !isConflict(s) && !isContradicted(s), (s) => isConflict(s) && !isContradicted(s), isContradicted], sizes = [4, 5, 8];
    const data = [mapOrder.map(x), ...kinds.map((kind) => mapOrder.map((s) => (kind(s) ? y(s) : null)))];
    const colours = ["--student", "--conflict", "--teacher"].map(css);
    const ink = css("--soft"), grid = css("--line"), font = "12px system-ui, sans-serif";
    const axis = (label, size) => ({ label, stroke: ink, font, labelFont: font, size, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid } });
    const box = $("map-chart"), isWhole = findings.rows.length === store.rows.length;
    $("of-points").textContent = $("all-rows").checked ? "all rows of this page" : `${page.sample}${isWhole ? "" : ", as far as they are on this page"}`;
    box.replaceChildren();
    mapChart = new uPlot({
      width: Math.max(240, box.clientWidth), height: 380,
      cursor: { points: { show: false }, drag: { x: false, y: false } },
      scales: { x: { time: false, range: (u, low, high) => xRange || [0, Math.max(high, 0.1)] }, y: { range: (u, low, high) => yRange || [0, Math.max(high || 0, 0.1)] } },
      axes: [axis(xName, 44), axis(yName, 52)],
      series: [{}, ...colours.map((stroke, i) => ({ stroke, paths: () => null, points: { show: true, size: sizes[i], fill: stroke, width: 0 } }))],
    }, data, box);
    mapChart.over.addEventListener("click", () => nearest(mapChart, x, y));
  }

  function nearest(chart, x, y) {
    const { left, top } = chart.cursor;
    let best = null, least = 400;
    for (const s of mapOrder) {
      const far = (chart.valToPos(x(s), "x") - left) ** 2 + (chart.valToPos(y(s), "y") - top) ** 2;
      if (far < least) { least = far; best = s; }
    }
    if (best) { pin(best.at, true); openRegion(regionOf(best)); }
  }

  /* The least and the most of all pull that a region may have, each token's being known up to its bound. */
  function pullShares(cell, pull, off) {
    const low = Math.max(cell.pull - cell.off, 0), high = cell.pull + cell.off;
    const others = [Math.max(pull - cell.pull - (off - cell.off), 0), pull - cell.pull + (off - cell.off)];
    return [low / (low + others[1] || 1), high / (high + others[0] || 1)];
  }
  const percentBetween = (low, high) => (high - low > 1e-3 ? `${Math.floor(100 * low)} … ${Math.ceil(100 * high)}%` : percent((low + high) / 2, 1));

  function drawRegions() {
    const cells = page.regions.map(() => ({ tokens: 0, pull: 0, off: 0 })), isAll = $("all-rows").checked;
    const measured = isMoved() || isAll ? null : findings.methods.find((each) => each.name === state.method.name);
    tokens.forEach((s, t) => {
      if (!inMap(s)) return;
      const cell = cells[regionOf(s)];
      cell.tokens += 1; cell.pull += state.targets[t].gradient; cell.off += state.targets[t].gradientOff;
    });
    const [count, pull, off] = ["tokens", "pull", "off"].map((part) => cells.reduce((sum, cell) => sum + cell[part], 0));
    const inTokens = (at) => (isAll ? cells[at].tokens / Math.max(count, 1) : findings.token_shares[at]);
    const between = cells.map((cell) => pullShares(cell, pull, off)), isRough = !measured && between.some(([low, high]) => high - low > 1e-3);
    const share = (at) => (measured ? percent(measured.by_region[at], 1) : percentBetween(...between[at]));
    $("map-rough").hidden = !isRough;
    const columns = page.p_edges.length - 1, span = (a, b) => (b === null ? `≥ ${a}` : `${a} – ${b}`);
    const heads = page.p_edges.slice(0, -1).map((low, i) => make("th", { scope: "col" }, `model's p_y ${span(low, page.p_edges[i + 1])}`));
    const lines = page.entropy_edges.slice(0, -1).map((low, line) => make("tr", null,
      make("th", { scope: "row" }, `entropy ${span(low, page.entropy_edges[line + 1])}`),
      ...page.regions.slice(line * columns, (line + 1) * columns).map((_, i) => {
        const at = line * columns + i;
        const says = [`${percent(inTokens(at), 1)} of tokens`, make("br"), make("strong", null, `${share(at)} of the pull`)];
        const name = at === 0 ? [make("span", { class: "flag" }, "confident conflicts"), make("br")] : [];
        return make("td", null, make("button", { type: "button", "data-region": at, "aria-pressed": String(state.region === at), onclick: () => chooseRegion(at) }, ...name, ...says));
      })));
    const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.region : undefined;
    $("regions").replaceChildren(make("tr", null, make("td"), ...heads), ...lines.reverse());
    if (focused !== undefined) { const again = $("regions").querySelector(`[data-region="${Number(focused)}"]`); if (again) again.focus(); }
    drawRegionTokens();
  }

  function openRegion(at) { state.region = at; drawRegions(); }
  const chooseRegion = (at) => openRegion(state.region === at ? null : at);

  function drawRegionTokens() {
    if (state.region === null) return $("region-tokens").replaceChildren(make("li", { class: "soft no-print" }, "Choose a region to read its tokens."));
    const inside = tokens.filter((s) => inMap(s) && regionOf(s) === state.region).sort((a, b) => state.targets[b.at].gradient - state.targets[a.at].gradient);
    const shown = inside.slice(0, 200).map((s) => sentence(s));
    if (inside.length > 200) shown.push(make("li", { class: "soft" }, `and ${many(inside.length - 200)} more, of smaller pull`));
    $("region-tokens").replaceChildren(...(shown.length ? shown : [make("li", { class: "soft" }, "No token is there.")]));
  }

  /* What is said before a token: the end of its turn up to it, which gets most of the length, and of the turn before; the
  twin of `said_before` of the Python side. */
  const endOf = (words, length) => (words.length > length ? `…${words.slice(-length)}` : words);
  function saidBefore(s, length) {
    const { texts, said } = store.rows[s.row];
    const told = said.filter(([start]) => start <= s.place).slice(-2).map(([start, stop]) => texts.slice(start, Math.min(stop, s.place)).join("").replace(/^[\s↵]+/, ""));
    const own = endOf(told.pop() || "", told.length ? Math.floor(0.6 * length) : length);
    return [...told.map((words) => endOf(words.replace(/[\s↵]+$/, ""), length - own.length)), own].join(" ¦ ");
  }

  /* A token in its sentence, as a button that opens it. */
  function sentence(s, instead) {
    const row = store.rows[s.row], [, stop] = row.said.find(([start, stop]) => start <= s.place && s.place < stop) || [0, 0];
    const oneLine = (words) => words.replaceAll("↵\n", "↵ "), after = row.texts.slice(s.place + 1, stop).join("").slice(0, 30);
    const parts = [make("span", { class: "soft" }, `${row.number}  `), oneLine(saidBefore(s, 110)), make("b", null, oneLine(labelText(s))), oneLine(after)];
    if (instead) parts.push(make("span", { class: "to" }, `   ${instead}`), s.follows ? make("span", { class: "soft" }, ` (${AFTER})`) : "");
    return make("li", null, make("button", { type: "button", dir: "auto", "data-token": s.at, onclick: () => pin(s.at, true) }, ...parts));
  }

  /* ---- rows */
  const COLOURS = {
    mask: ["what is learned", null],
    p: ["p_y: the redder, the less probable the label is to the model, to e^−10", (s) => s.logp / -10],
    trust: ["trust γ under the method: green where the label is trusted", (s, target) => target.trust, true],
    gradient: ["pull: the norm of the token's gradient under the method", (s, target) => target.gradient / Math.SQRT2],
    kl: ["KL(Q‖p) under the method: how far the target is from the model", (s, target) => target.kl / 2],
  };
  if (teachers.length) COLOURS.teacher = ["the teacher's p_y: red where the teacher finds the label improbable", (s) => 1 - teacherP(s)];
  const spans = new Array(tokens.length), rowNodes = [], visible = new Set();
  const watcher = typeof IntersectionObserver === "undefined" ? null : new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const r = Number(entry.target.dataset.row);
      if (entry.isIntersecting) { visible.add(r); fill(r); colourRow(r); } else visible.delete(r);
    }
  }, { root: $("row-list"), rootMargin: "600px" });

  function drawRows() {
    store.rows.forEach((row, r) => {
      const body = make("div", { class: "text", dir: "auto", tabindex: 0, role: "group", "aria-label": `training row ${row.number}` });
      const node = make("article", { id: `row-${row.number}`, "data-row": r }, make("header", null, make("strong", null, `row ${row.number}`), findings.places[row.number] ? make("span", null, findings.places[row.number]) : "", make("span", null, page.why[row.why] || ""), make("span", null, `${many(row.learned.length)} of ${many(row.texts.length)} tokens learned`)), body);
      body.addEventListener("keydown", (event) => step(event, r));
      rowNodes.push({ node, body, filled: false });
      if (watcher) watcher.observe(node); else { visible.add(r); fill(r); }
    });
    orderRows();
    filterRows();
  }

  function orderRows() {
    const order = store.rows.map((_, r) => r);
    if ($("order").value === "against") order.sort((a, b) => againstRow[b] - againstRow[a] || a - b);
    $("row-list").replaceChildren(...order.map((r) => rowNodes[r].node));
  }

  function fill(r) {
    if (rowNodes[r].filled) return;
    rowNodes[r].filled = true;
    const row = store.rows[r], learned = new Map(row.learned.map((place, i) => [place, firstOfRow[r] + i]));
    let masked = "";
    const parts = [], flush = () => { if (masked) parts.push(make("span", { class: "prompt" }, masked)); masked = ""; };
    row.texts.forEach((part, place) => {
      const t = learned.get(place);
      if (t === undefined) { masked += part; return; }
      flush();
      spans[t] = make("span", { class: isContradicted(tokens[t]) ? "t against" : "t", "data-token": t }, part || "·");
      parts.push(spans[t]);
    });
    flush();
    rowNodes[r].body.replaceChildren(...parts);
    if (state.token !== null && tokens[state.token].row === r && spans[state.token]) spans[state.token].classList.add("here");
  }

  function colourRow(r) {
    const [, value, good] = COLOURS[$("colour").value], shade = css(good ? "--shade-good" : "--shade");
    for (let t = firstOfRow[r]; t < tokens.length && tokens[t].row === r; t++) {
      if (!spans[t]) continue;
      spans[t].classList.toggle("learned", !value);
      const x = value ? Math.min(Math.max(value(tokens[t], state.targets[t]) || 0, 0), 1) : 0;
      spans[t].style.backgroundColor = value ? `rgba(${shade}, ${(0.75 * x).toFixed(3)})` : "";
    }
  }
  function recolour() { $("scale-note").textContent = `Colour: ${COLOURS[$("colour").value][0]}. Grey text is not learned.${teachers.length ? " Underlined: the teacher contradicts the token." : ""}${$("against-only").checked ? " Faint: it does not." : ""}`; visible.forEach(colourRow); }
  function filterRows() {
    const why = $("why").value, against = $("against-only").checked;
    rowNodes.forEach((each, r) => { each.node.hidden = (why !== "every" && store.rows[r].why !== why) || (against && !againstRow[r]); });
    $("row-list").classList.toggle("against-only", against);
    recolour();
  }

  const rowsInOrder = () => [...$("row-list").children].filter((node) => !node.hidden).map((node) => Number(node.dataset.row));
  const tokensOf = (r) => tokens.slice(firstOfRow[r], firstOfRow[r] + store.rows[r].learned.length);

  /* On from the chosen token, over the rows as they are listed, to the next one that is a stop. */
  function walk(way, isStop) {
    const all = rowsInOrder().flatMap(tokensOf), from = all.findIndex((s) => s.at === state.token);
    let i = from >= 0 ? from + way : way > 0 ? 0 : all.length - 1;
    while (all[i] && !isStop(all[i])) i += way;
    go(all[i]);
  }
  function go(s) { if (s) { pin(s.at, false); focusRow(s.row); showToken(s.at); } }
  const focusRow = (r) => rowNodes[r].body.focus({ preventScroll: true });

  function step(event, r) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isStop = $("against-only").checked ? isContradicted : () => true, stops = (row) => tokensOf(row).filter(isStop);
    const rows = rowsInOrder(), at = rows.indexOf(r), inRow = state.token !== null && tokens[state.token].row === r;
    const along = (way) => (inRow ? walk(way, isStop) : go(stops(r)[0]));
    const ways = {
      ArrowRight: () => along(1), ArrowLeft: () => along(-1), Home: () => go(stops(r)[0]), End: () => go(stops(r).at(-1)),
      ArrowDown: () => go(rows.slice(at + 1).flatMap(stops)[0]), ArrowUp: () => go(rows.slice(0, Math.max(at, 0)).map(stops).filter((each) => each.length).at(-1)?.[0]),
    };
    if (!ways[event.key]) return;
    event.preventDefault();
    ways[event.key]();
  }

  /* ---- a token */
  function select(t, scrolls) {
    if (state.token !== null && spans[state.token]) spans[state.token].classList.remove("here");
    state.token = t;
    const r = tokens[t].row;
    if (rowNodes[r].node.hidden) { $("why").value = "every"; $("against-only").checked = false; filterRows(); }
    fill(r); colourRow(r);
    spans[t].classList.add("here");
    if (scrolls) rowNodes[r].node.scrollIntoView({ block: "center" });
    drawToken();
  }

  /* The token into the list's visible part, where it is not, and the page stays where it is; rows above it may grow when they are drawn. */
  function showToken(t, again = 3) {
    const list = $("row-list"), [box, inner, panel] = [spans[t], list, $("token")].map((each) => each.getBoundingClientRect());
    const low = innerWidth > 900 ? inner.bottom : Math.min(inner.bottom, panel.top);
    if (box.top < inner.top + 30 || box.bottom > low - 30) list.scrollTop += box.top - (inner.top + Math.max(low, inner.top + 120)) / 2;
    if (again) requestAnimationFrame(() => { if (state.token === t) showToken(t, again - 1); });
  }

  /* The contradicted tokens alone, those first of which the teacher is surest. */
  function openAgainst() {
    $("against-only").checked = true;
    $("order").value = "against";
    $("colour").value = "teacher";
    orderRows(); filterRows();
    $("row-list").scrollTop = 0;
    $("rows").scrollIntoView();
    go(worth);
  }

  /* How many tokens the teacher, or else the model, is against, before anything else. */
  function drawGlance() {
    const sample = tokens.filter(isSample), known = findings.teachers.find((each) => each.name === "teacher 0");
    const against = tokens.filter(isContradicted), conflicts = sample.filter(isConflict).length, inRows = new Set(against.map((s) => s.row)).size;
    const share = known ? ` Of ${page.sample} it contradicts ${percent(known.contradicted, 1)} of the tokens, in ${many(known.contradicted_rows)} rows.` : "";
    const unread = findings.audit.rows - findings.rows.length, unfit = findings.rows.length - store.rows.length;
    const others = (unread > 0 ? ` The other ${many(unread)} of ${many(findings.audit.rows)} rows were not read; a larger --rows reads more. ` : " ") +
      (unfit > 0 ? `${many(unfit)} rows that were read did not fit into this page; the figures hold them. ` : "");
    const link = (says, onclick) => make("button", { type: "button", class: "method no-print", onclick }, says);
    $("glance").replaceChildren(...(teachers.length
      ? [make("strong", null, `The teacher contradicts ${many(against.length)} of the ${many(tokens.length)} learned tokens here`), `, in ${many(inRows)} of the ${many(store.rows.length)} rows of this page.${share}${others}`, against.length ? link("Read the contradicted tokens, beginning with the surest", openAgainst) : ""]
      : [make("strong", null, `The model is sure of another token at ${many(conflicts)} of ${many(sample.length)} learned tokens`), ` of ${page.sample} (confident conflicts).${others}`,
        conflicts ? link("Read them", () => { openRegion(0); $("regions").scrollIntoView({ block: "center" }); }) : ""]));
  }

  /* A token that was chosen stays, and what is pointed at is not shown, until another is chosen or this one let go. */
  function pin(t, scrolls) { state.isPinned = true; select(t, scrolls); if (scrolls) focusRow(tokens[t].row); }
  function letGo() { state.isPinned = false; $("pinned").hidden = true; }

  let bars = null;
  function drawToken() {
    const s = tokens[state.token], target = state.targets[state.token], row = store.rows[s.row];
    const series = [["student", "model", s.student], ...s.teachers.map((name, i) => ["teacher", sourceName(name), s.teacherLogps[i]]), ...(ownReference ? [["reference", "reference", s.reference]] : [])]
      .map(([key, name, logps]) => [key, name, logps.map((x) => Math.exp(x))]);
    series.push(["target", "target", target.q]);
    const order = s.student.map((_, k) => k).sort((a, b) => Math.max(...series.map(([, , v]) => v[b])) - Math.max(...series.map(([, , v]) => v[a])));
    const first = order.slice(0, 9);
    if (!first.includes(s.label)) first[first.length - 1] = s.label;
    const context = make("div", { class: "text context", dir: "auto" }, saidBefore(s, innerWidth > 900 ? 200 : 90), make("b", null, labelText(s)));
    const isRough = Math.max(...target.bound) > 1e-4 || target.gradientOff > 5e-4 || target.klIsLeast;
    const kl = target.klIsLeast && !Number.isNaN(target.kl) ? `≥ ${number(Math.max(Math.floor(1000 * (target.kl - target.klOff)) / 1000, 0))}` : number(target.kl);
    const facts = [["p_y", number(s.p, 4)], ["rank", many(s.rank)], ["entropy", number(s.entropy, 2)], ...(s.teachers.length ? [["teacher's p_y", number(teacherP(s), 4)]] : []),
      ["trust γ", number(target.trust)], ["scale s", number(target.scale)], ["pull", roughly(target.gradient, target.gradientOff, 3, NOT_NEGATIVE)], ["KL(Q‖p)", kl]];
    const head = make("tr", null, make("th", null, "token"), ...series.map(([key, name]) => make("th", { class: "n", title: ABOUT[name] }, make("span", { class: `key ${key}` }), name)));
    const told = (key, value, bound) => (key === "target" ? roughly(value, bound, 4, entries(target)) : number(value, 4));
    const lines = first.map((k) => make("tr", { class: k === s.label ? "label" : "", "data-candidate": store.ids[s.candidates[k]] },
      make("td", null, (k === s.label ? "● " : "") + seen(s.candidates[k])), ...series.map(([key, , values]) => make("td", { class: "n" }, told(key, values[k], target.bound[k])))));
    const left = (values) => first.reduce((a, k) => a - values[k], 1), offLeft = 1 - left(target.bound);
    const rest = make("tr", { class: "soft" }, make("td", null, "all others"), ...series.map(([key, , v]) => make("td", { class: "n" }, told(key, left(v), offLeft))));
    const chart = make("div", { class: "chart", role: "img", "aria-label": "bars of the probabilities in the table below" });
    const rough = isRough ? make("p", { class: "soft", id: "rough" }, "≈: within 1 of its last digit; a … b: somewhere between; ≥: at least. The page keeps the likeliest tokens alone.") : null;
    const notes = [target.improper ? "Improper target: some entries are below zero." : "", isConflict(s) ? "A confident conflict." : "",
      isContradicted(s) ? `The teacher contradicts this label${s.follows ? `, ${AFTER}: the answer may have gone wrong there` : ""}.` : ""].filter(Boolean);
    const panel = $("token"), scrolled = panel.scrollTop, among = rowsInOrder().flatMap(tokensOf).filter(isMarked), nth = among.indexOf(s) + 1;
    $("walk-of").textContent = nth ? `${many(nth)} of ${many(among.length)}` : `${many(among.length)} listed`;
    $("token-body").replaceChildren(make("p", { class: "soft" }, `${rowName(row.number)}, token ${s.place + 1}, under ${[state.method.name, settingsWords(state.method, state.settings)].filter(Boolean).join(", ")} `,
      make("span", { id: "pinned", hidden: state.isPinned ? null : "" }, "· pinned; Esc lets go ", make("button", { type: "button", onclick: letGo, "aria-label": "let go of this token" }, "×"))), context,
      ...notes.map((note) => make("p", { class: "flag" }, note)), chart,
      make("dl", null, ...facts.flatMap(([name, value]) => [make("dt", { title: ABOUT[name] }, name), make("dd", { "data-fact": name }, value)])), ...(rough ? [rough] : []),
      make("p", { class: "soft", id: "formula" }, `${state.method.does} `, make("br"), `${state.method.residual.startsWith("Q") ? state.method.residual : `γ = ${state.method.trust}; π̃: ${state.method.residual}`}. `, make("a", { class: "no-print", href: "#every-method" }, "under every method ↓")),
      make("table", null, make("thead", null, head), make("tbody", null, ...lines, rest)), underEveryMethod(s));
    drawBars(chart, series, first, s);
    panel.scrollTop = scrolled;
  }

  const STAYS = 0.01;
  function chooseHere(name) {
    chooseMethod(name);
    $("token").querySelector(`[data-of-token="${name}"]`).focus({ preventScroll: true });
    $("token").scrollTop = 0;
  }
  /* The token under every method, each computed at the run's own hyperparameters or its defaults; the chosen one first, as the menu has it. */
  let isOpen = true;
  const asRun = methods.map((method) => {
    const settings = runSettings(method);
    return { method, settings, batches: LiveTarget.batchTrusts(tokens, method.name, settings) };
  });
  function underEveryMethod(s) {
    const top = likeliest(s.teachers.length ? s.teacherLogps[0] : s.student), isTop = top !== s.label;
    const other = isTop ? top : likeliest(s.student.map((x, k) => (k === s.label ? -Infinity : x)));
    const whose = isTop && s.teachers.length ? "teacher" : "model", short = (k) => `“${seen(s.candidates[k]).slice(0, 8)}”`;
    const box = make("details", { id: "every-method", open: isOpen || null }, make("summary", null, "this token under every method"));
    const toward = (target) => {
      const gains = target.q.map((q, k) => q - Math.exp(s.student[k])), [up, upOther] = [gains[s.label], gains[other]];
      if (Math.max(...gains.map(Math.abs)) < STAYS) return "stays";
      return Math.max(up, upOther) < STAYS ? "others" : up >= upOther ? "label" : whose;
    };
    const line = ({ method, settings, batches }) => {
      const isChosen = method.name === state.method.name;
      const target = isChosen ? state.targets[s.at] : LiveTarget.targetOf(s, method.name, settings, batches && batches.get(s.group));
      const name = make("button", { type: "button", class: "method", title: gloss(method), "data-of-token": method.name, onclick: () => chooseHere(method.name) }, method.name);
      const q = [s.label, other].map((k) => make("span", { class: target.improper ? "flag" : "" }, roughly(target.q[k], target.bound[k], 3, entries(target))));
      return { share: target.q[s.label], isChosen, cells: [target.improper ? make("span", null, name, make("div", { class: "flag", title: ABOUT.improper }, "improper")) : name, toward(target), ...q, roughly(target.gradient, target.gradientOff, 3, NOT_NEGATIVE)], class: isChosen ? "chosen" : "" };
    };
    const now = { cells: ["the model now", "", ...[s.label, other].map((k) => number(Math.exp(s.student[k]))), ""], class: "now" };
    const fillIn = () => {
      const lines = asRun.map(line).sort((a, b) => b.isChosen - a.isChosen || b.share - a.share);
      box.append(
        make("p", { class: "soft" }, `What the target gives two tokens under each, at this run's settings or a method's defaults${isMoved() ? `; ${state.method.name} as the menu has it now` : ""}. Toward: which of them gains most; stays: no token's share moves by ${STAYS}. Choose one to see it above.`),
        table(["method", "toward", make("span", null, "label ", make("br"), short(s.label)), make("span", null, `${whose} `, make("br"), short(other)), "pull"], [now, ...lines]));
    };
    if (isOpen) fillIn();
    box.addEventListener("toggle", () => { isOpen = box.open; if (box.open && box.children.length === 1) fillIn(); });
    return box;
  }

  /* Grouped bars: each series has places of its own in a group. */
  function drawBars(box, series, first, s) {
    const width = series.length + 1, xs = [], columns = series.map(() => []);
    first.forEach((k, g) => series.forEach(([, , values], j) => {
      xs.push(g * width + j);
      columns.forEach((each, i) => each.push(i === j ? values[k] : null));
    }));
    const ink = css("--soft"), grid = css("--line"), font = "11px ui-monospace, monospace", centre = (series.length - 1) / 2;
    const name = (k) => { const label = seen(s.candidates[k]); return (k === s.label ? "●" : "") + (label.length > 7 ? label.slice(0, 6) + "…" : label); }, longest = Math.max(...first.map((k) => name(k).length));
    if (bars) bars.destroy();
    bars = new uPlot({
      width: Math.max(220, box.clientWidth), height: innerWidth > 900 ? 150 : 110, cursor: { show: false },
      scales: { x: { time: false, range: () => [-1, first.length * width - 1] }, y: { range: (u, low, high) => [Math.min(0, low), Math.max(1e-6, high) * 1.05] } },
      axes: [{ stroke: ink, font, rotate: -35, size: 20 + 4 * longest, grid: { show: false }, ticks: { show: false }, splits: () => first.map((_, g) => g * width + centre), values: () => first.map(name) },
        { stroke: ink, font, size: 40, grid: { stroke: grid, width: 1 }, ticks: { show: false } }],
      series: [{}, ...series.map(([key]) => ({ stroke: css(`--${key}`), fill: css(`--${key}`), width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.92, 40, 1] }) }))],
    }, [xs, ...columns], box);
  }

  /* ---- methods, teacher, words, evidence */
  function drawMethods() {
    const against = findings.methods.some((each) => each.contradicted_share !== null);
    const heads = ["method", "mean trust", "pull beside sft's", "effective tokens", "pull on confident conflicts", ...(against ? ["pull where the teacher contradicts"] : []), "mean KL(Q‖p)", "proper targets"];
    const lines = findings.methods.map((each) => {
      const method = methods.find((one) => one.name === each.name);
      const settings = settingsWords(method, runSettings(method)), does = make("div", { class: "soft does" }, method.does);
      const name = make("button", { type: "button", class: "method", onclick: () => chooseMethod(each.name), "data-method": each.name, title: gloss(method) }, each.name);
      const cell = make("span", null, name, make("a", { class: "to-target", href: "#rows" }, "its targets ↑"), settings ? make("span", { class: "soft" }, ` ${settings}`) : "", each.name === findings.configured ? make("span", { class: "soft" }, " (this run's)") : "", does);
      const trust = each.mean_trust > 1 ? make("span", { title: `${number(each.mean_trust)}: the label gets more than all mass, so it is no trust, and the target is improper` }, "beyond 1") : number(each.mean_trust);
      return { cells: [cell, trust, `${number(each.gradient_beside_sft, 2)}×`, many(each.effective_tokens), percent(each.conflict_share, 1), ...(against ? [percent(each.contradicted_share, 1)] : []), number(each.mean_kl), percent(each.proper)] };
    });
    const following = findings.methods.filter((each) => each.progress !== null);
    const progress = following.length ? ` ${following.map((each) => each.name).join(" and ")} ${following.length === 1 ? "changes along a run: its" : "change along a run: their"} figures hold at progress ${following[0].progress}.` : "";
    const reasons = new Map();
    for (const [name, why] of Object.entries(findings.closed)) reasons.set(why, [...(reasons.get(why) || []), name]);
    const closed = [...reasons].map(([why, names]) => make("p", { class: "soft" }, "Not shown: ", make("strong", null, names.join(", ")), `: ${why}`));
    $("methods-body").replaceChildren(
      make("p", { class: "soft" }, `Over ${many(findings.tokens)} tokens of ${page.sample}, before any step. Pull: the norm of a token's logit gradient s(p − Q); a method that pulls half as hard as sft may want a larger learning rate. Effective tokens: (Σ pull)² / Σ pull². KL(Q‖p) is the mean over tokens with a proper target. Methods that look at a batch see ${findings.batch_rows} rows together.${progress}${sameNow()} All at this run's settings or a method's defaults: a slider moves targets and map, not this table. Choose a method to see its targets, and at the top what it is for.`),
      table(heads, lines), ...closed);
  }
  /* What methods that look at a reference are before the first step, where it is the model itself. */
  function sameNow() {
    const there = (...names) => names.filter((name) => methods.some((each) => each.name === name)).join(" and ");
    const same = [[there("iw-sft", "psft"), "pull as sft does"], [there("prift"), "as dft"], [there("sft-kl"), "as sft and under a larger scale"], [there("asft"), "as dft and under a larger scale"], [there("excess-loss-selected"), "chooses by chance, as all its excess losses are zero"]];
    const said = same.filter(([names]) => names).map(([names, what]) => `${names} ${what}`);
    return ownReference || store.columns.reference_logp_y || !said.length ? "" : ` The reference is the model itself here, as before any step: so ${said.join(", ")}.`;
  }
  function markMethod() {
    document.querySelectorAll("[data-method]").forEach((each) => each.closest("tr").classList.toggle("chosen", each.dataset.method === state.method.name));
  }

  function drawTeacher() {
    if (!findings.teachers.length) return $("teacher-body").replaceChildren(make("p", { class: "soft" }, "This run has no teacher. With one, this part shows where it contradicts the rows: qtarget inspect config.yaml --method target-sft --teacher PATH"));
    const heads = ["source", "loss of the rows under it", "under the model", "shared mass", "same likeliest token", "contradicts", "mass on the kept tokens"];
    const lines = findings.teachers.map((each) => ({ cells: [sourceName(each.name), number(each.nll), number(each.student_nll), number(each.overlap), percent(each.agrees), percent(each.contradicted, 1), percent(each.captured, 2)] }));
    const sure = findings.surest.filter(ofSurest).map((each) => sentence(ofSurest(each), `${sourceName(each.source)}: “${each.instead}” ${number(each.p_instead, 2)}, label ${number(each.p_label)}`));
    const shown = sure.length < findings.contradictions ? `${many(sure.length)} of ${many(findings.contradictions)}` : `all ${many(sure.length)}`;
    $("teacher-body").replaceChildren(table(heads, lines),
      make("h3", null, "Surest against the label"), make("p", { class: "soft" }, `The rows most worth reading, ${shown} contradicted labels of all rows that were read, row by row. A label is wrong, or the teacher is; or the label is right and the answer had gone wrong before it.`),
      ...(sure.length ? [make("p", null, "Their rows: ", [...new Set(findings.surest.map((each) => each.row))].join(", "))] : []),
      make("ul", { class: "list" }, ...(sure.length ? sure : [make("li", { class: "soft" }, "No label is contradicted.")])));
  }

  function drawWords() {
    const lines = findings.kinds.map((each) => {
      return { cells: [make("span", { class: each.remark ? "flag" : "" }, each.kind), many(each.tokens), number(each.mean_nll), number(each.median_nll), each.remark] };
    });
    $("words-body").replaceChildren(make("p", { class: "soft" }, "The model's loss by kind of token, in nats. A mean far above the median says that a few tokens of this kind are very improbable: it may be a systematic fault in the rows. A kind far above every other is one that the model does not expect there, as an end token that it never learned."), table(["kind", "tokens", "mean loss", "median loss", ""], lines));
  }

  function drawEvidence() {
    const seen = new Map();
    const lines = findings.statistics.map((each) => {
      if (!seen.has(each.seen_with)) seen.set(each.seen_with, seen.size + 1);
      return { cells: [make("span", null, each.says, make("sup", null, ` ${seen.get(each.seen_with)}`)), number(each.value), each.interval ? `${number(each.interval[0])} … ${number(each.interval[1])}` : "too few rows"] };
    });
    const notes = [...seen].map(([says, n]) => make("p", { class: "soft" }, make("sup", null, `${n} `), says));
    const pilots = findings.candidates.map((each) => make("div", null, make("pre", { class: "line" }, each.line), " ", each.why));
    $("evidence-body").replaceChildren(make("p", { class: "soft" }, `This is evidence, not a verdict. Intervals are 95 %, over ${page.sample} as units.`), table(["statistic", "value", "interval"], lines), ...notes,
      make("h3", null, "To pilot"), make("p", { class: "soft" }, "On development questions, never on the test's."), ...pilots);
  }

  /* ---- wiring */
  function draw() { drawMap(); recolour(); if (state.token !== null) drawToken(); }
  $("about").textContent = page.about;
  options($("method"), methods.map((each) => [each.name, each.not_moved ? `${each.name} (as measured, not moved)` : each.name]));
  options($("x-axis"), Object.entries(AXES).map(([key, [name]]) => [key, name]), "p");
  options($("y-axis"), Object.entries(AXES).map(([key, [name]]) => [key, name]), "entropy");
  options($("colour"), Object.entries(COLOURS).map(([key, [name]]) => [key, name.split(":")[0]]), teachers.length ? "teacher" : "p");
  options($("why"), [["every", "all"], ...Object.entries(page.why).filter(([key, says]) => says && store.rows.some((row) => row.why === key))], "every");
  options($("order"), [...(teachers.length ? [["against", "surest contradicted first"]] : []), ["file", "as in the page's set"]], teachers.length ? "against" : "file");
  for (const each of document.querySelectorAll(".of-teacher")) each.hidden = !teachers.length;
  $("all-rows").parentElement.hidden = tokens.every(isSample);
  $("map-keys").replaceChildren(make("span", { class: "key conflict" }), "confident conflict ", ...(teachers.length ? [make("span", { class: "key teacher" }), "contradicted by the teacher "] : []), make("span", { class: "key other" }), "other");
  $("method").addEventListener("change", () => chooseMethod($("method").value));
  for (const id of ["x-axis", "y-axis"]) $(id).addEventListener("change", drawMap);
  $("all-rows").addEventListener("change", () => { drawMap(); drawRegions(); });
  $("colour").addEventListener("change", recolour);
  for (const id of ["why", "against-only"]) $(id).addEventListener("change", filterRows);
  $("order").addEventListener("change", orderRows);
  const tokenAt = (event) => (event.target.classList.contains("t") ? Number(event.target.dataset.token) : null);
  $("row-list").addEventListener("click", (event) => { const t = tokenAt(event); if (t !== null) pin(t, false); });
  $("row-list").addEventListener("mousemove", (event) => {
    const t = state.isPinned || !(event.movementX || event.movementY) ? null : tokenAt(event); // not where rows scroll beneath
    if (t !== null && t !== state.token) select(t, false);
  });
  const toNext = () => walk(1, isMarked), toPrevious = () => walk(-1, isMarked);
  const stay = (button, go) => $(button).addEventListener("click", () => { go(); $(button).focus({ preventScroll: true }); });
  $("walk").hidden = !tokens.some(isMarked);
  $("next").textContent = `next ${marked} ›`;
  stay("next", toNext);
  stay("previous", toPrevious);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") letGo();
    const way = { n: toNext, p: toPrevious }[event.key];
    if (way && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.closest("input, select")) way();
  });
  $("theme").addEventListener("click", () => {
    const root = document.documentElement, isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
    draw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(([bar]) => document.documentElement.style.setProperty("--bar", `${Math.ceil(bar.target.offsetHeight)}px`)).observe(document.querySelector(".bar"));
  let resizing = 0;
  addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(draw, 120); });
  let themeOfScreen;
  addEventListener("beforeprint", () => {
    themeOfScreen = document.documentElement.dataset.theme;
    document.documentElement.dataset.theme = "light";
    store.rows.forEach((_, r) => { fill(r); colourRow(r); });
    draw();
  });
  addEventListener("afterprint", () => {
    if (themeOfScreen) document.documentElement.dataset.theme = themeOfScreen; else delete document.documentElement.dataset.theme;
    store.rows.forEach((_, r) => colourRow(r));
    draw();
  });
  const worth = findings.surest.map(ofSurest).find(Boolean);
  drawMeanings(); drawGlance(); drawAudit(); drawRows(); drawMethods(); drawTeacher(); drawWords(); drawEvidence();
  chooseMethod(methods.some((each) => each.name === findings.configured) ? findings.configured : methods[0].name);
  drawMap();
  const start = worth || tokens.reduce((a, b) => (state.targets[b.at].gradient > state.targets[a.at].gradient ? b : a));
  select(start.at, false);
  showToken(start.at);
  globalThis.qtargetPage = { state, tokens, store, select, chooseMethod };
})();
