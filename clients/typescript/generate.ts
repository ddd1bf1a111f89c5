/**
 * Makes `src/generated` from the contract: `node generate.ts OPENAPI.json SCHEMAS`. The second is the folder with the
 * JSON Schemas of all messages, a folder for each topic.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { isDeepStrictEqual } from "node:util";

import openapiTS, { astToString, type OpenAPI3 } from "openapi-typescript";

const [openapiFile, schemasFolder] = process.argv.slice(2);
if (!openapiFile || !schemasFolder) {
  throw new Error("node generate.ts OPENAPI.json SCHEMAS");
}
const generated = join(import.meta.dirname, "src", "generated");
// A member with a default may be left out, and an object without members may come to have some.
const options = { defaultNonNullable: false, emptyObjectsUnknown: true };

async function types(document: OpenAPI3): Promise<string> {
  return astToString(await openapiTS(document, options));
}

/** The document without definitions of its own, whose references go to the components of one document instead. */
function moved(schema: unknown): unknown {
  const text = JSON.stringify(schema, (key, value: unknown) => (key === "$defs" || key === "$schema" ? undefined : value));
  return JSON.parse(text.replaceAll('"#/$defs/', '"#/components/schemas/'));
}

function messages(): { schemas: Record<string, unknown>; topics: Map<string, Map<string, string>> } {
  const schemas: Record<string, unknown> = {};
  const topics = new Map<string, Map<string, string>>();
  const add = (name: string, schema: unknown) => {
    if (name in schemas && !isDeepStrictEqual(schemas[name], schema)) {
      throw new Error(`Two schemas are named ${name}, and differ.`);
    }
    schemas[name] = schema;
  };
  const files = readdirSync(schemasFolder as string, { recursive: true, withFileTypes: true });
  for (const file of files.filter((one) => one.name.endsWith(".json"))) {
    const schema = JSON.parse(readFileSync(join(file.parentPath, file.name), "utf8"));
    add(schema.title, moved(schema));
    Object.entries(schema.$defs ?? {}).forEach(([name, one]) => add(name, moved(one)));
    const topic = relative(schemasFolder as string, file.parentPath).replaceAll("\\", "/");
    topics.set(topic, topics.get(topic) ?? new Map()).get(topic)?.set(file.name.replace(".json", ""), schema.title);
  }
  return { schemas, topics };
}

function messageTable(topics: Map<string, Map<string, string>>): string {
  const lines = [...topics].sort().flatMap(([topic, names]) => [
    `  ${JSON.stringify(topic)}: {`,
    ...[...names].sort().map(([name, title]) => `    ${name}: MessageSchemas[${JSON.stringify(title)}];`),
    "  };",
  ]);
  return `/** The messages by topic, without \`switchboard.\`, and \`type\`. */\nexport interface Messages {\n${lines.join("\n")}\n}\n`;
}

function problemNames(document: OpenAPI3): string {
  const examples = Object.values(document.components?.examples ?? {}) as { value: { type: string } }[];
  const names = new Set(examples.map(({ value }) => JSON.stringify(value.type.replace("urn:switchboard:problem:", ""))));
  return `export type ProblemName =\n  | ${[...names].sort().join("\n  | ")};\n`;
}

function write(name: string, text: string): void {
  writeFileSync(join(generated, name), `// Generated: npm run generate\n${text}`);
}

const openapi = JSON.parse(readFileSync(openapiFile, "utf8")) as OpenAPI3;
const { schemas, topics } = messages();
const info = { title: "Messages", version: "1" };
const document = { openapi: "3.1.0", info, paths: {}, components: { schemas } } as OpenAPI3;
rmSync(generated, { recursive: true, force: true });
mkdirSync(generated);
write("openapi.ts", await types(openapi));
write("messages.ts", `${await types(document)}\nexport type MessageSchemas = components["schemas"];\n\n${messageTable(topics)}`);
write("problem-names.ts", problemNames(openapi));
