import { authorization, type Connection } from "./connection.ts";
import type { operations } from "./generated/openapi.ts";
import type { Messages } from "./generated/messages.ts";
import { ProblemError, problemError } from "./problems.ts";
import { type Limit, serverSentEvents } from "./server-sent-events.ts";

/** Something that happened to a channel's settings. `type` tells them apart; new types may come to be. */
export type SwitchboardEvent = Messages["events"][keyof Messages["events"]];

export interface Change {
  event: SwitchboardEvent;
  /** The position after this event: store it once the event is processed, and follow from it later. */
  cursor: string;
}

/** Which changes, and from which `cursor`: of a change or a read, `beginning`, or `now`, which is the default. */
type Filter = Omit<NonNullable<operations["changes"]["parameters"]["query"]>, "limit" | "wait">;

export interface FollowOptions extends Filter {
  /** Ends the loop, also while it waits. */
  signal?: AbortSignal;
  /** The longest wait before a reconnection, in milliseconds; default 30,000. */
  maxBackoff?: number;
  /** After so many milliseconds in silence it connects again; default 45,000. A heartbeat comes every 15 s. */
  maxSilence?: number;
}

/** Thrown where the feed cannot go on from its cursor, or the API key is not valid any more. */
export class FeedEnded extends Error {
  override readonly name = "FeedEnded";
}

/**
 * Yields changes as they happen, each once, in order per channel. It reconnects by itself, from where it was, and ends
 * on `break`, on `return`, or with the signal. Throws a `ProblemError` where a request is refused for good.
 */
export async function* follow(connection: Connection, options: FollowOptions = {}): AsyncGenerator<Change, void> {
  const { signal = new AbortController().signal, maxBackoff = 30_000, maxSilence = 45_000, ...filter } = options;
  const url = new URL(`${connection.url.replace(/\/$/, "")}/v1/changes`);
  for (const [name, values] of Object.entries(filter)) {
    [values ?? []].flat().forEach((value) => url.searchParams.append(name, value));
  }
  const headers = new Headers({ Accept: "text/event-stream", ...authorization(connection) });
  let failures = 0;
  while (!signal.aborted) {
    const silence = new AbortController();
    /** Its other end may be gone without a word. */
    const limit: Limit = (promise) => {
      const timer = setTimeout(() => silence.abort(), maxSilence);
      return promise.finally(() => clearTimeout(timer));
    };
    let retryAfter = 0;
    try {
      const response = await limit(fetch(url, { headers, signal: AbortSignal.any([silence.signal, signal]) }));
      if (!response.ok || response.body === null) {
        throw problemError(await limit(response.json()).catch(() => undefined), response);
      }
      for await (const { id, event, data } of serverSentEvents(response.body, limit)) {
        failures = 0;
        signal.throwIfAborted();
        if (event === "problem") {
          throw new FeedEnded((JSON.parse(data) as { detail: string }).detail);
        }
        if (id !== undefined) {
          url.searchParams.set("cursor", id);
        }
        if (event === "message" && data && id !== undefined) {
          yield { event: JSON.parse(data) as SwitchboardEvent, cursor: id };
        }
      }
    } catch (error) {
      if (signal.aborted) {
        return;
      }
      // `fetch` and its streams fail with a TypeError where a connection does.
      const status = error instanceof ProblemError ? error.problem.status : 0;
      if (!(error instanceof TypeError || silence.signal.aborted || [408, 429].includes(status) || status >= 500)) {
        throw error;
      }
      retryAfter = error instanceof ProblemError ? (error.retryAfter ?? 0) * 1_000 : 0;
    }
    const backoff = Math.min(maxBackoff, 1_000 * 2 ** failures++);
    await sleep(Math.max(retryAfter, backoff * (0.5 + Math.random() / 2)), signal);
  }
}

function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal.addEventListener("abort", end);
  });
}
