import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";

import { CallNotVerified, verifyCall } from "../../src/calls.ts";

const NOW = 1_790_000_000_000;
const SECRET = secret(1);
const BODY = JSON.stringify({ order: "Ünï 42" });

function secret(byte: number): string {
  return `whsec_${Buffer.alloc(32, byte).toString("base64")}`;
}

function signature(by: string, { id = "msg_1", seconds = NOW / 1_000, body = BODY } = {}): string {
  const key = Buffer.from(by.replace("whsec_", ""), "base64");
  return `v1,${createHmac("sha256", key).update(`${id}.${seconds}.${body}`).digest("base64")}`;
}

function headers(signatures: string, seconds = NOW / 1_000): Record<string, string> {
  return { "webhook-id": "msg_1", "webhook-timestamp": String(seconds), "webhook-signature": signatures };
}

const at = (now: number) => ({ now });

test("a signed call is verified, as text or bytes, with any form of headers", async () => {
  const wanted = { id: "msg_1", timestamp: new Date(NOW), body: { order: "Ünï 42" }, fingerprint: "e8cba273d84af16a" };
  const bytes = new TextEncoder().encode(BODY);
  assert.deepEqual(await verifyCall(BODY, headers(signature(SECRET)), SECRET, at(NOW)), wanted);
  assert.deepEqual(await verifyCall(bytes, new Headers(headers(signature(SECRET))), [SECRET], at(NOW)), wanted);
  assert.deepEqual(await verifyCall(Buffer.from(bytes), headers(signature(SECRET)), SECRET, at(NOW)), wanted);
});

test("during a rotation any secret verifies any signature, and the answer names it", async () => {
  const both = `${signature(secret(2))} ${signature(SECRET)}`;
  const old = await verifyCall(BODY, headers(both), SECRET, at(NOW));
  const current = await verifyCall(BODY, headers(both), [secret(2), SECRET], at(NOW));
  assert.notEqual(current.fingerprint, old.fingerprint);
  await verifyCall(BODY, headers(`v2,xyz v1a,abc v1, ${signature(SECRET)}`), [secret(3), SECRET], at(NOW));
});

for (const [name, body, sent, now] of [
  ["another body", `${BODY} `, headers(signature(SECRET)), NOW],
  ["another secret", BODY, headers(signature(secret(2))), NOW],
  ["another id", BODY, headers(signature(SECRET, { id: "msg_2" })), NOW],
  ["another version", BODY, headers(signature(SECRET).replace("v1,", "v2,")), NOW],
  ["a part of the signature", BODY, headers(signature(SECRET).slice(0, -4)), NOW],
  ["no base64", BODY, headers("v1,%%%%"), NOW],
  ["too old", BODY, headers(signature(SECRET)), NOW + 300_001],
  ["too new", BODY, headers(signature(SECRET)), NOW - 300_001],
  ["a time that is none", BODY, { ...headers(signature(SECRET)), "webhook-timestamp": "1e9" }, NOW],
  ["no signature", BODY, { ...headers(""), "webhook-signature": undefined }, NOW],
  ["two signatures' headers", BODY, { ...headers(""), "webhook-signature": ["v1,a", "v1,b"] }, NOW],
] as const) {
  test(`refused: ${name}`, async () => {
    const mutable = Object.fromEntries(Object.entries(sent).map(([key, value]) => [key, value as string]));
    await assert.rejects(verifyCall(body, mutable, SECRET, at(now)), CallNotVerified);
  });
}

test("the tolerance is the caller's", async () => {
  const late = { now: NOW + 20_000, toleranceSeconds: 10 };
  await assert.rejects(verifyCall(BODY, headers(signature(SECRET)), SECRET, late), CallNotVerified);
  await verifyCall(BODY, headers(signature(SECRET)), SECRET, { ...late, toleranceSeconds: 20 });
});

test("a secret that is none is a mistake of ours, not a call that is refused", async () => {
  for (const none of ["", "whsec_", "whtok_abc", "whsec_%"]) {
    await assert.rejects(verifyCall(BODY, headers(signature(SECRET)), none, at(NOW)), TypeError);
  }
});
