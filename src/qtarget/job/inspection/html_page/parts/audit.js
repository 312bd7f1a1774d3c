/* The audit: what was found in the rows before any model read them, each count with its rows. */
(function () {
  "use strict";
  const { $, make, soft } = TargetPage.nodes;
  const { many } = TargetPage.words;
  const { store, findings, teachers, firstOfRow, rowName } = TargetPage.facts;
  const { openToken } = TargetPage.rows;

  function drawAudit() {
    const audit = findings.audit, first = audit.looked < audit.rows ? `in the first ${many(audit.looked)}: ` : "";
    const heading = `${many(audit.rows)} training rows, counted from 1; ${first}${many(audit.tokens)} tokens, ` +
      `${many(audit.learned)} of them learned.`;
    const found = audit.lines.filter((line) => line.count), clean = audit.lines.filter((line) => !line.count);
    const parts = [make("p", null, heading), ...found.map(finding)];
    for (const [says, numbers] of [["learn least", audit.least], ["learn most", audit.most]]) {
      const summary = make("summary", null, `rows that ${says}`);
      parts.push(make("details", null, summary, ...shownRows(numbers, numbers.length)));
    }
    if (clean.length) {
      const summary = make("summary", null, `${clean.length} faults looked for and not found`);
      const says = `Rows that ${clean.map((line) => line.says).join("; ")}.`;
      parts.push(make("details", { class: "soft" }, summary, says));
    }
    $("audit-body").replaceChildren(...parts);
  }

  function finding(line) {
    const says = make("span", { class: "flag" }, `${many(line.count)} of ${many(line.of)} rows ${line.says}`);
    if (!line.numbers.length) return make("div", null, says);
    return make("details", null, make("summary", null, says), ...shownRows(line.numbers, line.count));
  }

  /* Some of `count` rows: those whose text the page has, and the numbers of others. */
  function shownRows(numbers, count) {
    const rows = numbers.filter((n) => store.audit_rows[n]).map(auditedRow);
    const others = numbers.filter((n) => !store.audit_rows[n]), more = count - numbers.length;
    if (!others.length && more <= 0) return rows;
    return [...rows, soft(`also rows ${others.join(", ")}${more > 0 ? ` and ${many(more)} more` : ""}`)];
  }

  function auditedRow(n) {
    const row = store.audit_rows[n], on = store.rows.findIndex((each) => each.number === n);
    const notRead = teachers.length ? "not read by model and teacher" : "not read by the model";
    const open = on < 0 ? make("span", null, notRead)
      : make("button", { type: "button", onclick: () => openToken(firstOfRow[on]) }, "its tokens");
    const stretch = ([isLearned, part]) => make("span", { class: isLearned ? "learned" : "masked" }, part);
    const says = `${rowName(n)}: ${many(row.learned)} of ${many(row.tokens)} tokens learned`;
    const text = make("div", { class: "text", dir: "auto" }, ...row.stretches.map(stretch));
    return make("article", null, make("header", null, says, open), text);
  }

  TargetPage.audit = { drawAudit };
})();
