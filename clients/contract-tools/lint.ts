/** `node lint.ts OPENAPI.json`: what Redocly's linter finds in it, a line each, with the rules of `redocly.yaml`. */
import { lint, loadConfig } from "@redocly/openapi-core";

const config = await loadConfig({ configPath: `${import.meta.dirname}/redocly.yaml` });
const problems = await lint({ ref: process.argv[2] as string, config });
for (const { severity, ruleId, message, location } of problems) {
  console.log(severity, ruleId, location[0]?.pointer, message);
}
process.exitCode = problems.length > 0 ? 1 : 0;
