// The page of a study: the way back to the list, the report as text, what a reader may say, a newer result.
const back = document.getElementById("back");
const came = document.referrer && new URL(document.referrer);
try {
  if (came && came.origin === location.origin && came.pathname === "/") sessionStorage.setItem("list", came.search);
  back.href = `/${sessionStorage.getItem("list") ?? ""}`;
} catch {
  // Storage may be forbidden; then the way back leads to the whole list.
}

document.getElementById("series-choice")?.addEventListener("change", (event) => event.target.form.requestSubmit());

const text = document.getElementById("report-text");
text?.addEventListener("toggle", async () => {
  if (!text.open || text.dataset.read) return;
  text.dataset.read = "yes";
  try {
    const answer = await fetch(text.dataset.address);
    if (!answer.ok || answer.redirected) throw new Error(answer.statusText);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    text.querySelector("p").replaceWith(page.getElementById("report"));
  } catch {
    delete text.dataset.read; // the link to it is still there
  }
});

const form = document.getElementById("feedback");
const remark = form?.elements.remark;
if (form) {
  const instead = form.querySelector(".instead");
  const follow = () => {
    if (!instead) {
      const chosen = form.querySelector("[name=value]:checked");
      if (chosen) form.elements.agreement.value = chosen.dataset.agreement;
      return;
    }
    const differs = form.elements.agreement.value === instead.dataset.if;
    instead.hidden = !differs;
    instead.querySelector("select").disabled = !differs;
  };
  form.addEventListener("change", follow);
  form.addEventListener("sent", () => {
    form.querySelector("button.main").textContent = "Replace what I said";
    remark.defaultValue = remark.value;
  });
  follow();
}

// The viewer shows the result that was there when the page was loaded.
const shown = document.querySelector("[data-result]").dataset.result;
document.getElementById("verdict").addEventListener("renewed", () => {
  const now = document.querySelector("[data-result]").dataset.result;
  if (now === shown) return;
  const isTyping = document.activeElement?.matches("textarea, select, input") || remark?.value !== remark?.defaultValue;
  if (isTyping) document.getElementById("newer").hidden = false;
  else location.reload();
});
