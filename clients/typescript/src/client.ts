import createClient, { type Client } from "openapi-fetch";

import { authorization, type Connection } from "./connection.ts";
import type { paths } from "./generated/openapi.ts";
import { problemError } from "./problems.ts";

/** Every operation of the HTTP API, typed. An answer has `data`, or `error`: a `Problem`. See `unwrap`. */
export function createSwitchboard(connection: Connection): Client<paths> {
  return createClient<paths>({ baseUrl: connection.url, headers: authorization(connection) });
}

/** The `data` of an answer. Throws a `ProblemError` where there is an error. */
export async function unwrap<Answer extends { data?: unknown; error?: unknown; response: Response }>(
  call: Promise<Answer>,
): Promise<Exclude<Answer["data"], undefined>> {
  const { data, error, response } = await call;
  if (!response.ok) {
    throw problemError(error, response);
  }
  return data as Exclude<Answer["data"], undefined>;
}
