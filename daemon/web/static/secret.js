// A secret that an answer holds is shown once, in the form that asked for it, until the page is left.
document.addEventListener("sent", (event) => {
  const place = event.target.querySelector("[data-secret]");
  if (!place || !event.detail.secret) return;
  place.querySelector("code").textContent = event.detail.secret;
  place.hidden = false;
});

document.addEventListener("click", async (event) => {
  const place = event.target.closest("[data-secret]");
  if (!place || !event.target.matches("button")) return;
  const code = place.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    event.target.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code); // without TLS a page may not write there
  }
});
