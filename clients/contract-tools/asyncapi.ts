/**
 * `node asyncapi.ts ASYNCAPI.json FOLDER`: the official parser finds nothing in the document, and modelina makes TypeScript
 * of it, a file in the folder. Prints what the parser finds, and fails where it finds anything but information.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { TypeScriptGenerator } from "@asyncapi/modelina";
import { Parser } from "@asyncapi/parser";

const [file, folder] = process.argv.slice(2) as [string, string];
const document = readFileSync(file, "utf8");
const { diagnostics } = await new Parser().parse(document);
for (const { code, message, path, severity } of diagnostics) {
  console.log(severity, code, path.join("/"), message);
}
if (diagnostics.some(({ severity }) => severity <= 1)) {
  process.exit(1);
}
mkdirSync(folder, { recursive: true });
const models = await new TypeScriptGenerator({ modelType: "interface" }).generateCompleteModels(
  JSON.parse(document),
  { exportType: "named" },
);
for (const { modelName, result } of models) {
  writeFileSync(join(folder, `${modelName}.ts`), result);
}
console.log(`${models.length} models`);
