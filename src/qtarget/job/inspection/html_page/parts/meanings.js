/* What the page's words mean: a list at the top, and the same at the words of the panel. */
(function () {
  "use strict";
  const { $, make } = TargetPage.nodes;
  const { page, store, findings, methods, teachers } = TargetPage.facts;

  const named = findings.teacher ? `: ${findings.teacher}` : "";
  const hasReference = store.sources.includes("reference") || methods.some((each) => /\br\b/.test(each.residual));
  const MEANINGS = [
    ["label", "the token that the row has at this place"],
    ["model", "the one that is trained, as it is before the first step; in the words of methods, the student"],
    ["teacher", `a second model, which has read the same rows${named}`, teachers.length],
    ["p_y", "the model's probability of the label"],
    ["entropy", "how unsure the model is, in nats; 0 where it is sure"],
    ["target Q", "the distribution that the method would train the model toward here: γ·label + (1 − γ)·π̃"],
    ["trust γ", "how much of the target is put on the label itself; the rest may hold the label too"],
    ["rest π̃", "where the other mass goes: to what the model itself (p), a teacher (t) or the reference (r) finds " +
      "likely"],
    ["improper", "a target with entries below zero: the method pushes these tokens down"],
    ["reference", "the model as it was before training, or the one that the run names", hasReference],
    ["scale s", "how strongly the method weighs this token"],
    ["pull", "the norm of the token's gradient, s(p − Q)"],
    ["KL(Q‖p)", "how far the target is from the model, in nats"],
    ["confident conflict", `the model is sure of another token: p_y below ${page.conflict[0]}, entropy below ` +
      `${page.conflict[1]}; the label may be right and new to it`],
    ["contradicted", `the teacher gives the label less than ${page.contradiction[0]} and another token at least ` +
      `${page.contradiction[1]}`, teachers.length],
  ].filter(([, , isHere = true]) => isHere);
  const ABOUT = {
    ...Object.fromEntries(MEANINGS),
    rank: "the label's place among the model's tokens, 1 for the likeliest",
    "teacher's p_y": "the teacher's probability of the label",
    target: "the target Q",
  };

  function drawMeanings() {
    const meaning = ([name, says]) => make("div", null, make("dt", null, name), make("dd", null, says));
    $("meanings").open = innerWidth > 900;
    $("meanings").append(make("dl", null, ...MEANINGS.map(meaning)));
  }

  TargetPage.meanings = { ABOUT, drawMeanings };
})();
