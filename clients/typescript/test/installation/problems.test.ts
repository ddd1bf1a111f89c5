/** Each problem of the table, which the generated Python client is refused with as well. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { ProblemError, unwrap } from "../../src/index.ts";
import { fresh } from "../installation.ts";
import { client, operations } from "./api.ts";

interface Row {
  operation: string;
  caller?: "nobody" | "another account";
  parameters?: Record<string, unknown>;
  body?: unknown;
  status: number;
  problem: string;
}

const table = new URL("../../../../tests/clients/problems.json", import.meta.url);
const rows = JSON.parse(readFileSync(table, "utf8")) as Row[];

const account = fresh("acct");
const defaults: Record<string, unknown> = { channel: fresh("ch"), system: "crm", code: "ORDER" };

const api = client(account);
const other = fresh("acct");
const { token } = await unwrap(client(other).POST("/v1/api-keys", { body: { label: "Other", roles: ["viewer"] } }));
const callers = { "": api, nobody: client(account, "sb_none"), "another account": client(other, token) };

/** Any operation, with values that its types would not allow. */
type AnyCall = (method: string, path: string, options: object) => ReturnType<typeof api.GET<"/v1/usage", {}>>;

const done = (operation: string, body: object) => unwrap(call({ operation, body, status: 200, problem: "" }));

function call({ operation: id, caller, parameters = {}, body }: Row) {
  const operation = operations.find((one) => one.operationId === id);
  assert.ok(operation, `There is no operation ${id}.`);
  const params: Record<string, Record<string, unknown>> = { path: {}, query: {}, header: {} };
  for (const { name, in: place } of operation.parameters ?? []) {
    const value = parameters[name] ?? defaults[name];
    if (value !== undefined) {
      params[place] = { ...params[place], [name]: value };
    }
  }
  return (callers[caller ?? ""].request as unknown as AnyCall)(operation.method.toLowerCase(), operation.path, { params, body });
}

await done("registerChannel", { channel_type: "whatsapp", name: "Shop", enterprise_authenticated: true });
await done("openBusinessSystem", { name: "CRM", api_request_url: "https://crm.example/hook" });
const { version } = await unwrap(
  api.PUT("/v1/channels/{channel}/business-systems/{system}/intents/{code}", {
    params: { path: defaults as { channel: string; system: string; code: string } },
    body: { name: "Order", default_data: { order: "42" } },
  }),
);
const read = { params: { path: { channel: String(defaults["channel"]) }, query: { min_version: version ?? 0 } } };
await unwrap(api.GET("/v1/channels/{channel}", read));

for (const row of rows) {
  test(`${row.operation} is refused with ${row.problem}${row.caller ? ` to ${row.caller}` : ""}`, async () => {
    await assert.rejects(unwrap(call(row)), (error) => {
      assert.ok(error instanceof ProblemError);
      assert.equal(error.type, row.problem);
      assert.equal(error.problem.status, row.status);
      assert.ok(error.problem.detail);
      return true;
    });
  });
}

test("without `unwrap`, an answer has its problem as `error`", async () => {
  const { data, error, response } = await api.GET("/v1/channels/{channel}", { params: { path: { channel: "none" } } });
  assert.equal(data, undefined);
  assert.equal(error?.type, "urn:switchboard:problem:ChannelUnknown");
  assert.equal(response.status, 404);
});
