/* From token to token: arrow keys, Home and End over the rows as they are listed; n and p, and the panel's buttons, to
the next and the previous marked one. */
(function () {
  "use strict";
  const { $ } = TargetPage.nodes;
  const { tokens, tokensOf, isContradicted, isMarked, marked } = TargetPage.facts;
  const { state, chooseToken, letGo } = TargetPage.state;
  const { listed, show, focusRow } = TargetPage.rows;

  function go(s) {
    if (!s) return;
    chooseToken(s.at, true);
    focusRow(s.row);
    show(s.at);
  }

  /* On from the chosen token to the next one that is a stop. */
  function walk(way, isStop) {
    const all = listed().flatMap(tokensOf), from = all.findIndex((s) => s.at === state.token);
    let i = from >= 0 ? from + way : way > 0 ? 0 : all.length - 1;
    while (all[i] && !isStop(all[i])) i += way;
    go(all[i]);
  }
  const toNext = () => walk(1, isMarked), toPrevious = () => walk(-1, isMarked);

  /* A key in row r. */
  function step(event, r) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isStop = state.againstOnly ? isContradicted : () => true, stops = (row) => tokensOf(row).filter(isStop);
    const rows = listed(), at = rows.indexOf(r), isInRow = state.token !== null && tokens[state.token].row === r;
    const along = (way) => (isInRow ? walk(way, isStop) : go(stops(r)[0]));
    const before = () => rows.slice(0, Math.max(at, 0)).map(stops).filter((each) => each.length);
    const ways = {
      ArrowRight: () => along(1), ArrowLeft: () => along(-1),
      Home: () => go(stops(r)[0]), End: () => go(stops(r).at(-1)),
      ArrowDown: () => go(rows.slice(at + 1).flatMap(stops)[0]), ArrowUp: () => go(before().at(-1)?.[0]),
    };
    if (!ways[event.key]) return;
    event.preventDefault();
    ways[event.key]();
  }

  $("row-list").addEventListener("keydown", (event) => {
    const row = event.target.closest("article");
    if (row) step(event, Number(row.dataset.row));
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") letGo();
    const way = { n: toNext, p: toPrevious }[event.key];
    if (way && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.closest("input, select")) way();
  });
  for (const [id, to] of [["next", toNext], ["previous", toPrevious]]) {
    $(id).addEventListener("click", () => {
      to();
      $(id).focus({ preventScroll: true });
    });
  }
  $("walk").hidden = !tokens.some(isMarked);
  $("next").textContent = `next ${marked} ›`;

  TargetPage.walk = { go };
})();
