/** The client, which knows what it has done: an operation counts once it was answered with success. */
import { createSwitchboard } from "../../src/index.ts";
import { apiKey, url } from "../installation.ts";

interface Operation {
  operationId: string;
  parameters?: { name: string; in: "path" | "query" | "header" }[];
}

const served = (await (await fetch(`${url}/openapi.json`)).json()) as { paths: Record<string, Record<string, Operation>> };

/** Of the document that the installation serves. */
export const operations = Object.entries(served.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, ...operation })),
);

export const done = new Set<string>();

/** Each request is about the account, unless its key is the account's. */
export function client(account: string, key = apiKey) {
  const api = createSwitchboard({ url, apiKey: key });
  api.use({
    onRequest({ request }) {
      if (key === apiKey) {
        request.headers.set("Switchboard-Account", account);
      }
    },
    onResponse({ request, response, schemaPath }) {
      if (response.ok) {
        const called = operations.find(({ method, path }) => method === request.method && path === schemaPath);
        done.add(called?.operationId ?? schemaPath);
      }
    },
  });
  return api;
}
