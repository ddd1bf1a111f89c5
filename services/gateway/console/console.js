// The console shows what the read model has. Text from the API only ever becomes text nodes.

const KEY = "switchboard.api-key";
const CHANNEL_TYPES = {
  whatsapp: "WhatsApp", viber: "Viber", messenger: "Messenger", instagram: "Instagram", telegram: "Telegram", line: "LINE",
};
const STYLES = { "standard-webhooks": "Standard Webhooks", "plain-token": "Plain token" };
const countryNames = new Intl.DisplayNames(["en"], { type: "region" });
const at = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(attribute, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== undefined && child !== null));
  return made;
}

class Refused extends Error {}

async function get(path) {
  let response;
  try {
    response = await fetch(`/v1${path}`, { headers: { Authorization: `Bearer ${sessionStorage.getItem(KEY)}` } });
  } catch {
    throw new Error("The server does not answer. Is it running?");
  }
  const body = await response.json().catch(() => ({}));
  if (response.status === 401) throw new Refused("This API key is not valid, or was revoked.");
  if (!response.ok) throw new Error(body.detail ?? `The server answered ${response.status}.`);
  return body;
}

const state = (text, kind) => element("span", { class: `state ${kind}` }, text);
const onOff = (on) => state(on ? "On" : "Off", on ? "on" : "off");
const time = (text) => element("time", { datetime: text }, new Date(text).toLocaleString());

function card(title, badge, ...children) {
  return element("article", { class: "card" }, element("header", {}, element("h3", {}, title), badge), ...children);
}

function definitions(pairs) {
  return element("dl", {}, ...pairs.flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, value)]));
}

function table(caption, heads, rows) {
  return element("div", { class: "wide" }, element("table", { "aria-label": caption },
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, cell)))))));
}

function signatureRow(signature) {
  const ends = signature.valid_until;
  return [
    element("code", {}, signature.key_id), element("code", {}, signature.fingerprint), time(signature.issued_at),
    ends ? element("span", {}, state("Grace period", "warn"), " until ", time(ends)) : state("Current", "on"),
  ];
}

function intentRow(intent) {
  const data = element("code", {}, JSON.stringify(intent.default_data));
  return [element("code", {}, intent.code), intent.name, data, intent.templates.length ? intent.templates.join(", ") : "–"];
}

function businessSystem(system) {
  const badge = system.disabled ? state("Disabled", "warn") : state("Open", "on");
  return card(`${system.name}`, badge,
    definitions([
      ["System id", element("code", {}, system.system)],
      ["API Request URL", element("code", {}, system.api_request_url)],
      ["Signature style", STYLES[system.signature_style] ?? system.signature_style],
      ["Remarks", system.remarks || "–"],
    ]),
    table("Signatures", ["Signature", "Fingerprint", "Issued", "State"], system.signatures.map(signatureRow)),
    system.intents.length
      ? table("Intents", ["Intent Code", "Intent Name", "Default Intent Data", "Templates"], system.intents.map(intentRow))
      : element("p", { class: "empty" }, "No intents yet."));
}

function flag(code) {
  return String.fromCodePoint(...[...code].map((letter) => 0x1f1e6 + letter.charCodeAt(0) - 65));
}

function otpScheduling(settings) {
  const form = settings.otp_scheduling;
  if (settings.channel_type !== "whatsapp") {
    return card("OTP delivery scheduling", state("Not available", "off"),
      element("p", { class: "empty" }, "Only WhatsApp channels can use it."));
  }
  const fallback = form.use_own_numbers
    ? "On: without scheduling resources, your own numbers send, which may incur international authentication rates."
    : "Off: without scheduling resources, the sending fails.";
  return card("OTP delivery scheduling", onOff(form.enabled),
    form.countries.length
      ? element("ul", { class: "countries", "aria-label": "Countries Using Scheduling" },
          ...form.countries.map((code) => element("li", {}, `${flag(code)} ${countryNames.of(code)}`)))
      : element("p", { class: "empty" }, "No countries chosen."),
    definitions([["Use Own Numbers", fallback]]));
}

function show(settings) {
  const systems = settings.business_systems;
  at("settings").replaceChildren(
    element("div", { class: "title" },
      element("h1", {}, settings.name),
      element("span", { class: "quiet" },
        `${CHANNEL_TYPES[settings.channel_type] ?? settings.channel_type} · ${settings.channel} · account ${settings.account} · version ${settings.version}`),
      settings.retired ? state("Retired", "warn") : undefined),
    element("h2", {}, "Business systems"),
    ...(systems.length ? systems.map(businessSystem)
      : [element("p", { class: "card empty" }, "No business system is open on this channel.")]),
    element("h2", {}, "Messages"),
    card("Activate SMS", onOff(settings.sms.enabled),
      element("p", { class: "empty" }, settings.sms.enabled
        ? "SMS fallback may be used by WhatsApp and Viber messages." : "No SMS fallback can happen while this is off.")),
    otpScheduling(settings));
}

async function showChannel() {
  const channel = decodeURIComponent(location.hash.slice(1));
  for (const link of at("channels").querySelectorAll("a")) {
    link.toggleAttribute("aria-current", link.hash === location.hash);
  }
  if (!channel) return;
  at("settings").replaceChildren(element("p", { class: "empty" }, "Loading…"));
  try {
    show(await get(`/channels/${encodeURIComponent(channel)}/settings`));
  } catch (error) {
    fail(error);
  }
}

async function listChannels(after = "") {
  const page = await get(`/channels?limit=100&after=${encodeURIComponent(after)}`);
  at("channels").append(...page.channels.map((channel) => element("li", {},
    element("a", { href: `#${encodeURIComponent(channel.channel)}` }, channel.name, element("br"),
      element("small", {}, `${CHANNEL_TYPES[channel.channel_type] ?? channel.channel_type} · ${channel.channel}${channel.retired ? " · retired" : ""}`)))));
  at("more").hidden = page.next === null;
  at("more").onclick = () => listChannels(page.next).catch(fail);
  return page.channels;
}

function fail(error) {
  if (error instanceof Refused) return enter(error.message);
  at("settings").replaceChildren(element("p", { class: "card error", role: "alert" }, error.message));
}

function enter(problem = "") {
  sessionStorage.removeItem(KEY);
  at("work").hidden = at("leave").hidden = true;
  at("enter").hidden = false;
  at("refused").textContent = problem;
  at("key").focus();
}

async function start() {
  if (!sessionStorage.getItem(KEY)) return enter();
  at("enter").hidden = true;
  at("work").hidden = at("leave").hidden = false;
  at("channels").replaceChildren();
  at("settings").replaceChildren();
  try {
    const channels = await listChannels();
    if (!channels.length) {
      at("settings").replaceChildren(element("p", { class: "card empty" }, "No channels yet. The platform registers them."));
    } else if (!location.hash) {
      location.hash = encodeURIComponent(channels[0].channel);
    } else {
      await showChannel();
    }
  } catch (error) {
    fail(error);
  }
}

at("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, at("key").value.trim());
  at("key").value = "";
  start();
});
at("leave").addEventListener("click", () => enter());
addEventListener("hashchange", showChannel);
start();
