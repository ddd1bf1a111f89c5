export interface ServerSentEvent {
  /** Undefined where the event has none of its own. */
  id: string | undefined;
  event: string;
  data: string;
}

/** What every wait for the other end goes through. */
export type Limit = <T>(promise: Promise<T>) => Promise<T>;

/** The events of a stream, also those without data. What is not ended by an empty line is no event. */
export async function* serverSentEvents(
  body: ReadableStream<Uint8Array>,
  limit: Limit,
): AsyncGenerator<ServerSentEvent, void> {
  const reader = body.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>).getReader();
  let rest = "";
  let fields: [string, string][] = [];
  try {
    for (let read = await limit(reader.read()); !read.done; read = await limit(reader.read())) {
      // A CR at the end may be the first half of a line's end.
      const lines = (rest + read.value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line === "") {
          const values = (wanted: string) => fields.filter(([name]) => name === wanted).map(([, value]) => value);
          yield { id: values("id").at(-1), event: values("event").at(-1) ?? "message", data: values("data").join("\n") };
          fields = [];
        } else {
          const [, name = "", value = ""] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
          fields.push([name, value]);
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined); // closes the connection, unless it has failed
  }
}
