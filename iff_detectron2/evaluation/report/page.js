"use strict";
// Reads the charts under the pointer, hides and shows series, plays clips, sorts tables. Everything that it
// writes is text; it loads nothing.
const tip = document.getElementById("tip");

function say(event, lines) {
  tip.replaceChildren(...lines.map((line) => {
    const row = document.createElement("div");
    row.textContent = line;
    return row;
  }));
  tip.hidden = !lines.length;
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  tip.style.left = `${Math.max(8, Math.min(event.clientX + 14, room))}px`;
  const below = event.clientY + 16;
  const fits = below + tip.offsetHeight < innerHeight;
  tip.style.top = `${fits ? below : Math.max(8, event.clientY - tip.offsetHeight - 12)}px`;
}

// The values of all lines of a panel where the pointer is; of many faint ones the nearest.
function read(svg, event) {
  const [left, right, bottom, top] = svg.dataset.frame.split(" ").map(Number);
  const [x0, x1, y0, y1] = svg.dataset.values.split(" ").map(Number);
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const lines = [...svg.querySelectorAll("polyline:not(.off)")];
  if (!lines.length || at.x < left - 4 || at.x > right + 4) return [];
  const readings = lines.flatMap((line) => {
    const points = [...line.points];
    if (!points.length) return [];
    const p = points.reduce((a, b) => (Math.abs(b.x - at.x) < Math.abs(a.x - at.x) ? b : a));
    const y = y0 + ((bottom - p.y) / (bottom - top)) * (y1 - y0);
    const x = x0 + ((p.x - left) / (right - left)) * (x1 - x0);
    return [{ x, y, text: `${line.dataset.name}: ${y.toFixed(1)}`, far: Math.abs(p.y - at.y),
      faint: line.classList.contains("faint") }];
  });
  if (!readings.length) return [];
  const faint = readings.filter((r) => r.faint).sort((a, b) => a.far - b.far).slice(0, 1);
  const shown = [...readings.filter((r) => !r.faint), ...faint];
  const digits = x1 - x0 > 10 ? 0 : 2;
  return [`${svg.dataset.x} ${shown[0].x.toFixed(digits)} - ${svg.dataset.y}`,
    ...shown.map((r) => r.text)];
}

function point(event) {
  if (!(event.target instanceof Element)) return;
  const told = event.target.closest("[data-tip]");
  const svg = event.target.closest("svg.panel");
  say(event, told ? [told.dataset.tip] : svg ? read(svg, event) : []);
}
document.addEventListener("pointermove", point);
document.addEventListener("pointerdown", point);
document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

for (const key of document.querySelectorAll("button.key")) {
  key.addEventListener("click", () => {
    const shown = key.getAttribute("aria-pressed") !== "true";
    key.setAttribute("aria-pressed", String(shown));
    const series = [...key.classList].find((name) => name !== "key");
    for (const part of key.closest(".chart").querySelectorAll(`.line.${series}, .bar.${series}`)) {
      part.classList.toggle("off", !shown);
    }
  });
}

// The browser's own controls would cover the picture.
for (const video of document.querySelectorAll("video")) {
  const place = video.parentNode;
  video.controls = false;
  video.tabIndex = 0;
  place.classList.add("ready");
  const toggle = () => (video.paused ? video.play() : video.pause());
  video.addEventListener("click", toggle);
  video.addEventListener("keydown", (event) => { if (event.key === "Enter") toggle(); });
  for (const change of ["play", "pause"]) {
    video.addEventListener(change, () => place.classList.toggle("playing", !video.paused));
  }
}

// A click on a head sorts by that column, a second one the other way round.
const number = (text) => {
  const value = Number.parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(value) ? null : value;
};
for (const head of document.querySelectorAll("table.sort th")) {
  const sort = () => {
    const down = head.getAttribute("aria-sort") !== "descending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = head.closest("table").tBodies[0];
    const column = head.cellIndex;
    const rows = [...body.rows].map((row) => ({ row, text: row.cells[column].textContent }));
    rows.sort((a, b) => {
      const [m, n] = [number(a.text), number(b.text)];
      if (m === null || n === null) return (m === null) - (n === null) || a.text.localeCompare(b.text);
      return down ? n - m : m - n;
    });
    body.append(...rows.map((entry) => entry.row));
  };
  head.tabIndex = 0;
  head.addEventListener("click", sort);
  head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
}
