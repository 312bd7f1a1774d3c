/* All methods side by side, as they were measured before the first step. */
(function () {
  "use strict";
  const { $, make, soft, table, atNextFrame } = TargetPage.nodes;
  const { number, percent, many } = TargetPage.words;
  const { page, store, findings, methods, ownReference, runSettings, gloss, settingsWords } = TargetPage.facts;
  const { state, when, chooseMethod } = TargetPage.state;

  function drawMethods() {
    const isAgainst = findings.methods.some((each) => each.contradicted_share !== null);
    const heads = [
      "method", "mean trust", "pull beside sft's", "effective tokens", "pull on confident conflicts",
      ...(isAgainst ? ["pull where the teacher contradicts"] : []), "mean KL(Q‖p)", "proper targets",
    ];
    const lines = findings.methods.map((each) => ({ cells: [
      nameCell(each), trustCell(each.mean_trust), `${number(each.gradient_beside_sft, 2)}×`,
      many(each.effective_tokens), percent(each.conflict_share, 1),
      ...(isAgainst ? [percent(each.contradicted_share, 1)] : []), number(each.mean_kl), percent(each.proper),
    ] }));
    $("methods-body").replaceChildren(soft(explanation()), table(heads, lines), ...closedMethods());
  }

  function nameCell({ name }) {
    const method = methods.find((one) => one.name === name), settings = settingsWords(method, runSettings(method));
    const choose = { onclick: () => chooseMethod(name), "data-method": name, title: gloss(method) };
    const small = (words) => (words ? make("span", { class: "soft" }, words) : "");
    return make("span", null,
      make("button", { type: "button", class: "method", ...choose }, name),
      make("a", { class: "to-target", href: "#rows" }, "its targets ↑"),
      small(settings && ` ${settings}`), small(name === findings.configured && " (this run's)"),
      make("div", { class: "soft does" }, method.does));
  }

  function trustCell(trust) {
    if (!(trust > 1)) return number(trust);
    const why = "the label gets more than all mass, so it is no trust, and the target is improper";
    return make("span", { title: `${number(trust)}: ${why}` }, "beyond 1");
  }

  function explanation() {
    return `Over ${many(findings.tokens)} tokens of ${page.sample}, before any step. Pull: the norm of a token's ` +
      "logit gradient s(p − Q); a method that pulls half as hard as sft may want a larger learning rate. Effective " +
      "tokens: (Σ pull)² / Σ pull². KL(Q‖p) is the mean over tokens with a proper target. Methods that look at a " +
      `batch see ${findings.batch_rows} rows together.${alongTheRun()}${sameNow()} All at this run's settings or a ` +
      "method's defaults: a slider moves targets and map, not this table. Choose a method to see its targets, and at " +
      "the top what it is for.";
  }

  function alongTheRun() {
    const following = findings.methods.filter((each) => each.progress !== null);
    if (!following.length) return "";
    const change = following.length === 1 ? "changes along a run: its" : "change along a run: their";
    const names = following.map((each) => each.name).join(" and ");
    return ` ${names} ${change} figures hold at progress ${following[0].progress}.`;
  }

  /* What methods that look at a reference are before the first step, where it is the model itself. */
  function sameNow() {
    const there = (...names) => names.filter((name) => methods.some((each) => each.name === name)).join(" and ");
    const same = [
      [there("iw-sft", "psft"), "pull as sft does"], [there("prift"), "as dft"],
      [there("sft-kl"), "as sft and under a larger scale"], [there("asft"), "as dft and under a larger scale"],
      [there("excess-loss-selected"), "chooses by chance, as all its excess losses are zero"],
    ];
    const said = same.filter(([names]) => names).map(([names, what]) => `${names} ${what}`).join(", ");
    const isItself = !ownReference && !store.columns.reference_logp_y;
    return isItself && said ? ` The reference is the model itself here, as before any step: so ${said}.` : "";
  }

  /* Methods that are not shown, those of one reason together. */
  function closedMethods() {
    const reasons = new Map();
    for (const [name, why] of Object.entries(findings.closed)) reasons.set(why, [...(reasons.get(why) || []), name]);
    return [...reasons].map(([why, names]) => soft("Not shown: ", make("strong", null, names.join(", ")), `: ${why}`));
  }

  function markMethod() {
    for (const each of document.querySelectorAll("[data-method]")) {
      each.closest("tr").classList.toggle("chosen", each.dataset.method === state.method.name);
    }
  }

  when(["targets"], atNextFrame(markMethod));

  TargetPage.methodsTable = { drawMethods };
})();
