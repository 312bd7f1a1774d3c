/* A token in its sentence. */
(function () {
  "use strict";
  const { make } = TargetPage.nodes;
  const { store, labelText, AFTER } = TargetPage.facts;
  const { openToken } = TargetPage.rows;

  const endOf = (words, length) => (words.length > length ? `…${words.slice(-length)}` : words);

  /* What is said before a token: the end of its turn up to it, which gets most of the length, and of the turn before;
  the twin of `said_before` of the Python side. */
  function saidBefore(s, length) {
    const { texts, said } = store.rows[s.row];
    const spans = said.filter(([start]) => start <= s.place).slice(-2);
    const turn = ([start, stop]) => texts.slice(start, Math.min(stop, s.place)).join("").replace(/^[\s↵]+/, "");
    const told = spans.map(turn);
    const own = endOf(told.pop() || "", told.length ? Math.floor(0.6 * length) : length);
    return [...told.map((words) => endOf(words.replace(/[\s↵]+$/, ""), length - own.length)), own].join(" ¦ ");
  }

  /* A line of a list: a button that opens the token. `instead` says what else a source would have. */
  function sentence(s, instead) {
    const row = store.rows[s.row], isIn = ([start, stop]) => start <= s.place && s.place < stop;
    const [, stop] = row.said.find(isIn) || [0, 0], after = row.texts.slice(s.place + 1, stop).join("").slice(0, 30);
    const oneLine = (words) => words.replaceAll("↵\n", "↵ "), soft = (words) => make("span", { class: "soft" }, words);
    const label = make("b", null, oneLine(labelText(s)));
    const parts = [soft(`${row.number}  `), oneLine(saidBefore(s, 110)), label, oneLine(after)];
    if (instead) parts.push(make("span", { class: "to" }, `   ${instead}`), s.follows ? soft(` (${AFTER})`) : "");
    const open = { type: "button", dir: "auto", "data-token": s.at, onclick: () => openToken(s.at) };
    return make("li", null, make("button", open, ...parts));
  }

  TargetPage.excerpts = { saidBefore, sentence };
})();
