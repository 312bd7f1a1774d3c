// node page_targets.js live_target.js store.json: every token's target under every method of the store, as JSON.
const { readFileSync } = require("node:fs");
require(require("node:path").resolve(process.argv[2]));
const store = JSON.parse(readFileSync(process.argv[3], "utf8"));
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
