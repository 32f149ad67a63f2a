// Times come in UTC and are shown in the zone of whoever looks; the title keeps UTC.
const MINUTE = 60;
const UNITS = [["day", 86400], ["hour", 3600], ["minute", MINUTE]];
const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

export function showTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime);
    if (Number.isNaN(at.valueOf())) continue;
    element.textContent = element.hasAttribute("data-ago") ? ago(at) : local(at, element.hasAttribute("data-seconds"));
  }
}

function local(at, seconds) {
  const two = (number) => String(number).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}${seconds ? `:${two(at.getSeconds())}` : ""}`;
}

function ago(at) {
  const seconds = (Date.now() - at.valueOf()) / 1000;
  if (Math.abs(seconds) < MINUTE) return "just now";
  const [unit, length] = UNITS.find(([, length]) => Math.abs(seconds) >= length);
  return words.format(-Math.round(seconds / length), unit);
}
