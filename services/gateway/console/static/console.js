// What plain links and forms cannot do: dialogs, copying, searching countries, announcements, local times. Without this
// file and htmx, every view still works.
"use strict";

document.documentElement.classList.add("scripted");
let opener = null;
let unfolded = [];
const asked = new WeakMap(); // what a form held when the server was asked for it anew

function prepare(root) {
  for (const dialog of root.querySelectorAll("dialog[data-modal]:not([open])")) dialog.showModal();
  for (const time of root.querySelectorAll("time:not([data-local])")) showLocalTime(time);
  for (const control of root.querySelectorAll("[data-reveals]")) reveal(control);
  for (const button of root.querySelectorAll("[data-needs]")) need(button);
}

function showLocalTime(time) {
  time.dataset.local = "";
  const moment = new Date(time.dateTime);
  if (moment.getTimezoneOffset() === 0) return;
  const local = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  time.textContent = `${local} (${time.textContent})`;
}

function reveal(control) {
  const other = document.getElementById(control.dataset.reveals);
  if (other && (control.checked || control.id !== "enabled")) other.hidden = !control.checked;
}

function need(button) {
  const field = document.getElementById(button.dataset.needs);
  button.disabled = field.value.trim() === "";
}

function announce(text, kind) {
  const line = document.createElement("p");
  line.textContent = text;
  line.className = kind;
  document.getElementById("announcements").append(line);
  setTimeout(() => line.remove(), kind === "error" ? 12_000 : 6_000);
}

function onAnnounce({ text, kind }) {
  if (kind !== "form-token") return announce(text, kind);
  for (const field of document.querySelectorAll("input[name=form_token]")) field.value = text;
  document.getElementById("log-on-place").replaceChildren();
  announce(document.body.dataset.loggedOn, "done");
}

function renewedBy(element) {
  return element.hasAttribute("hx-include") ? document.querySelector(element.getAttribute("hx-include")) : null;
}

function heldBy(element) {
  const form = renewedBy(element);
  return form ? new URLSearchParams(new FormData(form)).toString() : "";
}

function searchCountries(field) {
  const words = field.value.trim().toLowerCase();
  for (const region of field.closest("[data-countries]").querySelectorAll("[data-region]")) {
    let shown = 0;
    for (const item of region.querySelectorAll("li")) {
      item.hidden = !`${item.textContent} ${item.querySelector("input").value}`.toLowerCase().includes(words);
      shown += !item.hidden;
    }
    region.hidden = shown === 0;
  }
}

function showChosen(field) {
  const chosen = field.querySelector("[data-chosen]");
  chosen.replaceChildren(...[...field.querySelectorAll("input[name=countries]:checked")].map((box) => {
    const item = document.createElement("li");
    item.append(...[...box.parentElement.children].filter((part) => part !== box).map((part) => part.cloneNode(true)));
    return item;
  }));
}

function checkJson(area) {
  const text = area.value.trim();
  let problem = "";
  try {
    if (text) JSON.parse(text);
  } catch (error) {
    problem = error.message;
  }
  area.setCustomValidity(problem);
  if (text && !problem && document.activeElement !== area) area.value = JSON.stringify(JSON.parse(text), null, 2);
}

