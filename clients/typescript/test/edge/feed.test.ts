import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";

import { type Change, FeedEnded, follow, type FollowOptions } from "../../src/feed.ts";
import { ProblemError } from "../../src/problems.ts";

type Answer = (response: ServerResponse, request: IncomingMessage) => void;

/** A server that answers each request in turn; the last answer repeats. `asked` are the requests' URLs. */
async function serve(context: TestContext, ...answers: Answer[]) {
  const asked: URL[] = [];
  const server = createServer((request, response) => {
    asked.push(new URL(request.url ?? "", "http://localhost"));
    answers[Math.min(asked.length, answers.length) - 1]?.(response, request);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { asked, server, feed: (options: FollowOptions) => follow({ url, apiKey: "sb_key" }, { maxBackoff: 5, ...options }) };
}

function event(sequence: number): string {
  return `id: c${sequence}\ndata: ${JSON.stringify({ type: "SmsActivated", sequence })}\n\n`;
}

function stream(...chunks: string[]): Answer {
  return (response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    chunks.forEach((chunk) => response.write(chunk));
  };
}

function ended(...chunks: string[]): Answer {
  return (response, request) => {
    stream(...chunks)(response, request);
    response.end();
  };
}

function problem(status: number, name: string, headers: Record<string, string> = {}): Answer {
  return (response) => {
    response.writeHead(status, { "Content-Type": "application/problem+json", ...headers });
    response.end(JSON.stringify({ type: `urn:switchboard:problem:${name}`, title: name, status, detail: "Because." }));
  };
}

async function take(feed: AsyncGenerator<Change>, count: number): Promise<Change[]> {
  const found: Change[] = [];
  for await (const change of feed) {
    found.push(change);
    if (found.length === count) {
      break;
    }
  }
  return found;
}

const sequences = (changes: Change[]) => changes.map(({ event }) => event.sequence);

test("changes come with their cursors, and the filter and the key go to the server", async (context) => {
  let key: string | undefined;
  const { asked, feed } = await serve(context, (response, request) => {
    key = request.headers.authorization;
    stream("retry: 1000\n: from here on\nid: c0\n\n", event(1) + event(2))(response, request);
  });
  const changes = await take(feed({ cursor: "beginning", type: ["SmsActivated", "SmsDeactivated"] }), 2);
  assert.deepEqual(changes.map(({ cursor }) => cursor), ["c1", "c2"]);
  assert.equal(asked[0]?.search, "?cursor=beginning&type=SmsActivated&type=SmsDeactivated");
  assert.equal(key, "Bearer sb_key");
});

test("an event is read however it is cut", async (context) => {
  const text = `id: c1\r\nevent: message\r\ndata: ${JSON.stringify({ sequence: 1, text: "Ünï 👋" })}\r\n\r\n`;
  const { feed } = await serve(context, (response) => {
    response.writeHead(200);
    (async () => {
      for (const byte of Buffer.from(text)) {
        response.write(Uint8Array.of(byte));
        await new Promise(setImmediate);
      }
    })();
  });
  const [change] = await take(feed({}), 1);
  assert.deepEqual(change, { event: { sequence: 1, text: "Ünï 👋" }, cursor: "c1" });
});

test("it goes on after the last whole event, where a connection ends within one", async (context) => {
  const cut = ended("id: c0\n\n", event(1), "id: c2\ndata: {");
  const broken: Answer = (response) => {
    response.writeHead(200).write(event(2), () => response.destroy());
  };
  const beaten = ended(": heartbeat\nid: c2-later\n\n", "event: cut-off\ndata: {}\n\n");
  const { asked, feed } = await serve(context, cut, broken, beaten, stream(event(3)));
  assert.deepEqual(sequences(await take(feed({ channel: ["ch"] }), 3)), [1, 2, 3]);
  assert.deepEqual(asked.map((url) => url.searchParams.get("cursor")), [null, "c1", "c2", "c2-later"]);
});

test("it waits where it is asked to, and goes on where a server is away for now", async (context) => {
  const answers = [problem(503, "Unavailable"), problem(429, "TooManyFollowers", { "Retry-After": "1" })];
  const page: Answer = (response) => response.writeHead(502).end("<html>Bad Gateway</html>");
  const { asked, feed } = await serve(context, ...answers, page, (response) => response.destroy(), stream(event(1)));
  const begun = performance.now();
  assert.deepEqual(sequences(await take(feed({}), 1)), [1]);
  assert.ok(performance.now() - begun > 990);
  assert.equal(asked.length, 5);
});

test("it connects again where a server is silent", async (context) => {
  const silent: Answer = () => undefined;
  const { asked, feed } = await serve(context, silent, stream("id: c0\n\n"), stream(event(1)));
  assert.deepEqual(sequences(await take(feed({ maxSilence: 200 }), 1)), [1]);
  assert.ok(asked.length >= 3);
});

test("what is refused for good is thrown, as a typed problem", async (context) => {
  const { asked, feed } = await serve(context, problem(400, "CursorRefused"));
  await assert.rejects(take(feed({}), 1), (error) => error instanceof ProblemError && error.type === "CursorRefused");
  assert.equal(asked.length, 1);
});

test("a feed that cannot go on says so", async (context) => {
  const { feed } = await serve(context, stream(event(1), 'event: problem\ndata: {"detail":"The log is not continuous."}\n\n'));
  const changes = feed({});
  assert.equal((await changes.next()).value?.event.sequence, 1);
  await assert.rejects(changes.next(), new FeedEnded("The log is not continuous."));
});

test("an API key with a line's end is not shown", async () => {
  const changes = follow({ url: "http://127.0.0.1:9", apiKey: "sb_secret\n" });
  await assert.rejects(changes.next(), (error) => error instanceof TypeError && !error.message.includes("secret"));
});

for (const how of ["break", "abort"] as const) {
  test(`${how} closes the connection and ends the loop`, async (context) => {
    let close: Promise<unknown> = Promise.reject(new Error("nobody has asked"));
    close.catch(() => undefined);
    const { feed } = await serve(context, (response, request) => {
      close = once(request.socket, "close");
      stream(event(1), event(2))(response, request);
    });
    const controller = new AbortController();
    const seen: Change[] = [];
    for await (const change of feed({ signal: controller.signal })) {
      seen.push(change);
      if (how === "break") {
        break;
      }
      controller.abort();
    }
    assert.deepEqual(sequences(seen), [1]);
    await close;
  });
}

test("a signal ends it while it waits for a change, and while it waits to connect again", async (context) => {
  const controller = new AbortController();
  const { feed } = await serve(context, stream(event(1)));
  const changes = feed({ signal: controller.signal });
  await changes.next();
  const waiting = changes.next();
  controller.abort();
  assert.equal((await waiting).done, true);

  const other = new AbortController();
  const refused = await serve(context, (response, request) => {
    problem(503, "Unavailable", { "Retry-After": "3600" })(response, request);
    response.on("close", () => setImmediate(() => other.abort()));
  });
  assert.equal((await refused.feed({ signal: other.signal }).next()).done, true);
});
