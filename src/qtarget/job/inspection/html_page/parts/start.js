/* The page begins: what never changes is drawn, and the first choices are made, which draw the rest. */
(function () {
  "use strict";
  const { findings, methods, tokens, teachers, store, ofSurest } = TargetPage.facts;
  const { state, chooseMethod, chooseToken } = TargetPage.state;
  const { drawRows, show, scrollToRow } = TargetPage.rows;

  for (const each of document.querySelectorAll(".of-teacher")) each.hidden = !teachers.length;
  TargetPage.meanings.drawMeanings();
  TargetPage.glance.drawGlance();
  TargetPage.audit.drawAudit();
  drawRows();
  TargetPage.methodsTable.drawMethods();
  TargetPage.figures.drawTeacher();
  TargetPage.figures.drawWords();
  TargetPage.figures.drawEvidence();

  const isOpen = methods.some((each) => each.name === findings.configured);
  chooseMethod(isOpen ? findings.configured : methods[0].name);
  TargetPage.map.drawMap();
  const pull = (s) => state.targets[s.at].gradient;
  const surest = findings.surest.map(ofSurest).find(Boolean);
  const first = surest || tokens.reduce((a, b) => (pull(b) > pull(a) ? b : a));
  chooseToken(first.at);
  show(first.at);

  /* For whoever asks the page from outside. */
  function select(t, scrolls) {
    chooseToken(t);
    if (scrolls) scrollToRow(tokens[t].row);
  }
  globalThis.qtargetPage = { state, tokens, store, select, chooseMethod };
})();
