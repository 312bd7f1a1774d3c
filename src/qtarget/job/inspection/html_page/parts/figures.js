/* Figures of the whole sample, which nothing moves: the teacher beside the model, words by kind, and the evidence. */
(function () {
  "use strict";
  const { $, make, soft, table } = TargetPage.nodes;
  const { number, percent, many } = TargetPage.words;
  const { page, findings, sourceName, ofSurest } = TargetPage.facts;
  const { sentence } = TargetPage.excerpts;

  function drawTeacher() {
    const none = "This run has no teacher. With one, this part shows where it contradicts the rows: qtarget inspect " +
      "config.yaml --method target-sft --teacher PATH";
    if (!findings.teachers.length) return $("teacher-body").replaceChildren(soft(none));
    const heads = [
      "source", "loss of the rows under it", "under the model", "shared mass", "same likeliest token", "contradicts",
      "mass on the kept tokens",
    ];
    const lines = findings.teachers.map((each) => ({ cells: [
      sourceName(each.name), number(each.nll), number(each.student_nll), number(each.overlap), percent(each.agrees),
      percent(each.contradicted, 1), percent(each.captured, 2),
    ] }));
    $("teacher-body").replaceChildren(table(heads, lines), ...surestLabels());
  }

  function surestLabels() {
    const sure = findings.surest.filter(ofSurest).map((each) => {
      const instead = `“${each.instead}” ${number(each.p_instead, 2)}, label ${number(each.p_label)}`;
      return sentence(ofSurest(each), `${sourceName(each.source)}: ${instead}`);
    });
    const isSome = sure.length < findings.contradictions;
    const shown = isSome ? `${many(sure.length)} of ${many(findings.contradictions)}` : `all ${many(sure.length)}`;
    const rows = [...new Set(findings.surest.map((each) => each.row))].join(", ");
    const none = make("li", { class: "soft" }, "No label is contradicted.");
    return [
      make("h3", null, "Surest against the label"),
      soft(`The rows most worth reading, ${shown} contradicted labels of all rows that were read, row by row. A ` +
        "label is wrong, or the teacher is; or the label is right and the answer had gone wrong before it."),
      ...(sure.length ? [make("p", null, "Their rows: ", rows)] : []),
      make("ul", { class: "list" }, ...(sure.length ? sure : [none])),
    ];
  }

  function drawWords() {
    const lines = findings.kinds.map((each) => {
      const kind = make("span", { class: each.remark ? "flag" : "" }, each.kind);
      return { cells: [kind, many(each.tokens), number(each.mean_nll), number(each.median_nll), each.remark] };
    });
    const says = "The model's loss by kind of token, in nats. A mean far above the median says that a few tokens of " +
      "this kind are very improbable: it may be a systematic fault in the rows. A kind far above every other is one " +
      "that the model does not expect there, as an end token that it never learned.";
    $("words-body").replaceChildren(soft(says), table(["kind", "tokens", "mean loss", "median loss", ""], lines));
  }

  function drawEvidence() {
    const noteOf = new Map(); // what a statistic was seen to go with, and the number of that note
    const lines = findings.statistics.map((each) => {
      if (!noteOf.has(each.seen_with)) noteOf.set(each.seen_with, noteOf.size + 1);
      const name = make("span", null, each.says, make("sup", null, ` ${noteOf.get(each.seen_with)}`));
      const interval = each.interval ? each.interval.map((end) => number(end)).join(" … ") : "too few rows";
      return { cells: [name, number(each.value), interval] };
    });
    const notes = [...noteOf].map(([says, n]) => soft(make("sup", null, `${n} `), says));
    const pilot = (each) => make("div", null, make("pre", { class: "line" }, each.line), " ", each.why);
    $("evidence-body").replaceChildren(
      soft(`This is evidence, not a verdict. Intervals are 95 %, over ${page.sample} as units.`),
      table(["statistic", "value", "interval"], lines), ...notes,
      make("h3", null, "To pilot"), soft("On development questions, never on the test's."),
      ...findings.candidates.map(pilot));
  }

  TargetPage.figures = { drawTeacher, drawWords, drawEvidence };
})();
