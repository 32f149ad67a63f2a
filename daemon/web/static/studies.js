// The table of studies: keys, filters that apply at once, export with its progress.
const search = document.getElementById("search");

search.addEventListener("change", (event) => event.target.matches("select") && search.requestSubmit());
search.addEventListener("submit", () => {
  // What is empty needs no place in the address; the fields come back when somebody goes back to the page.
  const empty = [...search.elements].filter((field) => field.name && !field.value);
  for (const field of empty) field.disabled = true;
  addEventListener("pagehide", () => empty.forEach((field) => (field.disabled = false)), { once: true });
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  if (event.key === "/") {
    event.preventDefault();
    search.elements.patient.select();
  }
  if (event.key === "j" || event.key === "k") step(event.key === "j" ? 1 : -1);
});

function step(by) {
  const links = [...document.querySelectorAll(".who a")];
  const at = links.indexOf(document.activeElement);
  links[Math.min(Math.max(at + by, 0), links.length - 1)]?.focus();
}

for (const link of document.querySelectorAll("[data-export]")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    take(link);
  });
}

async function take(link) {
  const place = document.getElementById("exporting");
  const [bar, told] = [place.querySelector("progress"), place.querySelector("output")];
  place.hidden = false;
  bar.removeAttribute("value");
  told.textContent = `${link.dataset.export} …`;
  try {
    const answer = await fetch(link.href);
    if (!answer.ok || answer.redirected) throw new Error("The export failed; load the page again.");
    const rows = Number(answer.headers.get("Lungnode-Rows"));
    const parts = await read(answer, (lines, bytes) => {
      const size = `${(bytes / 1e6).toFixed(1)} MB`;
      if (link.dataset.export !== "CSV") return (told.textContent = `${rows.toLocaleString("en")} rows, ${size}`);
      bar.max = rows + 1;
      bar.value = lines;
      told.textContent = `${Math.min(lines, rows).toLocaleString("en")} of ${rows.toLocaleString("en")} rows, ${size}`;
    });
    save(new Blob(parts), /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition"))[1]);
    told.textContent += ", saved.";
    bar.max = bar.value = 1;
  } catch (error) {
    told.textContent = error.message;
    bar.value = 0;
  }
}

async function read(answer, tell) {
  const parts = [];
  let [lines, bytes] = [0, 0];
  const reader = answer.body.getReader();
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    parts.push(value);
    bytes += value.length;
    for (const byte of value) lines += byte === 10;
    tell(lines, bytes);
  }
  return parts;
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
