// Forms with `data-send` (a method) go to the REST interface as JSON, with the page's token against forgery.
//   data-confirm  a question that is asked first; data-yes, the word that says yes
//   data-done     what is said when it worked
//   data-then     an address to go to; without it the live parts are renewed
//   method        "dialog": before this script is there, nothing is sent, instead of a form to REST
// A field's name is the document's key; data-as: number, boolean, list; an empty field is left out.
import { renew } from "./live.js";

export function send() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.dataset.send) return;
    event.preventDefault();
    submit(form, event.submitter);
  });
}

export function token() {
  return document.querySelector("meta[name=csrf-token]")?.content ?? "";
}

export function say(text) {
  const toast = document.getElementById("said");
  toast.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (toast.textContent = ""), 6000);
}

// Returns the answer's document; throws an Error with the problem's sentence.
export async function request(method, address, document) {
  const headers = { "X-CSRF-Token": token() };
  if (document !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(address, { method, headers, body: document === undefined ? undefined : JSON.stringify(document) });
  } catch {
    throw new Error("The node cannot be reached. Nothing was changed.");
  }
  const text = await answer.text();
  const told = text && answer.headers.get("Content-Type")?.includes("json") ? JSON.parse(text) : {};
  if (!answer.ok) throw new Error(sentence(told, answer.status));
  return told;
}

function sentence(problem, status) {
  const wrong = (problem.errors ?? []).map((each) => `${each.where.replace(/^body\./, "")}: ${each.what}.`);
  return [problem.detail ?? `The node answered ${status}.`, ...wrong].join(" ");
}

async function submit(form, button) {
  if (form.dataset.confirm && !(await confirmed(form.dataset.confirm, form.dataset.yes ?? "Yes"))) return;
  const alert = form.querySelector("[role=alert]");
  if (alert) alert.textContent = "";
  button?.setAttribute("aria-busy", "true");
  try {
    const told = await request(form.dataset.send, form.getAttribute("action"), read(form, button));
    if (form.dataset.then) return location.assign(form.dataset.then);
    if (form.dataset.done) say(form.dataset.done);
    form.dispatchEvent(new CustomEvent("sent", { bubbles: true, detail: told }));
    if (form.hasAttribute("data-reset")) form.reset();
    document.activeElement?.blur();
    await renew();
  } catch (error) {
    if (alert) alert.textContent = error.message;
    else say(error.message);
  } finally {
    button?.removeAttribute("aria-busy");
  }
}

function read(form, button) {
  const document = {};
  for (const field of form.elements) {
    if (!field.name || field.disabled || (field.type === "submit" && field !== button)) continue;
    if (field.type === "radio" && !field.checked) continue;
    const kind = field.dataset.as;
    if (kind === "list") document[field.name] = [...(document[field.name] ?? []), ...(field.checked ? [field.value] : [])];
    else if (kind === "boolean") document[field.name] = field.type === "checkbox" ? field.checked : field.value === "true";
    else if (kind === "number" && field.value) document[field.name] = Number(field.value);
    else if (field.value) document[field.name] = field.value;
  }
  return Object.keys(document).length ? document : form.hasAttribute("data-empty") ? undefined : {};
}

function confirmed(question, yes) {
  const dialog = document.getElementById("confirm");
  dialog.querySelector("p").textContent = question;
  dialog.querySelector("button[value=yes]").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}
