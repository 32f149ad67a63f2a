// What every page does: times in the viewer's zone, parts that renew themselves, forms that are sent.
import { send } from "./sending.js";
import { renewLiveParts } from "./live.js";
import { showTimes } from "./times.js";

showTimes(document);
renewLiveParts();
send();
// On a phone the pages' names scroll; the one that is open is to be seen.
document.querySelector("nav [aria-current=page]")?.scrollIntoView({ block: "nearest", inline: "center" });
