/* The map: every learned token of the random rows as a point. */
(function () {
  "use strict";
  const { $, css, make, options } = TargetPage.nodes;
  const { many } = TargetPage.words;
  const { page, store, findings, tokens, teachers, teacherP, isSample, isConflict, isContradicted, regionOf } =
    TargetPage.facts;
  const { state, when, change, bind } = TargetPage.state;
  const { LOOK } = TargetPage.look;
  const { openToken } = TargetPage.rows;

  /* name, the number of a token, and its range, where that is fixed. */
  const AXES = { p: ["p_y, the model's", (s) => s.p, [0, 1]], entropy: ["entropy, nats", (s) => s.entropy, null] };
  if (teachers.length) AXES.teacher = ["p_y, the teacher's", (s) => teacherP(s), [0, 1]];
  /* Kinds of points: which tokens, how large, in which colour. */
  const KINDS = [
    [(s) => !isConflict(s) && !isContradicted(s), 4, "--student"],
    [(s) => isConflict(s) && !isContradicted(s), 5, "--conflict"],
    [isContradicted, 8, "--teacher"],
  ];
  const inMap = (s) => state.allRows || isSample(s);

  function drawMap() {
    const [xName, x, xRange] = AXES[state.xAxis], [yName, y, yRange] = AXES[state.yAxis];
    const points = tokens.filter(inMap).sort((a, b) => x(a) - x(b));
    sayWhichPoints(points);
    const ink = css("--soft"), grid = css("--line"), font = "12px system-ui, sans-serif";
    const axis = (label, size) => ({
      label, stroke: ink, font, labelFont: font, size, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid },
    });
    const series = ([, size, colour]) => ({
      stroke: css(colour), paths: () => null, points: { show: true, size, fill: css(colour), width: 0 },
    });
    const range = (fixed) => (u, low, high) => fixed || [0, Math.max(high || 0, 0.1)];
    const box = $("map-chart");
    box.replaceChildren();
    const chart = new uPlot({
      width: Math.max(240, box.clientWidth), height: 380,
      cursor: { points: { show: false }, drag: { x: false, y: false } },
      scales: { x: { time: false, range: range(xRange) }, y: { range: range(yRange) } },
      axes: [axis(xName, 44), axis(yName, 52)],
      series: [{}, ...KINDS.map(series)],
    }, [points.map(x), ...KINDS.map(([isOf]) => points.map((s) => (isOf(s) ? y(s) : null)))], box);
    chart.over.addEventListener("click", () => openNearest(chart, points, x, y));
  }

  function sayWhichPoints(points) {
    const isWhole = findings.rows.length === store.rows.length;
    const sample = `${page.sample}${isWhole ? "" : ", as far as they are on this page"}`;
    $("of-points").textContent = state.allRows ? "all rows of this page" : sample;
    $("of-conflicts").textContent = teachers.length ? ofConflicts(points.filter(isConflict)) : "";
  }

  function ofConflicts(conflicts) {
    const learnt = conflicts.filter((s) => teacherP(s) >= 0.9).length;
    if (!conflicts.length) return "";
    if (conflicts.length === 1) {
      const much = learnt ? "at least 0.9: the model has it to learn" : "less than 0.9";
      return `The teacher gives this one label ${much}.`;
    }
    const labels = `these ${many(conflicts.length)} labels`;
    if (!learnt) return `The teacher gives each of ${labels} less than 0.9.`;
    const them = learnt === 1 ? "it" : "them";
    return `The teacher gives ${many(learnt)} of ${labels} at least 0.9: the model has ${them} to learn.`;
  }

  /* The point that is nearest to a click, within 20 pixels, with its region. */
  function openNearest(chart, points, x, y) {
    const { left, top } = chart.cursor;
    let best = null, least = 400;
    for (const s of points) {
      const far = (chart.valToPos(x(s), "x") - left) ** 2 + (chart.valToPos(y(s), "y") - top) ** 2;
      if (far < least) { least = far; best = s; }
    }
    if (!best) return;
    openToken(best.at);
    change({ region: regionOf(best) });
  }

  const names = Object.entries(AXES).map(([key, [name]]) => [key, name]);
  options($("x-axis"), names, state.xAxis);
  options($("y-axis"), names, state.yAxis);
  bind("x-axis", "xAxis");
  bind("y-axis", "yAxis");
  bind("all-rows", "allRows");
  $("all-rows").parentElement.hidden = tokens.every(isSample);
  const key = (kind) => make("span", { class: `key ${kind}` });
  const ofTeacher = teachers.length ? [key("teacher"), "contradicted by the teacher "] : [];
  $("map-keys").replaceChildren(key("conflict"), "confident conflict ", ...ofTeacher, key("other"), "other");
  when(["xAxis", "yAxis", "allRows", ...LOOK], drawMap);

  TargetPage.map = { inMap, drawMap };
})();
