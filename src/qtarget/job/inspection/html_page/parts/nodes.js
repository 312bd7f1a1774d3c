/* Elements of the page. Every text from rows goes in as text, never as markup. Each file here lays what others use of
it into TargetPage under its own name. */
globalThis.TargetPage = {};
(function () {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /* An element. An attribute that begins with "on" is what listens to an event; one of null or false is left out. */
  function make(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "class") node.className = value;
      else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children.filter((each) => each !== null && each !== undefined));
    return node;
  }

  const soft = (...children) => make("p", { class: "soft" }, ...children);

  /* A table that scrolls by itself; all columns but the first hold numbers. lines: { cells, class }. */
  function table(heads, lines) {
    const head = make("tr", null, ...heads.map((text, i) => make("th", { class: i ? "n" : "" }, text)));
    const body = lines.map((line) => {
      const cells = line.cells.map((cell, i) => make("td", { class: i ? "n" : "" }, cell));
      return make("tr", { class: line.class || "" }, ...cells);
    });
    const parts = [make("thead", null, head), make("tbody", null, ...body)];
    return make("div", { class: "scroll" }, make("table", null, ...parts));
  }

  /* pairs: [value, text]. */
  function options(select, pairs, chosen) {
    const option = ([value, text]) => make("option", { value, selected: value === chosen || null }, text);
    select.replaceChildren(...pairs.map(option));
  }

  /* Draws once before the next frame, however often it is asked to. */
  function atNextFrame(draw) {
    let pending = 0;
    return () => {
      cancelAnimationFrame(pending);
      pending = requestAnimationFrame(draw);
    };
  }

  TargetPage.nodes = { $, css, make, soft, table, options, atNextFrame };
})();
