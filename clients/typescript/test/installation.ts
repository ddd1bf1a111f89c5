/** The running installation that tests ask, from the environment, and a receiver that its calls may reach. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { TestContext } from "node:test";

import { type VerifiedCall, verifyCall } from "../src/calls.ts";

export const url = variable("SWITCHBOARD_URL");
/** Of the platform. */
export const apiKey = variable("SWITCHBOARD_API_KEY");
/** An account, and a key of it that nobody made who uses the platform's: that one approves what this one proposes. */
export const account = variable("SWITCHBOARD_ACCOUNT");
export const accountApiKey = variable("SWITCHBOARD_ACCOUNT_API_KEY");
const receiverPort = Number(variable("SWITCHBOARD_RECEIVER_PORT"));

function variable(name: string): string {
  const value = process.env[name];
  if (!value) {
    throw new Error(`Set ${name}.`);
  }
  return value;
}

/** A name that no other test, and no earlier run, has used. */
export function fresh(prefix: string): string {
  return `${prefix}-${randomUUID().slice(0, 12)}`;
}

/** A business system. It verifies each call with the `secrets`, which may be added to, and names the one. */
export async function receiver(context: TestContext, secrets: string[]) {
  const calls: VerifiedCall[] = [];
  const server = createServer(async (request, response) => {
    try {
      const chunks: Uint8Array[] = [];
      for await (const chunk of request) {
        chunks.push(chunk);
      }
      const call = await verifyCall(Buffer.concat(chunks), request.headers, secrets);
      calls.push(call);
      response.writeHead(200, { "webhook-key-id": call.fingerprint }).end();
    } catch (error) {
      response.writeHead(401).end(String(error));
    }
  });
  server.listen(receiverPort, "127.0.0.1");
  await once(server, "listening");
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { calls, url: `http://127.0.0.1:${receiverPort}/hook` };
}
