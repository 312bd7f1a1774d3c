/* The panel's lower part: the token under every method, each at the run's own hyperparameters or its defaults; the
chosen one first, as the menu has it. */
(function () {
  "use strict";
  const { $, make, soft, table } = TargetPage.nodes;
  const { NOT_NEGATIVE, number, roughly, entries } = TargetPage.words;
  const { methods, tokens, seen, likeliest, runSettings, gloss } = TargetPage.facts;
  const { state, isMoved, chooseMethod } = TargetPage.state;
  const { ABOUT } = TargetPage.meanings;
  const STAYS = 0.01;
  const asRun = methods.map((method) => {
    const settings = runSettings(method);
    return { method, settings, batches: LiveTarget.batchTrusts(tokens, method.name, settings) };
  });
  let isOpen = true;

  function underEveryMethod(s) {
    const summary = make("summary", null, "this token under every method");
    const box = make("details", { id: "every-method", open: isOpen || null }, summary);
    const fillIn = () => box.append(soft(explanation()), methodsTable(s));
    if (isOpen) fillIn();
    box.addEventListener("toggle", () => {
      isOpen = box.open;
      if (box.open && box.children.length === 1) fillIn();
    });
    return box;
  }

  function explanation() {
    const moved = isMoved() ? `; ${state.method.name} as the menu has it now` : "";
    return `What the target gives two tokens under each, at this run's settings or a method's defaults${moved}. ` +
      `Toward: which of them gains most; stays: no token's share moves by ${STAYS}. Choose one to see it above.`;
  }

  /* The label, and beside it the teacher's likeliest token, or else the model's. */
  function methodsTable(s) {
    const top = likeliest(s.teachers.length ? s.teacherLogps[0] : s.student), isTop = top !== s.label;
    const other = isTop ? top : likeliest(s.student.map((x, k) => (k === s.label ? -Infinity : x)));
    const whose = isTop && s.teachers.length ? "teacher" : "model";
    const head = (word, k) => make("span", null, `${word} `, make("br"), `“${seen(s.candidates[k]).slice(0, 8)}”`);
    const shares = [s.label, other].map((k) => number(Math.exp(s.student[k])));
    const now = { cells: ["the model now", "", ...shares, ""], class: "now" };
    const lines = asRun.map((each) => lineOf(s, other, whose, each));
    lines.sort((a, b) => b.isChosen - a.isChosen || b.share - a.share);
    return table(["method", "toward", head("label", s.label), head(whose, other), "pull"], [now, ...lines]);
  }

  function lineOf(s, other, whose, { method, settings, batches }) {
    const isChosen = method.name === state.method.name;
    const target = isChosen ? state.targets[s.at]
      : LiveTarget.targetOf(s, method.name, settings, batches && batches.get(s.group));
    const open = { title: gloss(method), "data-of-token": method.name, onclick: () => chooseHere(method.name) };
    const name = make("button", { type: "button", class: "method", ...open }, method.name);
    const improper = () => make("div", { class: "flag", title: ABOUT.improper }, "improper");
    const share = (k) => {
      const says = roughly(target.q[k], target.bound[k], 3, entries(target));
      return make("span", { class: target.improper ? "flag" : "" }, says);
    };
    const cells = [
      target.improper ? make("span", null, name, improper()) : name,
      toward(target, s, other, whose), share(s.label), share(other),
      roughly(target.gradient, target.gradientOff, 3, NOT_NEGATIVE),
    ];
    return { share: target.q[s.label], isChosen, cells, class: isChosen ? "chosen" : "" };
  }

  /* Which token gains most. */
  function toward(target, s, other, whose) {
    const gains = target.q.map((q, k) => q - Math.exp(s.student[k])), [up, upOther] = [gains[s.label], gains[other]];
    if (Math.max(...gains.map(Math.abs)) < STAYS) return "stays";
    if (Math.max(up, upOther) < STAYS) return "others";
    return up >= upOther ? "label" : whose;
  }

  function chooseHere(name) {
    chooseMethod(name);
    $("token").querySelector(`[data-of-token="${name}"]`).focus({ preventScroll: true });
    $("token").scrollTop = 0;
  }

  TargetPage.everyMethod = { underEveryMethod };
})();
