/** A running installation, with nothing but Node: its change feed, and a call that it signs. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { type Change, follow } from "../../src/feed.ts";
import { apiKey, fresh, receiver, url } from "../installation.ts";

const channel = fresh("ch");

type Answer = { version: number; signature: string; attempt: { status: number } };

async function ask(method: string, path: string, body?: object): Promise<Answer> {
  const headers = {
    Authorization: `Bearer ${apiKey}`,
    "Content-Type": "application/json",
    "Switchboard-Account": "typescript",
  };
  const response = await fetch(`${url}/v1/channels/${channel}${path}`, { method, headers, body: JSON.stringify(body) ?? null });
  const text = await response.text();
  assert.ok(response.ok, `${method} ${path}: ${text}`);
  return JSON.parse(text);
}

async function next(cursor: string): Promise<Change> {
  for await (const change of follow({ url, apiKey }, { cursor, channel: [channel] })) {
    return change;
  }
  throw new Error("the feed has ended");
}

test("each change comes once, from where the last one was", async () => {
  await ask("PUT", "", { channel_type: "whatsapp", name: "Shop", enterprise_authenticated: true });
  const { version } = await ask("PUT", "/sms", { enabled: true });
  await ask("GET", `?min_version=${version}`);
  const registered = await next("beginning");
  assert.ok(registered.event.type === "ChannelRegistered");
  assert.equal(registered.event.data.name, "Shop");
  const activated = await next(registered.cursor);
  assert.equal(activated.event.type, "SmsActivated");
  const waiting = next(activated.cursor);
  await ask("PUT", "/sms", { enabled: false });
  assert.equal((await waiting).event.type, "SmsDeactivated");
});

test("a call verifies with its signature, and with either during a rotation", async (context) => {
  const secrets: string[] = [];
  const { calls, url } = await receiver(context, secrets);
  const system = "/business-systems/crm";
  const { version } = await ask("PUT", system, { name: "CRM", api_request_url: url });
  secrets.push((await ask("GET", `${system}/signature`)).signature);
  assert.equal((await ask("POST", `${system}/test-calls?min_version=${version}`, {})).attempt.status, 200);
  const refreshed = await ask("POST", `${system}/signature`, { grace_seconds: 3600 });
  secrets.push(refreshed.signature);
  assert.equal((await ask("POST", `${system}/test-calls?min_version=${refreshed.version}`, {})).attempt.status, 200);
  secrets.shift();
  assert.equal((await ask("POST", `${system}/test-calls`, {})).attempt.status, 200);
  const [first, second, third] = calls.map((call) => call.fingerprint);
  assert.equal(second, first);
  assert.notEqual(third, first);
});
