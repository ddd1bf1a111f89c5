/** The generated client does every operation that the installation's document has. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { unwrap } from "../../src/index.ts";
import { account, accountApiKey, fresh, receiver } from "../installation.ts";
import { client, done, operations } from "./api.ts";

const channel = fresh("ch");
const api = client(account);
const DAY_AGO = "2026-11-22T08:00:00Z";

const path = { channel };
const system = { ...path, system: "crm" };
const intent = { ...system, code: "ORDER" };
const ofSystem = { params: { path: system } };
const ofIntent = { params: { path: intent } };
const ofChannel = { params: { path } };

before(async () => {
  const whatsapp = { channel_type: "whatsapp", name: "Shop", enterprise_authenticated: true } as const;
  await unwrap(api.PUT("/v1/channels/{channel}", { ...ofChannel, body: whatsapp }));
});

after(() => {
  assert.ok(operations.length > 0);
  const left = operations.map((one) => one.operationId).filter((one) => !done.has(one));
  assert.deepEqual(left, [], "operations that no test does");
});

test("settings", async () => {
  await unwrap(api.PATCH("/v1/channels/{channel}", { ...ofChannel, body: { name: "Shop 2" } }));
  await unwrap(api.PUT("/v1/channels/{channel}/sms", { ...ofChannel, body: { enabled: true } }));
  const otp = { enabled: true, countries: ["ID" as const], use_own_numbers: false };
  await unwrap(api.PUT("/v1/channels/{channel}/otp-scheduling", { ...ofChannel, body: otp }));
  const { version } = await unwrap(api.PUT("/v1/channels/{channel}/spend-guard", { ...ofChannel, body: { mode: "off" } }));
  assert.ok(version);

  const min_version = { params: { path, query: { min_version: version } } };
  const settings = await unwrap(api.GET("/v1/channels/{channel}/settings", min_version));
  assert.equal(settings.sms.enabled, true);
  assert.equal((await unwrap(api.GET("/v1/channels/{channel}", ofChannel))).name, "Shop 2");
  const { channels } = await unwrap(api.GET("/v1/channels"));
  assert.deepEqual(channels.map((one) => one.channel), [channel]);
  assert.equal((await unwrap(api.GET("/v1/channels/{channel}/sms", ofChannel))).enabled, true);
  assert.deepEqual((await unwrap(api.GET("/v1/channels/{channel}/otp-scheduling", ofChannel))).countries, ["ID"]);
  assert.equal((await unwrap(api.GET("/v1/channels/{channel}/spend-guard", ofChannel))).mode, "off");
  const { required_for } = await unwrap(api.GET("/v1/channels/{channel}/approvals", ofChannel));
  assert.deepEqual(required_for, []);
  await unwrap(api.PUT("/v1/channels/{channel}/approvals", { ...ofChannel, body: { required_for: [] } }));
  assert.equal((await unwrap(api.GET("/v1/customers"))).customers.length, 1);
  const save = { template: channel, channels: [channel], sections: ["sms" as const] };
  await unwrap(api.POST("/v1/customers/settings", { params: { query: { dry_run: true } }, body: save }));
});

test("a proposed change is declined by one person, and approved by another", async () => {
  const [approved, declined] = [fresh("change"), fresh("change")];
  const command = { type: "SaveOtpScheduling" as const, data: { enabled: false, countries: [], use_own_numbers: false } };
  for (const change of [approved, declined]) {
    await unwrap(api.POST("/v1/channels/{channel}/proposed-changes", { ...ofChannel, body: { change, command } }));
  }
  const approver = client(account, accountApiKey);
  const of = (change: string) => ({ params: { path: { channel, change } }, body: {} });
  await unwrap(approver.POST("/v1/channels/{channel}/proposed-changes/{change}/decline", of(declined)));
  const { version } = await unwrap(approver.POST("/v1/channels/{channel}/proposed-changes/{change}/approve", of(approved)));
  const shown = { params: { path: { channel, change: approved }, query: { min_version: version ?? 0 } } };
  const change = await unwrap(api.GET("/v1/channels/{channel}/proposed-changes/{change}", shown));
  assert.equal(change.change, approved);
  const { changes } = await unwrap(api.GET("/v1/channels/{channel}/proposed-changes", ofChannel));
  assert.equal(changes.length, 2);
});

test("business systems, intents, calls and signatures", async (context) => {
  const secrets: string[] = [];
  const { calls, url } = await receiver(context, secrets);
  const body = { name: "CRM", api_request_url: url };
  await unwrap(api.PUT("/v1/channels/{channel}/business-systems/{system}", { ...ofSystem, body }));
  await unwrap(api.PATCH("/v1/channels/{channel}/business-systems/{system}", { ...ofSystem, body: { remarks: "Ours" } }));
  const order = { name: "Order", default_data: { order: "42" } };
  const intentPath = "/v1/channels/{channel}/business-systems/{system}/intents/{code}";
  await unwrap(api.PUT(intentPath, { ...ofIntent, body: order }));
  await unwrap(api.PATCH(intentPath, { ...ofIntent, body: { name: "Order 2" } }));
  const reference = { params: { path: { ...intent, template: "t-1" } } };
  const referred = await unwrap(api.PUT(`${intentPath}/references/{template}`, reference));
  const min_version = { params: { path: system, query: { min_version: referred.version ?? 0 } } };
  assert.equal((await unwrap(api.GET("/v1/channels/{channel}/business-systems/{system}", min_version))).remarks, "Ours");
  const { business_systems } = await unwrap(api.GET("/v1/channels/{channel}/business-systems", ofChannel));
  assert.equal(business_systems.length, 1);
  assert.deepEqual((await unwrap(api.GET(intentPath, ofIntent))).templates, ["t-1"]);
  assert.equal((await unwrap(api.GET("/v1/channels/{channel}/business-systems/{system}/intents", ofSystem))).intents.length, 1);
  assert.equal((await unwrap(api.GET("/v1/intents"))).intents.length, 1);

  const signaturePath = "/v1/channels/{channel}/business-systems/{system}/signature";
  const { signature: first } = await unwrap(api.GET(signaturePath, ofSystem));
  const rotation = { ...ofSystem, body: { grace_seconds: 3600 } };
  const { signature, key_id, version: signed } = await unwrap(api.POST(signaturePath, rotation));
  assert.ok(first && signature && key_id);
  secrets.push(signature, first);
  const test = { params: { path: system, query: { min_version: signed } }, body: {} };
  const made = await unwrap(api.POST("/v1/channels/{channel}/business-systems/{system}/test-calls", test));
  assert.equal(made.attempt?.status, 200);
  const { signatures } = await unwrap(api.GET("/v1/channels/{channel}/business-systems/{system}/signatures", ofSystem));
  const old = signatures.find((one) => one.key_id !== key_id);
  assert.ok(old);
  const retired = { params: { path: { ...system, key_id: old.key_id } } };
  await unwrap(api.POST(`${signaturePath}/{key_id}/retirement`, retired));
  const { key_id: newest } = await unwrap(api.POST(signaturePath, rotation));
  assert.notEqual(newest, key_id);
  await unwrap(api.DELETE(`${signaturePath}/{key_id}`, { params: { path: { ...system, key_id } } }));
  secrets.push((await unwrap(api.GET(signaturePath, ofSystem))).signature ?? "");
  assert.equal(calls.length, 1);

  const invocation = { system: "crm", code: "ORDER" };
  const query = { wait: 20 };
  const invoked = await unwrap(api.POST("/v1/channels/{channel}/invocations", { params: { path, query }, body: invocation }));
  assert.ok("request_id" in invoked);
  const { deliveries } = await unwrap(api.GET("/v1/deliveries"));
  const delivery = deliveries.find((one) => one.state === "delivered" && !one.test);
  assert.ok(delivery, JSON.stringify(deliveries));
  const ofDelivery = { params: { path: { delivery: delivery.id } } };
  assert.equal((await unwrap(api.GET("/v1/deliveries/{delivery}", ofDelivery))).request.code, "ORDER");
  await unwrap(api.POST("/v1/deliveries/{delivery}/replay", ofDelivery));
  await unwrap(api.POST("/v1/deliveries/replay", { body: {} }));
  await unwrap(api.GET("/v1/channels/{channel}/invocations", ofChannel));
  await unwrap(api.GET("/v1/channels/{channel}/business-systems/{system}/health", ofSystem));

  const listenerPath = "/v1/channels/{channel}/listeners/{listener}";
  const ofListener = { params: { path: { channel, listener: "laptop" } } };
  await unwrap(api.PUT(listenerPath, { ...ofListener, body: { system: "crm" } }));
  const triggered = unwrap(api.POST(`${intentPath}/trigger`, { ...ofIntent, body: { data: { order: "7" } } }));
  const waiting = { params: { path: ofListener.params.path, query: { wait: 3 } }, body: { system: "crm" } };
  const ask = async () => (await unwrap(api.PUT(listenerPath, waiting))).calls[0];
  let offered = await ask();
  while (!offered) {
    offered = await ask();
  }
  const ofCall = { params: { path: { channel, listener: "laptop", delivery: offered.delivery } } };
  await unwrap(api.PUT(`${listenerPath}/answers/{delivery}`, { ...ofCall, body: { status: 200 } }));
  assert.equal((await triggered).attempt?.status, 200);
  await unwrap(api.DELETE(listenerPath, ofListener));

  const disabled = { ...ofSystem, body: { reason: "maintenance" as const } };
  await unwrap(api.POST("/v1/channels/{channel}/business-systems/{system}/disable", disabled));
  await unwrap(api.POST("/v1/channels/{channel}/business-systems/{system}/enable", { ...ofSystem, body: {} }));
  await unwrap(api.DELETE(`${intentPath}/references/{template}`, reference));
  await unwrap(api.DELETE(intentPath, ofIntent));
  await unwrap(api.DELETE("/v1/channels/{channel}/business-systems/{system}", ofSystem));
});

test("messages, usage and rates", async () => {
  const message = fresh("m");
  const header = { "Idempotency-Key": message };
  const body = { recipient: "+6591234567", category: "marketing" as const };
  const decided = await unwrap(api.POST("/v1/channels/{channel}/message-decisions", { params: { path, header }, body }));
  assert.equal(decided.message, message);
  const ofMessage = { params: { path: { channel, message } } };
  const sent = { ...ofMessage, body: { status: "sent" as const, via: "chat" as const, at: DAY_AGO } };
  await unwrap(api.POST("/v1/channels/{channel}/messages/{message}/statuses", sent));
  const shown = await unwrap(api.GET("/v1/channels/{channel}/messages/{message}", ofMessage));
  assert.equal(shown.decision?.rule, "CategoryNotAuthentication");
  assert.equal((await unwrap(api.GET("/v1/channels/{channel}/messages", ofChannel))).messages.length, 1);
  const what = { ...ofChannel, body: { otp_scheduling: { enabled: false } } };
  assert.equal((await unwrap(api.POST("/v1/channels/{channel}/what-if", what))).countries[0]?.messages, 1);
  await unwrap(api.GET("/v1/usage"));
  const resource = fresh("pool");
  const pool = { resource, country: "ID" as const, sender: "+6280000000", units: 0, as_of: DAY_AGO, valid_seconds: 60 };
  await unwrap(api.POST("/v1/scheduling-resources", { body: pool }));
  await unwrap(api.GET("/v1/scheduling-resources"));
  await unwrap(api.DELETE("/v1/scheduling-resources/{resource}", { params: { path: { resource } } }));
  const { rates, sample } = await unwrap(api.GET("/v1/rates"));
  await unwrap(api.PUT("/v1/rates", { body: { rates, ...(sample !== undefined && { sample }) } }));
});

test("changes, history, audits and API keys", async () => {
  const page = await unwrap(api.GET("/v1/changes", { params: { query: { cursor: "beginning", channel: [channel], limit: 1 } } }));
  assert.ok(typeof page === "object");
  assert.equal(page.changes[0]?.type, "ChannelRegistered");
  assert.ok((await unwrap(api.GET("/v1/channels/{channel}/history", ofChannel))).entries.length > 0);
  assert.ok((await unwrap(api.GET("/v1/history"))).entries.length > 0);
  const { answers } = await unwrap(api.GET("/v1/audit/at", { params: { query: { at: "now", channel } } }));
  assert.ok(answers[0]?.settings);
  const diff = await unwrap(api.GET("/v1/audit/diff", { params: { query: { channel, from: "1" } } }));
  assert.ok(diff.words.length > 0);
  assert.ok((await unwrap(api.GET("/v1/audit/log", { params: { query: { channel } } }))).entries.length > 0);
  await unwrap(api.GET("/v1/audit/verify", { params: { query: { partition: 0 } } }));
  await unwrap(api.GET("/v1/access-log"));
  assert.ok((await unwrap(api.GET("/v1/health"))).consumers.length > 0);

  const created = await unwrap(api.POST("/v1/api-keys", { body: { label: "Generated", roles: ["viewer"] } }));
  const of = (key: string) => ({ params: { path: { key } } });
  const rotated = await unwrap(api.POST("/v1/api-keys/{key}/rotation", { ...of(created.key_id), body: {} }));
  assert.equal(rotated.replaces, created.key_id);
  assert.ok((await unwrap(api.DELETE("/v1/api-keys/{key}", of(rotated.key_id)))).revoked_at);
  assert.ok((await unwrap(api.GET("/v1/api-keys"))).api_keys.length >= 2);
});

test("a channel ends", async () => {
  const retired = { params: { path, query: { confirm: channel } } };
  await unwrap(api.DELETE("/v1/channels/{channel}", retired));
});
