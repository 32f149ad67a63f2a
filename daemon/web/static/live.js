// Parts of a page with `data-live` renew themselves: the same page is asked for, and what changed is exchanged.
// Asking does not keep the session alive; when it has ended, the page leads to the sign-in and shows nothing more.
import { showTimes } from "./times.js";

const EVERY_MS = 5000;
const SLOWEST_MS = 60000;
const shown = new Map(); // what the server sent, by the part's id
let pause = EVERY_MS;
let timer;

export function renewLiveParts() {
  const parts = document.querySelectorAll("[data-live]");
  if (!parts.length) return;
  for (const part of parts) shown.set(part.id, part.innerHTML);
  const again = () => {
    clearTimeout(timer);
    timer = setTimeout(() => renew().finally(again), pause);
  };
  document.addEventListener("visibilitychange", () => document.hidden || renew().finally(again));
  again();
}

export async function renew() {
  if (document.hidden) return;
  let answer;
  try {
    answer = await fetch(location.href, { headers: { "Lungnode-Poll": "1" } });
  } catch {
    answer = { ok: false };
  }
  if (answer.redirected) location.reload();
  pause = answer.ok ? EVERY_MS : Math.min(2 * pause, SLOWEST_MS);
  document.documentElement.classList.toggle("lost", !answer.ok);
  if (answer.ok && !answer.redirected) exchange(new DOMParser().parseFromString(await answer.text(), "text/html"));
}

function exchange(page) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(part.id);
    if (!fresh || fresh.innerHTML === shown.get(part.id) || isInUse(part)) continue;
    shown.set(part.id, fresh.innerHTML);
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    const open = [...part.querySelectorAll("details[open]")].map((each) => each.id);
    part.replaceChildren(...fresh.childNodes);
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    showTimes(part);
    part.dispatchEvent(new CustomEvent("renewed", { bubbles: true }));
  }
}

// Nobody is to lose what is being typed or selected.
function isInUse(part) {
  const selection = getSelection();
  const selects = !selection.isCollapsed && part.contains(selection.anchorNode);
  return selects || (part.contains(document.activeElement) && document.activeElement.matches("input, textarea, select"));
}
