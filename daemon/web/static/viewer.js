// The viewer: slices from DICOMweb with the heatmap above, and the probabilities below as the scroll bar.
// Neighbours are loaded ahead, so that scrolling shows what is there already.
const viewer = document.getElementById("viewer");
if (viewer) start(viewer);

function start(viewer) {
  const AHEAD = 12; // slices in the direction of the last step; a third of it behind
  const AT_ONCE = 3;
  const PAGE = 10;
  const slices = JSON.parse(viewer.dataset.slices);
  const [course, cursor, stage] = ["course", "cursor", "stage"].map((id) => document.getElementById(id));
  const [below, above] = ["slice", "heatmap"].map((id) => document.getElementById(id));
  const [told, trouble, opacity] = ["told", "trouble", "opacity"].map((id) => document.getElementById(id));
  const pictures = new Map(); // address: image; loaded ones have `ready`
  let [at, way, windowed, under_way] = [Number(viewer.dataset.first), 1, "-600,1500", 0];

  const sliceOf = (n) => {
    const [uid, frame] = slices[n];
    return `${viewer.dataset.base}${uid}${frame ? `/frames/${frame}` : ""}/rendered?window=${windowed}`;
  };
  const heatmapOf = (n) => (viewer.dataset.heatmaps && slices[n][3] ? `${viewer.dataset.heatmaps}${slices[n][3]}.png` : "");
  const isPainted = () => opacity && opacity.value !== "0";

  function* wanted() {
    const near = [at];
    for (let by = 1; by <= AHEAD; by++) {
      near.push(at + way * by);
      if (by % 3 === 0) near.push(at - (way * by) / 3);
    }
    for (const n of near) {
      if (n < 0 || n >= slices.length) continue;
      yield sliceOf(n);
      if (isPainted() && heatmapOf(n)) yield heatmapOf(n);
    }
  }

  function load() {
    for (const address of wanted()) {
      if (under_way >= AT_ONCE) return;
      if (pictures.has(address)) continue;
      const picture = new Image();
      picture.decoding = "async";
      pictures.set(address, picture);
      under_way++;
      picture.src = address;
      picture
        .decode()
        .then(() => (picture.ready = true))
        .catch(() => (picture.failed = true))
        .finally(() => {
          under_way--;
          show();
        });
    }
  }

  function show() {
    put(below, sliceOf(at), `Slice ${at + 1} of ${slices.length}`);
    put(above, isPainted() ? heatmapOf(at) : "", "");
    const { ready, failed } = pictures.get(sliceOf(at)) ?? {};
    stage.classList.toggle("waiting", !ready && !failed);
    trouble.textContent = failed ? "This slice cannot be shown." : "";
    load();
  }

  function put(layer, address, alt) {
    const picture = pictures.get(address);
    if (layer.dataset.shows === address && layer.firstChild) return;
    // Until a slice is there, the one before stays; colours of another slice do not.
    if (!picture?.ready) return layer === above || picture?.failed ? layer.replaceChildren() : undefined;
    picture.alt = alt;
    layer.dataset.shows = address;
    layer.replaceChildren(picture);
  }

  function tell() {
    const [, , probability] = slices[at];
    const words = probability === null ? "not analysed" : `probability ${probability.toFixed(2)}`;
    told.textContent = `${at + 1} / ${slices.length}${probability === null ? "" : `   ${probability.toFixed(2)}`}`;
    course.setAttribute("aria-valuenow", at + 1);
    course.setAttribute("aria-valuetext", `${at + 1} of ${slices.length}, ${words}`);
    cursor.setAttribute("x", at);
  }

  function go(n) {
    const next = Math.min(Math.max(n, 0), slices.length - 1);
    if (next === at) return;
    way = next > at ? 1 : -1;
    at = next;
    tell();
    show();
  }

  // Keys, where the image or the course has the focus.
  const steps = {
    ArrowDown: () => at + 1, ArrowRight: () => at + 1, ArrowUp: () => at - 1, ArrowLeft: () => at - 1,
    PageDown: () => at + PAGE, PageUp: () => at - PAGE, Home: () => 0, End: () => slices.length - 1,
  };
  course.addEventListener("keydown", (event) => {
    if (!steps[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    go(steps[event.key]());
  });

  // The wheel: a notch is a slice; a touchpad's small steps are added up.
  let turned = 0;
  stage.addEventListener("wheel", (event) => {
    if (event.ctrlKey) return; // which zooms the page
    event.preventDefault();
    const notch = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 50 : 1;
    turned += event.deltaY / notch;
    const whole = Math.abs(event.deltaY) >= notch ? Math.sign(turned) : Math.trunc(turned);
    if (!whole) return;
    turned = 0;
    go(at + whole);
  }, { passive: false });

  // Dragging sideways over the image; up and down the page scrolls.
  let held = null;
  stage.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    course.focus({ preventScroll: true });
    held = { x: event.clientX, at };
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!held) return;
    const width = Math.max(4, Math.min(16, stage.clientWidth / slices.length));
    go(held.at + Math.round((event.clientX - held.x) / width));
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => (held = null));
  stage.addEventListener("mousedown", (event) => event.preventDefault()); // or the focus would leave the course

  // The course is a scroll bar.
  const pick = (event) => {
    const box = course.getBoundingClientRect();
    go(Math.floor(((event.clientX - box.left) / box.width) * slices.length));
  };
  course.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    course.setPointerCapture(event.pointerId);
    pick(event);
  });
  course.addEventListener("pointermove", (event) => event.buttons && pick(event));

  for (const button of viewer.querySelectorAll("[data-window]")) {
    button.addEventListener("click", () => {
      for (const each of viewer.querySelectorAll("[data-window]")) each.setAttribute("aria-pressed", each === button);
      windowed = button.dataset.window;
      document.getElementById("window-told").textContent = button.dataset.name;
      show();
    });
  }

  opacity?.addEventListener("input", paint);
  function paint() {
    above.style.opacity = opacity.value / 100;
    document.getElementById("opacity-told").textContent = `${opacity.value} %`;
    show();
  }

  tell();
  if (opacity) paint();
  else show();
}
