/* Bars of a token's likeliest candidates: each series has places of its own in a group. */
(function () {
  "use strict";
  const { css } = TargetPage.nodes;
  const { seen } = TargetPage.facts;
  let bars = null;

  /* series: [key, name, values by candidate]; first: the candidates that get a group. */
  function drawBars(box, series, first, s) {
    const width = series.length + 1, centre = (series.length - 1) / 2;
    const xs = [], columns = series.map(() => []);
    first.forEach((k, g) => series.forEach(([, , values], j) => {
      xs.push(g * width + j);
      columns.forEach((each, i) => each.push(i === j ? values[k] : null));
    }));
    const names = first.map((k) => (k === s.label ? "●" : "") + shortened(seen(s.candidates[k])));
    const longest = Math.max(...names.map((name) => name.length));
    const ink = css("--soft"), grid = css("--line"), font = "11px ui-monospace, monospace";
    const range = (u, low, high) => [Math.min(0, low), Math.max(1e-6, high) * 1.05];
    const ofSeries = ([key]) => ({
      stroke: css(`--${key}`), fill: css(`--${key}`), width: 0, points: { show: false },
      paths: uPlot.paths.bars({ size: [0.92, 40, 1] }),
    });
    if (bars) bars.destroy();
    bars = new uPlot({
      width: Math.max(220, box.clientWidth), height: innerWidth > 900 ? 150 : 110, cursor: { show: false },
      scales: { x: { time: false, range: () => [-1, first.length * width - 1] }, y: { range } },
      axes: [
        {
          stroke: ink, font, rotate: -35, size: 20 + 4 * longest, grid: { show: false }, ticks: { show: false },
          splits: () => first.map((_, g) => g * width + centre), values: () => names,
        },
        { stroke: ink, font, size: 40, grid: { stroke: grid, width: 1 }, ticks: { show: false } },
      ],
      series: [{}, ...series.map(ofSeries)],
    }, [xs, ...columns], box);
  }
  const shortened = (label) => (label.length > 7 ? `${label.slice(0, 6)}…` : label);

  TargetPage.bars = { drawBars };
})();
