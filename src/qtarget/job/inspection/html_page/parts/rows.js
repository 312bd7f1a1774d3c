/* The list of rows, each learned token in its colour. A row's tokens are made when it comes near the screen. */
(function () {
  "use strict";
  const { $, css, make, options, atNextFrame } = TargetPage.nodes;
  const { many } = TargetPage.words;
  const { page, store, findings, tokens, teachers, firstOfRow, teacherP, isContradicted, againstRow } =
    TargetPage.facts;
  const { state, when, bind, isListed, chooseToken } = TargetPage.state;
  const { LOOK } = TargetPage.look;

  /* What a colour says; from a token and its target, how strong it is, 0 to 1; whether strong is good. */
  const COLOURS = {
    mask: ["what is learned", null],
    p: ["p_y: the redder, the less probable the label is to the model, to e^−10", (s) => s.logp / -10],
    trust: ["trust γ under the method: green where the label is trusted", (s, target) => target.trust, true],
    gradient: ["pull: the norm of the token's gradient under the method", (s, target) => target.gradient / Math.SQRT2],
    kl: ["KL(Q‖p) under the method: how far the target is from the model", (s, target) => target.kl / 2],
  };
  if (teachers.length) {
    COLOURS.teacher = ["the teacher's p_y: red where the teacher finds the label improbable", (s) => 1 - teacherP(s)];
  }
  const spans = new Array(tokens.length), nodes = [], onScreen = new Set();
  let here = null; // the chosen token's span

  /* ---- making them */
  const watcher = typeof IntersectionObserver === "undefined" ? null : new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const r = Number(entry.target.dataset.row);
      if (entry.isIntersecting) { onScreen.add(r); fill(r); colourRow(r); } else onScreen.delete(r);
    }
  }, { root: $("row-list"), rootMargin: "600px" });

  function drawRows() {
    store.rows.forEach((row, r) => {
      const says = [
        make("strong", null, `row ${row.number}`),
        findings.places[row.number] ? make("span", null, findings.places[row.number]) : "",
        make("span", null, page.why[row.why] || ""),
        make("span", null, `${many(row.learned.length)} of ${many(row.texts.length)} tokens learned`),
      ];
      const label = `training row ${row.number}`;
      const body = make("div", { class: "text", dir: "auto", tabindex: 0, role: "group", "aria-label": label });
      const id = `row-${row.number}`;
      const node = make("article", { id, "data-row": r }, make("header", null, ...says), body);
      nodes.push({ node, body, isFilled: false });
      if (watcher) watcher.observe(node); else { onScreen.add(r); fill(r); }
    });
    orderRows();
    filterRows();
  }

  function fill(r) {
    if (nodes[r].isFilled) return;
    nodes[r].isFilled = true;
    const row = store.rows[r], learned = new Map(row.learned.map((place, i) => [place, firstOfRow[r] + i]));
    const parts = [];
    let masked = "";
    const flush = () => {
      if (masked) parts.push(make("span", { class: "prompt" }, masked));
      masked = "";
    };
    row.texts.forEach((part, place) => {
      const t = learned.get(place);
      if (t === undefined) { masked += part; return; }
      flush();
      spans[t] = make("span", { class: isContradicted(tokens[t]) ? "t against" : "t", "data-token": t }, part || "·");
      parts.push(spans[t]);
    });
    flush();
    nodes[r].body.replaceChildren(...parts);
    if (state.token !== null && tokens[state.token].row === r) markHere();
  }

  /* ---- order, filter, colour */
  function orderRows() {
    const order = store.rows.map((_, r) => r);
    if (state.order === "against") order.sort((a, b) => againstRow[b] - againstRow[a] || a - b);
    $("row-list").replaceChildren(...order.map((r) => nodes[r].node));
  }

  function filterRows() {
    nodes.forEach((each, r) => { each.node.hidden = !isListed(r); });
    $("row-list").classList.toggle("against-only", state.againstOnly);
    recolour();
  }

  function colourRow(r) {
    const [, value, isGood] = COLOURS[state.colour], shade = css(isGood ? "--shade-good" : "--shade");
    for (let t = firstOfRow[r]; t < tokens.length && tokens[t].row === r; t++) {
      if (!spans[t]) continue;
      spans[t].classList.toggle("learned", !value);
      const x = value ? Math.min(Math.max(value(tokens[t], state.targets[t]) || 0, 0), 1) : 0;
      spans[t].style.backgroundColor = value ? `rgba(${shade}, ${(0.75 * x).toFixed(3)})` : "";
    }
  }

  function recolour() {
    const underlined = teachers.length ? " Underlined: the teacher contradicts the token." : "";
    const faint = state.againstOnly ? " Faint: it does not." : "";
    $("scale-note").textContent = `Colour: ${COLOURS[state.colour][0]}. Grey text is not learned.${underlined}${faint}`;
    onScreen.forEach(colourRow);
  }

  /* ---- the chosen token */
  function markHere() {
    if (here) here.classList.remove("here");
    here = spans[state.token];
    here.classList.add("here");
  }

  function drawHere() {
    const r = tokens[state.token].row;
    fill(r);
    colourRow(r);
    markHere();
  }

  /* The token into the list's visible part, where it is not, and the page stays where it is; rows above it may grow
  when they are drawn. */
  function show(t, again = 3) {
    const list = $("row-list");
    const [box, inner, panel] = [spans[t], list, $("token")].map((each) => each.getBoundingClientRect());
    const low = innerWidth > 900 ? inner.bottom : Math.min(inner.bottom, panel.top);
    if (box.top < inner.top + 30 || box.bottom > low - 30) {
      list.scrollTop += box.top - (inner.top + Math.max(low, inner.top + 120)) / 2;
    }
    if (again) requestAnimationFrame(() => { if (state.token === t) show(t, again - 1); });
  }

  const focusRow = (r) => nodes[r].body.focus({ preventScroll: true });
  const scrollToRow = (r) => nodes[r].node.scrollIntoView({ block: "center" });

  /* From elsewhere on the page: the token is chosen, pinned, and its row comes to the middle of the screen. */
  function openToken(t) {
    chooseToken(t, true);
    scrollToRow(tokens[t].row);
    focusRow(tokens[t].row);
  }

  /* Rows that are listed, in the order of the list. */
  function listed() {
    const shown = [...$("row-list").children].filter((node) => !node.hidden);
    return shown.map((node) => Number(node.dataset.row));
  }

  /* ---- wiring */
  const whys = Object.entries(page.why).filter(([key, says]) => says && store.rows.some((row) => row.why === key));
  const surestFirst = teachers.length ? [["against", "surest contradicted first"]] : [];
  options($("colour"), Object.entries(COLOURS).map(([key, [name]]) => [key, name.split(":")[0]]), state.colour);
  options($("why"), [["every", "all"], ...whys], state.why);
  options($("order"), [...surestFirst, ["file", "as in the page's set"]], state.order);
  bind("colour", "colour");
  bind("why", "why");
  bind("order", "order");
  bind("against-only", "againstOnly");
  when(["order"], orderRows);
  when(["why", "againstOnly"], filterRows);
  when(["isPrinted"], () => store.rows.forEach((_, r) => { fill(r); colourRow(r); }));
  when(["colour", ...LOOK], recolour);
  when(["targets"], atNextFrame(recolour));
  when(["token"], drawHere);

  const tokenAt = (event) => (event.target.classList.contains("t") ? Number(event.target.dataset.token) : null);
  $("row-list").addEventListener("click", (event) => {
    const t = tokenAt(event);
    if (t !== null) chooseToken(t, true);
  });
  $("row-list").addEventListener("mousemove", (event) => {
    const isStill = !(event.movementX || event.movementY); // rows scroll beneath it
    const t = state.isPinned || isStill ? null : tokenAt(event);
    if (t !== null && t !== state.token) chooseToken(t);
  });

  TargetPage.rows = { drawRows, listed, show, focusRow, scrollToRow, openToken };
})();
