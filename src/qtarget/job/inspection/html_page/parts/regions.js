/* Regions of the map beside it: how many tokens each has and how much of the pull, and the tokens of the chosen one. */
(function () {
  "use strict";
  const { $, make, atNextFrame } = TargetPage.nodes;
  const { many, percent, isRough, percentBetween } = TargetPage.words;
  const { page, findings, tokens, regionOf } = TargetPage.facts;
  const { state, when, change, isMoved } = TargetPage.state;
  const { sentence } = TargetPage.excerpts;
  const { inMap } = TargetPage.map;
  const MOST_LISTED = 200;
  const columns = page.p_edges.length - 1;

  function drawRegions() {
    const words = regionWords();
    const lines = page.entropy_edges.slice(0, -1).map((_, line) => lineOf(line, words));
    const heads = page.p_edges.slice(0, -1).map((_, i) =>
      make("th", { scope: "col" }, `model's p_y ${span(page.p_edges, i)}`));
    const focused = document.activeElement?.dataset?.region;
    $("regions").replaceChildren(make("tr", null, make("td"), ...heads), ...lines.reverse());
    if (focused !== undefined) $("regions").querySelector(`[data-region="${Number(focused)}"]`)?.focus();
    drawRegionTokens();
  }
  const span = (edges, i) => (edges[i + 1] === null ? `≥ ${edges[i]}` : `${edges[i]} – ${edges[i + 1]}`);

  /* The regions of one stretch of entropy. */
  function lineOf(line, words) {
    const cells = page.regions.slice(line * columns, (line + 1) * columns).map((_, i) => {
      const at = line * columns + i, isChosen = state.region === at;
      const choose = () => change({ region: state.region === at ? null : at });
      const name = at === 0 ? [make("span", { class: "flag" }, "confident conflicts"), make("br")] : [];
      const attributes = { type: "button", "data-region": at, "aria-pressed": String(isChosen), onclick: choose };
      return make("td", null, make("button", attributes, ...name, ...words(at)));
    });
    const head = make("th", { scope: "row" }, `entropy ${span(page.entropy_edges, line)}`);
    return make("tr", null, head, ...cells);
  }

  /* What each region says of itself: shares that were measured, at the run's settings and over the random rows. */
  function regionWords() {
    const cells = page.regions.map(() => ({ tokens: 0, pull: 0, off: 0 }));
    tokens.forEach((s, t) => {
      if (!inMap(s)) return;
      const cell = cells[regionOf(s)];
      cell.tokens += 1;
      cell.pull += state.targets[t].gradient;
      cell.off += state.targets[t].gradientOff;
    });
    const sum = (part) => cells.reduce((all, cell) => all + cell[part], 0);
    const count = sum("tokens"), between = cells.map((cell) => pullShares(cell, sum("pull"), sum("off")));
    const isAsMeasured = !isMoved() && !state.allRows;
    const measured = isAsMeasured ? findings.methods.find((each) => each.name === state.method.name) : null;
    $("map-rough").hidden = measured || !between.some((ends) => isRough(...ends));
    return (at) => {
      const ofTokens = state.allRows ? cells[at].tokens / Math.max(count, 1) : findings.token_shares[at];
      const ofPull = measured ? percent(measured.by_region[at], 1) : percentBetween(...between[at]);
      const pull = make("strong", null, `${ofPull} of the pull`);
      return [`${percent(ofTokens, 1)} of tokens`, make("br"), pull];
    };
  }

  /* The least and the most of all pull that a region may have, each token's being known up to its bound. */
  function pullShares(cell, pull, off) {
    const low = Math.max(cell.pull - cell.off, 0), high = cell.pull + cell.off;
    const others = [Math.max(pull - cell.pull - (off - cell.off), 0), pull - cell.pull + (off - cell.off)];
    return [low / (low + others[1] || 1), high / (high + others[0] || 1)];
  }

  function drawRegionTokens() {
    const list = $("region-tokens"), soft = (words, and = "") => make("li", { class: `soft${and}` }, words);
    if (state.region === null) return list.replaceChildren(soft("Choose a region to read its tokens.", " no-print"));
    const pull = (s) => state.targets[s.at].gradient;
    const inside = tokens.filter((s) => inMap(s) && regionOf(s) === state.region).sort((a, b) => pull(b) - pull(a));
    const shown = inside.slice(0, MOST_LISTED).map((s) => sentence(s)), more = inside.length - MOST_LISTED;
    if (more > 0) shown.push(soft(`and ${many(more)} more, of smaller pull`));
    list.replaceChildren(...(shown.length ? shown : [soft("No token is there.")]));
  }

  when(["region", "allRows"], drawRegions);
  when(["targets"], atNextFrame(drawRegions));
})();
