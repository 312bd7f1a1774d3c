/* The first lines: how many tokens the teacher, or else the model, is against, in which rows, and the way there. */
(function () {
  "use strict";
  const { $, make } = TargetPage.nodes;
  const { many, percent } = TargetPage.words;
  const { page, store, findings, tokens, teachers, isSample, isConflict, isContradicted, ofSurest } = TargetPage.facts;
  const { change } = TargetPage.state;
  const { go } = TargetPage.walk;

  function drawGlance() {
    $("about").textContent = page.about;
    $("glance").replaceChildren(...(teachers.length ? ofTeacher() : ofModel()));
  }

  function ofTeacher() {
    const against = tokens.filter(isContradicted), inRows = new Set(against.map((s) => s.row)).size;
    const count = `The teacher contradicts ${many(against.length)} of the ${many(tokens.length)} learned tokens here`;
    const known = findings.teachers.find((each) => each.name === "teacher 0");
    const share = known ? ` Of ${page.sample} it contradicts ${percent(known.contradicted, 1)} of the tokens, in ` +
      `${many(known.contradicted_rows)} rows.` : "";
    const rows = `, in ${many(inRows)} of the ${many(store.rows.length)} rows of this page.${share}${otherRows()}`;
    const read = "Read the contradicted tokens, beginning with the surest";
    return [make("strong", null, count), rows, against.length ? link(read, openAgainst) : ""];
  }

  function ofModel() {
    const sample = tokens.filter(isSample), conflicts = sample.filter(isConflict).length;
    const count = `The model is sure of another token at ${many(conflicts)} of ${many(sample.length)} learned tokens`;
    const rows = ` of ${page.sample} (confident conflicts).${otherRows()}`;
    return [make("strong", null, count), rows, conflicts ? link("Read them", openConflicts) : ""];
  }

  /* Rows that were not read, and those that are not on this page. */
  function otherRows() {
    const all = findings.audit.rows, unread = all - findings.rows.length;
    const unfit = findings.rows.length - store.rows.length;
    const notRead = ` The other ${many(unread)} of ${many(all)} rows were not read; a larger --rows reads more. `;
    const notHere = `${many(unfit)} rows that were read did not fit into this page; the figures hold them. `;
    return (unread > 0 ? notRead : " ") + (unfit > 0 ? notHere : "");
  }

  const link = (says, onclick) => make("button", { type: "button", class: "method no-print", onclick }, says);

  /* The contradicted tokens alone, those first of which the teacher is surest. */
  function openAgainst() {
    change({ againstOnly: true, order: "against", colour: "teacher" });
    $("row-list").scrollTop = 0;
    $("rows").scrollIntoView();
    go(findings.surest.map(ofSurest).find(Boolean));
  }

  function openConflicts() {
    change({ region: 0 });
    $("regions").scrollIntoView({ block: "center" });
  }

  TargetPage.glance = { drawGlance };
})();
