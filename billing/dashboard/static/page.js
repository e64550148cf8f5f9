// Keeps the first page fresh, copies ids, and signs in from a link of the terminal. Without it every page works as it is.
"use strict";

const INTERVAL_MS = 2000;
const TIMEOUT_MS = 10000;
const state = document.documentElement.dataset;

// Changes `from` into `to`, touching only what differs, so that a selection in an untouched row stays.
function morph(from, to) {
  if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName) {
    from.replaceWith(to);
  } else if (from.nodeType === Node.ELEMENT_NODE) {
    for (const { name } of [...from.attributes]) if (!to.hasAttribute(name)) from.removeAttribute(name);
    for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
    morphChildren(from, to);
  } else if (from.data !== to.data) {
    from.data = to.data;
  }
}

// Children with a key are matched by it, all others by their place.
function morphChildren(from, to) {
  const keyed = new Map([...from.children].filter((child) => child.dataset.key).map((child) => [child.dataset.key, child]));
  let at = from.firstChild;
  for (const next of [...to.childNodes]) {
    const key = next.dataset?.key;
    const match = key ? keyed.get(key) : at?.dataset?.key ? null : at;
    if (!match) {
      if (key) next.classList.add("new");
      from.insertBefore(next, at);
      continue;
    }
    if (match === at) at = at.nextSibling;
    else from.insertBefore(match, at);
    morph(match, next);
  }
  while (at) {
    const after = at.nextSibling;
    at.remove();
    at = after;
  }
}

async function refresh() {
  const reply = await fetch(location.pathname, { redirect: "manual", signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (reply.type === "opaqueredirect") return location.reload(); // signed out meanwhile
  if (!reply.ok) throw new Error(`status ${reply.status}`);
  const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
  for (const place of ["#live", "#content"]) morph(document.querySelector(place), fresh.querySelector(place));
}

// One refresh after the other; none while nobody looks.
async function live() {
  for (;;) {
    await new Promise((wake) => setTimeout(wake, INTERVAL_MS));
    if (document.hidden) await new Promise((wake) => document.addEventListener("visibilitychange", wake, { once: true }));
    try {
      await refresh();
      state.live = "on";
    } catch {
      state.live = "off";
    }
  }
}

// A link of the terminal carries the token behind the #, which is sent to no server; it leaves the address at once.
function signInByLink() {
  const form = document.getElementById("sign-in");
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  history.replaceState(null, "", location.pathname + location.search);
  if (!form) return;
  form.elements.token.value = token;
  form.requestSubmit();
}

document.addEventListener("click", async ({ target }) => {
  const button = target.closest?.("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  button.classList.add("done");
  setTimeout(() => button.classList.remove("done"), 1200);
});

if (navigator.clipboard) state.copy = "on"; // only where the page comes from this machine or by https
addEventListener("hashchange", signInByLink);
signInByLink();
if ("live" in document.body.dataset) {
  state.live = "on";
  live();
}
