// Uploads: files are dropped or chosen, sent with their progress, waited for, and answered on the same page.
import { token } from "./sending.js";
import { showTimes } from "./times.js";

const API = "/api/v1/uploads";
const PHASES = { decode: "slices read", predict: "slices classified" };
const [drop, chosen, place, problem, answer] = ["drop", "files", "under-way", "problem", "answer"].map((id) =>
  document.getElementById(id),
);
const [bar, told] = [place.querySelector("progress"), place.querySelector("output")];

chosen.addEventListener("change", () => take([...chosen.files]));
for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => over(event, true));
for (const name of ["dragleave", "drop"]) drop.addEventListener(name, (event) => over(event, false));
drop.addEventListener("drop", async (event) => take(await filesOf(event.dataTransfer)));
// What is dropped beside the field must not make the browser leave the page.
for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());

function over(event, is) {
  event.preventDefault();
  drop.classList.toggle("over", is);
}

// A folder is dropped as an entry that lists what is in it.
async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  return entries.length ? (await Promise.all(entries.map(walk))).flat() : [...transfer.files];
}

async function walk(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const [reader, found] = [entry.createReader(), []];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return (await Promise.all(found.map(walk))).flat();
    found.push(...some);
  }
}

async function take(files) {
  if (!files.length || drop.classList.contains("busy")) return;
  problem.textContent = "";
  drop.classList.add("busy");
  chosen.disabled = true;
  place.hidden = false;
  try {
    let upload = await post(files);
    while (upload.state === "queued" || upload.state === "running") {
      follow(upload);
      upload = await ask(`${API}/${upload.key}?wait_s=0.5`);
    }
    await show(upload.key);
  } catch (error) {
    problem.textContent = error.message;
  } finally {
    place.hidden = true;
    drop.classList.remove("busy");
    chosen.disabled = false;
    chosen.value = "";
  }
}

// XMLHttpRequest, because fetch does not tell how much has been sent.
function post(files) {
  const form = new FormData();
  for (const file of files) form.append("files", file, file.name);
  const size = files.reduce((sum, file) => sum + file.size, 0);
  if (size > Number(document.getElementById("upload").dataset.most)) throw new Error("That is too much for one upload.");
  const sending = new XMLHttpRequest();
  sending.upload.addEventListener("progress", (event) => {
    say(event.loaded, event.total, `${mega(event.loaded)} of ${mega(event.total)} MB sent`);
  });
  sending.upload.addEventListener("load", () => say(0, 0, "Sent; it is being unpacked …"));
  return new Promise((resolve, reject) => {
    sending.addEventListener("load", () => settle(sending.status, sending.responseText, resolve, reject));
    sending.addEventListener("error", () => reject(new Error("The node cannot be reached. Nothing was uploaded.")));
    sending.open("POST", `${API}?wait_s=1`);
    sending.setRequestHeader("X-CSRF-Token", token());
    say(0, 1, "Sending …");
    sending.send(form);
  });
}

function settle(status, text, resolve, reject) {
  let document = {};
  try {
    document = JSON.parse(text);
  } catch {
    // A proxy may have answered in its own words.
  }
  if (status < 400 && document.key) resolve(document);
  else reject(new Error(document.detail ?? `The node answered ${status}.`));
}

async function ask(address) {
  const response = await fetch(address);
  const text = await response.text();
  return new Promise((resolve, reject) => settle(response.status, text, resolve, reject));
}

function follow(upload) {
  const { phase, done, total } = upload.progress;
  if (upload.state === "queued") say(0, 0, "It waits for a worker …");
  else if (PHASES[phase]) say(done, total, `${done} of ${total} ${PHASES[phase]}`);
  else say(0, 0, "At work …");
}

function say(done, total, words) {
  if (total) [bar.max, bar.value] = [total, done];
  else bar.removeAttribute("value");
  told.textContent = words;
}

const mega = (bytes) => (bytes / 1e6).toFixed(1);

async function show(key) {
  const response = await fetch(`/upload/${key}`);
  if (!response.ok || response.redirected) return location.assign(`/upload/${key}`);
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  history.replaceState(null, "", `/upload/${key}`);
  answer.replaceChildren(...page.getElementById("answer").childNodes);
  document.getElementById("uploads").replaceChildren(...page.getElementById("uploads").childNodes);
  showTimes(document);
  answer.querySelector(".strip [aria-pressed=true]")?.scrollIntoView({ block: "nearest", inline: "center" });
  answer.scrollIntoView();
}

// A heatmap of the strip takes the place of the large one.
answer.addEventListener("click", (event) => {
  const button = event.target.closest(".strip button");
  if (!button) return;
  const figure = button.closest("figure");
  for (const each of figure.querySelectorAll(".strip button")) each.setAttribute("aria-pressed", each === button);
  const large = figure.querySelector(".shown img");
  large.src = button.querySelector("img").src;
  large.alt = `Heatmap: ${button.dataset.words}`;
  figure.querySelector("figcaption").textContent = button.dataset.words;
});
