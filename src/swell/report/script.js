"use strict";
// Tables: a click on a heading sorts by its column, up, down, and back to the order of the page.
const sortValue = (cell) => {
  if (!cell) return null;
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  const text = cell.textContent.trim();
  if (text === "–" || text === "") return null;
  const number = /^[+−-]?[\d.,]+/.exec(text);
  return number ? Number(number[0].replace("−", "-").replaceAll(",", "")) : text;
};
const compareValues = (a, b) =>
  typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });

for (const table of document.querySelectorAll("main table")) {
  const heads = [...table.tHead.rows[0].cells];
  const bodies = [...table.tBodies].map((body) => ({ body, rows: [...body.rows].filter((row) => row.className !== "group") }));
  if (bodies.every(({ rows }) => rows.length < 2)) continue;
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.classList.contains("number") ? "descending" : "ascending";
      const second = first === "ascending" ? "descending" : "ascending";
      const now = head.getAttribute("aria-sort");
      const next = now === first ? second : now === second ? null : first;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next);
      const sign = next === "descending" ? -1 : 1;
      for (const { body, rows } of bodies) {
        const known = rows.map((row, place) => ({ row, place, value: sortValue(row.cells[column]) }));
        if (next) {
          known.sort((a, b) => {
            if (a.value === null || b.value === null) return (a.value === null) - (b.value === null) || a.place - b.place;
            return sign * compareValues(a.value, b.value) || a.place - b.place;
          });
        }
        body.append(...known.map(({ row }) => row));
      }
    });
  });
}

// Legends: pointing at an entry lights its line or dots; pressing keeps them lit. `light(i)` is told -1 for all. Returns
// what lets go of a pressed one.
const legend = (buttons, light) => {
  let pinned = -1;
  buttons.forEach((button, i) => {
    button.addEventListener("mouseenter", () => light(i));
    button.addEventListener("mouseleave", () => light(pinned));
    button.addEventListener("click", () => {
      pinned = pinned === i ? -1 : i;
      buttons.forEach((other, k) => other.setAttribute("aria-pressed", String(k === pinned)));
      light(pinned);
    });
  });
  return () => {
    pinned = -1;
    buttons.forEach((button) => button.setAttribute("aria-pressed", "false"));
  };
};

const told = (value) => {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(2).replace("e+", "e");
  return value.toLocaleString("en", { maximumSignificantDigits: 4 });
};

// A tip stands beside (x, y) of its frame, above where there is room, never outside.
const putTip = (tip, frame, x, y) => {
  const left = Math.min(Math.max(x - tip.offsetWidth / 2, 0), Math.max(frame.clientWidth - tip.offsetWidth, 0));
  const above = y - tip.offsetHeight - 14;
  tip.style.transform = `translate(${left}px, ${above >= 0 ? above : y + 14}px)`;
};

// Charts: the values nearest to the pointer, the finger or the arrow keys.
const readChart = (figure) => {
  const reader = figure.querySelector(".reader");
  const marks = figure.querySelectorAll(".mark");
  const drawing = figure.querySelector("svg");
  legend([...figure.querySelectorAll(".legend button")], (i) => {
    drawing.classList.toggle("faded", i >= 0);
    marks.forEach((mark, k) => mark.classList.toggle("lit", k === i));
  });
  if (!reader) return;
  const data = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
  const [tip, ring, cross] = [".tip", ".ring", ".cross"].map((name) => reader.querySelector(name));
  const [left, top, right, bottom] = data.box;
  const scale = (v, axis) =>
    axis.log ? Math.log(v / axis.low) / Math.log(axis.high / axis.low) : (v - axis.low) / (axis.high - axis.low);
  const lines = data.lines.map((line) => {
    const points = [];
    line.x.forEach((x, k) => {
      const y = line.y[k];
      if (y === null) return;
      points.push({ x, y, px: left + scale(x, data.x) * (right - left), py: bottom - scale(y, data.y) * (bottom - top) });
    });
    if (line.dots) points.sort((a, b) => a.px - b.px);
    return { ...line, points };
  });
  let [current, place] = [0, -1];

  const at = (line, px) => { // of points in order of px, the nearest one
    let [low, high] = [0, line.points.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (line.points[middle].px < px) low = middle + 1;
      else high = middle;
    }
    return low > 0 && px - line.points[low - 1].px < line.points[low].px - px ? low - 1 : low;
  };
  const hide = () => {
    tip.hidden = ring.hidden = cross.hidden = true;
    place = -1;
  };
  const row = (line, text, strong) => {
    const item = document.createElement(strong ? "b" : "div");
    const dot = document.createElement("i");
    dot.className = `k${line.colour}`;
    item.append(dot, line.name ? `${line.name}: ${text}` : text);
    return item;
  };
  const show = (i, k) => {
    [current, place] = [i, k];
    const line = lines[i], point = line.points[k], factor = reader.clientWidth / data.size[0];
    const head = document.createElement("div");
    head.textContent = `${data.x.name}: ${told(point.x)}`;
    const rows = [row(line, told(point.y), lines.length > 1)];
    if (!line.dots) {
      for (const other of lines) {
        if (other === line || other.dots || !other.points.length || rows.length >= 10) continue;
        const near = other.points[at(other, point.px)];
        if (Math.abs(near.px - point.px) < 8) rows.push(row(other, told(near.y), false));
      }
    }
    tip.replaceChildren(head, ...rows);
    tip.hidden = ring.hidden = false;
    cross.hidden = line.dots;
    const [x, y] = [point.px * factor, point.py * factor];
    cross.style.transform = `translate(${x}px, ${top * factor}px)`;
    cross.style.height = `${(bottom - top) * factor}px`;
    ring.style.transform = `translate(${x}px, ${y}px)`;
    putTip(tip, reader, x, y);
  };
  const nearest = (event) => {
    const frame = reader.getBoundingClientRect(), factor = data.size[0] / frame.width;
    const [x, y] = [(event.clientX - frame.left) * factor, (event.clientY - frame.top) * factor];
    let [best, found] = [Infinity, null];
    lines.forEach((line, i) => {
      if (!line.points.length) return;
      const candidates = line.dots ? line.points.keys() : [at(line, x)];
      for (const k of candidates) {
        const point = line.points[k];
        const distance = (line.dots ? (point.px - x) ** 2 : 0.01 * (point.px - x) ** 2) + (point.py - y) ** 2;
        if (distance < best) [best, found] = [distance, [i, k]];
      }
    });
    if (found) show(...found);
  };
  for (const kind of ["pointermove", "pointerdown"]) reader.addEventListener(kind, nearest);
  reader.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
  reader.addEventListener("blur", hide);
  reader.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return hide();
    const sideways = { ArrowRight: 1, ArrowLeft: -1, PageDown: 0.1, PageUp: -0.1 }[event.key];
    const across = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const drawable = lines.map((_, i) => i).filter((i) => lines[i].points.length);
    if (!(sideways || across) || !drawable.length) return undefined;
    event.preventDefault();
    if (!drawable.includes(current)) current = drawable[0];
    if (place < 0) return show(current, sideways < 0 ? lines[current].points.length - 1 : 0);
    if (across) {
      const next = drawable[(drawable.indexOf(current) + across + drawable.length) % drawable.length];
      return show(next, at(lines[next], lines[current].points[place].px));
    }
    const count = lines[current].points.length;
    const step = Math.abs(sideways) === 1 ? sideways : Math.sign(sideways) * Math.max(1, Math.round(count / 10));
    return show(current, Math.min(Math.max(place + step, 0), count - 1));
  });
};
document.querySelectorAll("figure.chart").forEach(readChart);
