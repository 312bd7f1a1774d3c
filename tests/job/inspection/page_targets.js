// node page_targets.js store.json script.js...: every token's target under every method of the store, as JSON.
const { readFileSync } = require("node:fs");
const [, , stored, ...scripts] = process.argv;
scripts.forEach((script) => require("node:vm").runInThisContext(readFileSync(script, "utf8"), script)); // as a browser
const store = JSON.parse(readFileSync(stored, "utf8"));
const tokens = LiveTarget.unpack(store);
const out = { twins: LiveTarget.METHODS, targets: {} };
for (const method of store.methods) {
  const settings = Object.fromEntries(method.settings.map((each) => [each.name, each.value]));
  const found = LiveTarget.allTargets(tokens, method.name, settings);
  out.targets[method.name] = found.map((target, t) => ({
    ...target, ids: tokens[t].candidates.map((candidate) => store.ids[candidate]), row: tokens[t].row,
  }));
}
console.log(JSON.stringify(out));
