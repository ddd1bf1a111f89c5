export interface Connection {
  /** Such as `https://switchboard.example`. */
  url: string;
  apiKey: string;
}

export function authorization({ apiKey }: Connection): { Authorization: string } {
  if (!/^[\x21-\x7e]+$/.test(apiKey)) {
    throw new TypeError("That is no API key."); // the error of `fetch` would show it
  }
  return { Authorization: `Bearer ${apiKey}` };
}
