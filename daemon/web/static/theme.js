// Light, dark, or as the system has it. Loaded before the page is painted, so that nothing flashes.
{
  const choices = ["system", "light", "dark"];
  let chosen = "system";
  try {
    chosen = localStorage.getItem("theme") ?? "system";
  } catch {
    // Storage may be forbidden; then the choice lasts as long as the page.
  }
  const show = () => {
    document.documentElement.dataset.theme = chosen;
    const button = document.getElementById("theme");
    if (button) {
      button.hidden = false;
      button.title = `Colours: ${chosen}`;
      button.querySelector("span").textContent = `Colours: ${chosen}. Change`;
    }
  };
  show();
  document.addEventListener("DOMContentLoaded", () => {
    show();
    document.getElementById("theme").addEventListener("click", () => {
      chosen = choices[(choices.indexOf(chosen) + 1) % choices.length];
      try {
        localStorage.setItem("theme", chosen);
      } catch {
        // As above.
      }
      show();
    });
  });
}
