// What every page does: times in the viewer's zone, parts that renew themselves, forms that are sent.
import { send } from "./sending.js";
import { renewLiveParts } from "./live.js";
import { showTimes } from "./times.js";

showTimes(document);
renewLiveParts();
send();
