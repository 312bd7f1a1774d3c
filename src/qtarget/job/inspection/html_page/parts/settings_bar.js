/* The bar at the top: the method, what it is for, and its hyperparameters, each with a control that moves it. */
(function () {
  "use strict";
  const { $, make, options } = TargetPage.nodes;
  const { findings, methods } = TargetPage.facts;
  const { state, when, isMoved, chooseMethod, moveSetting } = TargetPage.state;

  function drawSettings() {
    const { name, does, use_when, source, settings } = state.method;
    const back = name === findings.configured ? "back to the run's settings" : "back to its defaults";
    $("method").value = name;
    $("settings").replaceChildren(
      ...settings.map((each) => make("label", { title: each.about }, each.name, ...control(each))),
      make("button", { type: "button", id: "back", hidden: "", onclick: () => chooseMethod(name) }, back));
    $("method-gloss").replaceChildren(does, make("strong", null, " For: "), `${use_when} (${source})`);
    $("method-note").textContent = noteOn(state.method);
    $("method-note").hidden = !$("method-note").textContent;
  }

  /* What the page cannot do with a method, and at which progress of the run its numbers hold. */
  function noteOn(method) {
    if (method.not_moved) {
      return `The page does not move ${method.name}: its targets are shown as they were measured, with the settings ` +
        `beside. For ${method.not_moved}.`;
    }
    const progress = method.settings.find((each) => each.name === "progress");
    if (!progress) return "";
    return `${method.name} follows the run: targets are those at the chosen progress, of the models that training ` +
      `starts with. The table of methods holds at progress ${progress.says}.`;
  }

  function control(each) {
    const value = state.settings[each.name];
    if (each.choices) return [choice(each, value)];
    const isSchedule = value !== null && typeof value === "object";
    if (each.low === undefined || state.method.not_moved || isSchedule) {
      return [make("output", null, LiveTarget.settingWords(value))];
    }
    return slider(each, value);
  }

  function choice(each, value) {
    const choose = () => moveSetting(each.name, each.choices[select.selectedIndex]);
    const select = make("select", { "aria-label": each.name, onchange: choose });
    const words = each.choices.map((one, i) => [String(i), one === null ? "none" : String(one)]);
    options(select, words, String(each.choices.indexOf(value)));
    return select;
  }

  /* A slider, a box for its number, and what is said of a number that is refused. */
  function slider(each, value) {
    const high = Math.min(each.high, Math.max(1, 4 * value)), low = each.open ? high / 200 : each.low;
    const step = each.open ? low : (high - low) / 200;
    const bounds = `${each.open ? "above" : "from"} ${each.low} to ${each.high}`;
    const box = make("input", {
      type: "number", value, min: low, max: each.high, step: "any", "aria-label": `${each.name}, as a number`,
    });
    const range = make("input", { type: "range", min: low, max: high, step, value, "aria-label": each.name });
    const refused = make("span", { class: "flag", role: "status" });
    const allow = (isGood) => {
      box.setAttribute("aria-invalid", String(!isGood));
      refused.textContent = isGood ? "" : `${bounds}; not used`;
    };
    range.addEventListener("input", () => {
      box.value = Number(range.value).toPrecision(4) / 1;
      allow(true);
      moveSetting(each.name, Number(range.value));
    });
    box.addEventListener("input", () => {
      const given = Number(box.value), isInside = given >= each.low && given <= each.high;
      const isGood = box.value !== "" && isInside && !(each.open && given === each.low);
      allow(isGood);
      if (!isGood) return;
      range.value = given;
      moveSetting(each.name, given);
    });
    return [range, box, refused];
  }

  const menuWords = ({ name, not_moved }) => (not_moved ? `${name} (as measured, not moved)` : name);
  options($("method"), methods.map((each) => [each.name, menuWords(each)]));
  $("method").addEventListener("change", () => chooseMethod($("method").value));
  when(["method"], drawSettings);
  when(["settings"], () => { $("back").hidden = !isMoved(); });
})();
