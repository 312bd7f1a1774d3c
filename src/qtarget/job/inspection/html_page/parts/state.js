/* What is chosen on the page. It changes here alone: `change` sets parts of it and then calls all that said, by `when`,
to be called after a change of these, in the order in which they said so. */
(function () {
  "use strict";
  const { $ } = TargetPage.nodes;
  const { store, methods, tokens, teachers, againstRow, runSettings } = TargetPage.facts;

  const state = {
    method: null, settings: {}, targets: [], // every token's target under the method, at these hyperparameters
    token: null, isPinned: false, // the token in the panel; a pinned one is not changed by pointing at another
    region: null, allRows: false, xAxis: "p", yAxis: "entropy", // the map
    colour: teachers.length ? "teacher" : "p", why: "every", order: teachers.length ? "against" : "file",
    againstOnly: false, // the list of rows
    theme: null, isPrinted: false, width: innerWidth, // how the page looks; theme null: as the system has it
  };
  const listeners = [];

  function when(parts, listener) { listeners.push({ parts, listener }); }

  function change(changes) {
    Object.assign(state, changes);
    for (const { parts, listener } of listeners) if (parts.some((part) => part in changes)) listener();
  }

  /* A select or a checkbox that shows a part of the state, and changes it. */
  function bind(id, part) {
    const node = $(id), value = node.type === "checkbox" ? "checked" : "value";
    const show = () => { node[value] = state[part]; };
    node.addEventListener("change", () => change({ [part]: node[value] }));
    when([part], show);
    show();
  }

  /* ---- the method */
  const targetsOf = (method, settings) => LiveTarget.allTargets(tokens, method.name, settings);
  const isMoved = () => JSON.stringify(state.settings) !== JSON.stringify(runSettings(state.method));

  function chooseMethod(name, given) {
    const method = methods.find((each) => each.name === name);
    if (!method) return;
    const settings = given || runSettings(method);
    change({ method, settings, targets: targetsOf(method, settings) });
  }

  function moveSetting(name, value) {
    const settings = { ...state.settings, [name]: value };
    change({ settings, targets: targetsOf(state.method, settings) });
  }

  /* ---- rows and tokens */
  const isListed = (r) =>
    (state.why === "every" || store.rows[r].why === state.why) && (!state.againstOnly || againstRow[r] > 0);

  /* A token for the panel. A row that is not listed now makes the list whole. */
  function chooseToken(t, isPinned = state.isPinned) {
    const whole = isListed(tokens[t].row) ? {} : { why: "every", againstOnly: false };
    change({ token: t, isPinned, ...whole });
  }
  const letGo = () => change({ isPinned: false });

  TargetPage.state = { state, when, change, bind, isMoved, chooseMethod, moveSetting, isListed, chooseToken, letGo };
})();
