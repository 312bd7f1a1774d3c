/* How the page looks: dark or light, how wide, on paper. What depends on it is drawn anew after a change of LOOK. */
(function () {
  "use strict";
  const { $ } = TargetPage.nodes;
  const { state, when, change } = TargetPage.state;
  const LOOK = ["theme", "isPrinted", "width"];
  const root = document.documentElement, systemIsDark = matchMedia("(prefers-color-scheme: dark)");

  when(LOOK, () => {
    const theme = state.isPrinted ? "light" : state.theme;
    if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
  });

  $("theme").addEventListener("click", () => {
    const isDark = state.theme ? state.theme === "dark" : systemIsDark.matches;
    change({ theme: isDark ? "light" : "dark" });
  });
  systemIsDark.addEventListener("change", () => change({ theme: state.theme }));
  addEventListener("beforeprint", () => change({ isPrinted: true }));
  addEventListener("afterprint", () => change({ isPrinted: false }));

  let resizing = 0;
  addEventListener("resize", () => {
    clearTimeout(resizing);
    resizing = setTimeout(() => change({ width: innerWidth }), 120);
  });

  /* Links lead to below the bar, whatever its height. */
  new ResizeObserver(([bar]) => {
    root.style.setProperty("--bar", `${Math.ceil(bar.target.offsetHeight)}px`);
  }).observe(document.querySelector(".bar"));

  TargetPage.look = { LOOK };
})();
