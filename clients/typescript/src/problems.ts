import type { components } from "./generated/openapi.ts";
import type { ProblemName } from "./generated/problem-names.ts";

/** An error as Switchboard answers it (RFC 9457). */
export type Problem = components["schemas"]["Problem"];

const PREFIX = "urn:switchboard:problem:";

/** Thrown where a request was answered with an error; `cause` is the answer's `Response`. */
export class ProblemError extends Error {
  override readonly name = "ProblemError";
  readonly problem: Problem;
  /** Seconds that the answer asks to wait, if it does. */
  readonly retryAfter: number | undefined;

  constructor(problem: Problem, response: Response) {
    super(`${problem.title} (${problem.status}): ${problem.detail}`, { cause: response });
    this.problem = problem;
    const seconds = response.headers.get("Retry-After");
    this.retryAfter = seconds !== null && /^\d+$/.test(seconds) ? Number(seconds) : undefined;
  }

  /** The problem's name, such as `ChannelUnknown`. New ones may come to be. */
  get type(): ProblemName | (string & {}) {
    const { type } = this.problem;
    return type.startsWith(PREFIX) ? type.slice(PREFIX.length) : type;
  }
}

/** The error of an answer. What is no problem, such as a proxy's page, becomes one of the type `about:blank`. */
export function problemError(body: unknown, response: Response): ProblemError {
  if (typeof body === "object" && body !== null && "type" in body && "detail" in body) {
    return new ProblemError(body as Problem, response);
  }
  const { status, statusText: title } = response;
  return new ProblemError({ type: "about:blank", title, status, detail: "The answer has no problem." }, response);
}
