/** The call was not signed with any of the secrets, or is too old. Answer it with 401. */
export class CallNotVerified extends Error {
  override readonly name = "CallNotVerified";
}

export interface VerifiedCall {
  /** `webhook-id`: the same call may come more than once, so store the ids that you have processed. */
  id: string;
  /** When it was sent. */
  timestamp: Date;
  body: unknown;
  /** Names the secret that it verified with. Answer with it in the header `webhook-key-id` to confirm a rotation. */
  fingerprint: string;
}

/**
 * Verifies a signed call (Standard Webhooks) with any of the secrets, `whsec_…`: several during a rotation. `body` must
 * be the bytes that were received; `now` is in milliseconds. Throws `CallNotVerified`.
 */
export async function verifyCall(
  body: string | Uint8Array<ArrayBuffer>,
  headers: Headers | Record<string, string | string[] | undefined>,
  secrets: string | readonly string[],
  { toleranceSeconds = 300, now = Date.now() }: { toleranceSeconds?: number; now?: number } = {},
): Promise<VerifiedCall> {
  const id = header(headers, "webhook-id");
  const seconds = header(headers, "webhook-timestamp");
  const signatures = header(headers, "webhook-signature").split(" ");
  if (!/^\d{1,12}$/.test(seconds)) {
    throw new CallNotVerified("The header webhook-timestamp is not in Unix seconds.");
  }
  const timestamp = Number(seconds) * 1_000;
  if (Math.abs(now - timestamp) > toleranceSeconds * 1_000) {
    throw new CallNotVerified(`The call is of ${new Date(timestamp).toISOString()}, which is too long ago or to come.`);
  }
  const signed = await new Blob([`${id}.${seconds}.`, body]).arrayBuffer();
  for (const secret of [secrets].flat().map(secretBytes)) {
    const key = await crypto.subtle.importKey("raw", secret, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
    for (const [version, signature = ""] of signatures.map((one) => one.split(",", 2))) {
      // `verify` compares in constant time.
      if (version === "v1" && (await crypto.subtle.verify("HMAC", key, base64(signature), signed))) {
        const received: unknown = JSON.parse(typeof body === "string" ? body : new TextDecoder().decode(body));
        return { id, timestamp: new Date(timestamp), body: received, fingerprint: await fingerprint(secret) };
      }
    }
  }
  throw new CallNotVerified("No signature of the call is by one of the secrets.");
}

function header(headers: Parameters<typeof verifyCall>[1], name: string): string {
  const value = headers instanceof Headers ? headers.get(name) : headers[name];
  if (typeof value !== "string" || value === "") {
    throw new CallNotVerified(`The header ${name} is missing, or there are several.`);
  }
  return value;
}

function secretBytes(secret: string): Uint8Array<ArrayBuffer> {
  const bytes = secret.startsWith("whsec_") ? base64(secret.slice("whsec_".length)) : undefined;
  if (!bytes?.length) {
    throw new TypeError("A secret is whsec_ and base64.");
  }
  return bytes;
}

async function fingerprint(secret: Uint8Array<ArrayBuffer>): Promise<string> {
  const named = await new Blob(["switchboard fingerprint\0", secret]).arrayBuffer();
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", named)).slice(0, 8);
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Empty where the text is not base64. */
function base64(text: string): Uint8Array<ArrayBuffer> {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return new Uint8Array();
  }
}