document.addEventListener("click", (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    const field = document.getElementById(copy.dataset.copy);
    field.select();
    const done = () => announce(document.body.dataset.copied, "done");
    if (navigator.clipboard) navigator.clipboard.writeText(field.value).then(done);
    else if (document.execCommand("copy")) done();
  }
  const all = event.target.closest("[data-region-toggle]");
  if (all) {
    const boxes = [...all.closest("[data-region]").querySelectorAll("li:not([hidden]) input")];
    const on = boxes.some((box) => !box.checked);
    for (const box of boxes) box.checked = on;
    showChosen(all.closest("[data-countries]"));
  }
  if (event.target.closest("[data-shortcuts]")) document.getElementById("shortcuts").showModal();
  if (event.target.closest("[hx-target='#dialog-place']") && !event.target.closest("dialog")) {
    opener = event.target.closest("a").id;
  }
});
// The palette: Ctrl+K opens it, the arrows choose, Enter takes the first.
document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k" && !document.querySelector("dialog[open]")) {
    event.preventDefault();
    document.querySelector("[data-palette]")?.click();
  }
  const palette = event.target.closest?.("#palette");
  if (palette && ["ArrowDown", "ArrowUp"].includes(event.key)) {
    event.preventDefault();
    const places = [palette.querySelector("[type=search]"), ...palette.querySelectorAll("li a")];
    const step = event.key === "ArrowDown" ? 1 : places.length - 1;
    places[(Math.max(places.indexOf(document.activeElement), 0) + step) % places.length].focus();
  }
});
// Single keys: off while something is typed, and for whoever switches them off.
const singleKeys = document.getElementById("single-keys");
singleKeys.checked = localStorage.getItem("single-keys") !== "off";
singleKeys.addEventListener("change", () => localStorage.setItem("single-keys", singleKeys.checked ? "on" : "off"));
let going = 0; // since when G is waiting for the key of a view
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, dialog");
  if (!singleKeys.checked || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  const view = Date.now() - going < 1_500 ? document.querySelector(`nav [data-key="${CSS.escape(key)}"]`) : null;
  going = key === "g" ? Date.now() : 0;
  const found = key === "/" ? document.querySelector("main [type=search]") : null;
  if (view) view.click();
  else if (found) found.focus();
  else if (key === "?") document.getElementById("shortcuts").showModal();
  else return;
  event.preventDefault();
});
document.addEventListener("submit", (event) => {
  const first = event.target.closest("#palette")?.querySelector("li a");
  if (first) {
    event.preventDefault();
    first.click();
  }
});
document.addEventListener("close", (event) => {
  if (event.target.parentElement?.id === "palette-place") event.target.remove();
}, true);
document.addEventListener("cancel", (event) => {
  const close = event.target.querySelector("[data-close], .actions a"); // none: it closes by itself
  if (close) {
    event.preventDefault();
    close.click();
  }
}, true);
document.addEventListener("input", (event) => {
  if (event.target.matches("[data-country-search]")) searchCountries(event.target);
  for (const button of document.querySelectorAll("[data-needs]")) need(button);
  if (event.target.matches("[data-sets]")) document.getElementById(event.target.dataset.sets).value = event.target.value;
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-reveals]")) reveal(event.target);
  if (event.target.matches("input[name=countries]")) showChosen(event.target.closest("[data-countries]"));
});
document.addEventListener("focusout", (event) => {
  if (event.target.matches("[data-json]")) setTimeout(() => checkJson(event.target));
});

document.addEventListener("announce", (event) => onAnnounce(event.detail));
document.addEventListener("htmx:sendError", () => announce(document.body.dataset.offline, "error"));
document.addEventListener("htmx:sseOpen", () => document.documentElement.toggleAttribute("data-live", true));
document.addEventListener("htmx:sseError", () => document.documentElement.removeAttribute("data-live"));
document.addEventListener("htmx:configRequest", (event) => {
  const cause = event.detail.triggeringEvent;
  if (cause?.type?.startsWith("sse:") && cause.detail?.data) {
    const { version } = JSON.parse(cause.detail.data);
    if (version) event.detail.path += `${event.detail.path.includes("?") ? "&" : "?"}min_version=${version}`;
  }
});
document.addEventListener("htmx:beforeRequest", ({ detail: { elt } }) => asked.set(elt, heldBy(elt)));
document.addEventListener("htmx:beforeSwap", (event) => {
  const { elt, triggeringEvent } = event.detail.requestConfig;
  if (triggeringEvent?.type.startsWith("sse:") && renewedBy(elt)?.classList.contains("htmx-request")) {
    event.detail.shouldSwap = false; // it is being saved, and its answer has what is new
    return;
  }
  if (asked.get(elt) !== heldBy(elt)) { // somebody went on meanwhile: ask again, with that
    event.detail.shouldSwap = false;
    setTimeout(() => htmx.trigger(elt, triggeringEvent.type, triggeringEvent.detail)); // once this request has ended
    return;
  }
  unfolded = [...event.detail.target.querySelectorAll("details[id][open]")].map((part) => part.id);
});
document.addEventListener("htmx:afterSettle", () => {
  prepare(document);
  for (const id of unfolded) document.getElementById(id)?.setAttribute("open", ""); // whoever is in it goes on there
  if (opener && !document.querySelector("dialog[open]")) {
    document.getElementById(opener)?.focus();
    opener = null;
  }
});
prepare(document);
if (document.querySelector("dialog[open]")) scrollTo(0, 0); // the page behind it was scrolled to the field with the focus
