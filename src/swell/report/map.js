// Maps: dots on a canvas. The sample nearest to the pointer, the finger or the arrow keys is shown beside its dot; a
// click lists its nearest neighbours. Dots are found through a grid of cells, so that tens of thousands stay quick.
const REACH = 20; // pixels from the pointer to a dot
const NONE = 65535; // the class of a sample that has none
const unpack = (text) => {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Uint16Array(bytes.buffer);
};

class EmbeddingMap {
  constructor(figure) {
    this.figure = figure;
    this.plot = figure.querySelector(".plot");
    const data = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
    [this.count, this.size, this.sheet] = [data.count, data.size, data.sheet];
    this.layouts = data.layouts; // unpacked when they are used
    this.colourings = data.colourings.map(({ name, names, codes }) => ({ name, names, codes: unpack(codes) }));
    this.canvas = this.plot.querySelector("canvas");
    for (const name of ["tip", "ring", "links", "picture"]) this[name] = this.plot.querySelector(`.${name}`);
    this.panel = figure.querySelector(".near");
    this.by = figure.querySelector("select.by");
    [this.zoom, this.left, this.top, this.current, this.chosen, this.lit] = [1, 0, 0, -1, -1, -1];
    this.listen();
    this.useLayout(0);
    new ResizeObserver(() => this.redraw()).observe(this.plot);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    for (const kind of ["beforeprint", "afterprint"]) addEventListener(kind, () => this.draw());
    const sheet = figure.querySelector("img.sheet");
    if (sheet) sheet.decode().then(() => createImageBitmap(sheet)).then((bitmap) => { this.bitmap = bitmap; });
  }

  useLayout(number) {
    const { xy, near, cluster, k } = this.layouts[number];
    Object.assign(this, { xy: unpack(xy), near: unpack(near), cluster: unpack(cluster), k });
    const cell = (this.cell = 160);
    const columns = (this.columns = Math.ceil(this.size[0] / cell));
    const rows = (this.rows = Math.ceil(this.size[1] / cell));
    const of = (i) => Math.floor(this.xy[2 * i + 1] / cell) * columns + Math.floor(this.xy[2 * i] / cell);
    this.start = new Uint32Array(columns * rows + 1);
    this.order = new Uint32Array(this.count);
    for (let i = 0; i < this.count; i++) this.start[of(i) + 1]++;
    for (let c = 0; c < columns * rows; c++) this.start[c + 1] += this.start[c];
    const next = this.start.slice();
    for (let i = 0; i < this.count; i++) this.order[next[of(i)]++] = i;
    this.useColours();
    this.choose(-1);
  }

  useColours() {
    const by = this.by ? this.by.value : "";
    this.figure.querySelectorAll(".legend").forEach((list) => { list.hidden = list.dataset.by !== by; });
    this.release.forEach((letGo) => letGo());
    const own = this.colourings.find(({ name }) => name === by);
    this.codes = own ? own.codes : by === "cluster" ? this.cluster : new Uint16Array(this.count).fill(NONE);
    const groups = new Map();
    this.codes.forEach((code, i) => groups.has(code) ? groups.get(code).push(i) : groups.set(code, [i]));
    this.groups = [...groups].sort(([a], [b]) => (b === NONE) - (a === NONE) || a - b);
    this.lit = -1;
    this.redraw();
  }

  get scale() { return (this.plot.clientWidth / this.size[0]) * this.zoom; } // pixels a unit
  onScreen(i) { return [(this.xy[2 * i] - this.left) * this.scale, (this.xy[2 * i + 1] - this.top) * this.scale]; }

  redraw() { // once a frame, however much has changed
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = undefined;
    const { plot, canvas } = this;
    const [wide, high] = [plot.clientWidth, (plot.clientWidth * this.size[1]) / this.size[0]];
    if (!wide) return;
    const ratio = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [Math.round(wide * ratio), Math.round(high * ratio)];
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const style = getComputedStyle(this.figure), { xy, scale, left, top } = this;
    const dot = Math.min(7, Math.max(2.8, 7 * Math.sqrt(800 / this.count))) * Math.min(2, Math.sqrt(this.zoom));
    for (const [code, members] of this.groups) {
      const none = code === NONE, square = !none && Math.floor(code / 10) % 2 === 1;
      context.globalAlpha = this.lit >= 0 && this.lit !== code ? 0.08 : 0.8;
      context.strokeStyle = style.getPropertyValue(none ? "--muted" : `--k${code % 10}`);
      context.lineCap = square ? "square" : "round";
      context.lineWidth = square ? dot * 0.8 : dot;
      context.beginPath();
      for (const i of members) { // a line of almost no length with round or square caps is a dot
        const [x, y] = [(xy[2 * i] - left) * scale, (xy[2 * i + 1] - top) * scale];
        if (x < -9 || y < -9 || x > wide + 9 || y > high + 9) continue;
        context.moveTo(x, y);
        context.lineTo(x + 0.01, y);
      }
      context.stroke();
    }
    this.link();
    if (this.current >= 0) this.show(this.current);
  }

  link() { // lines from the chosen dot to its neighbours
    const path = [];
    if (this.chosen >= 0) {
      const [x, y] = this.onScreen(this.chosen);
      for (const i of this.neighbours(this.chosen)) path.push(`M${x} ${y}L${this.onScreen(i).join(" ")}`);
    }
    this.links.innerHTML = path.length ? `<path d="${path.join("")}"/>` : "";
  }

  neighbours(i) { return this.near.subarray(i * this.k, (i + 1) * this.k); }

  words(i) {
    const all = [...this.colourings, { name: "cluster", names: null, codes: this.cluster }];
    const found = all.filter(({ codes }) => codes[i] !== NONE).map(({ name, names, codes }) => {
      const word = names ? names[codes[i]] : `cluster ${codes[i] + 1}`;
      return /^[\d.]+$/.test(word) ? `${name} ${word}` : word;
    });
    return found.join(", ");
  }

  paint(canvas, i) {
    const [wide, high] = this.sheet.tip, [w, h] = this.sheet.tile, ratio = window.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [wide * ratio, high * ratio];
    [canvas.style.width, canvas.style.height] = [`${wide}px`, `${high}px`];
    if (!this.bitmap) return;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    const [x, y] = [i % this.sheet.columns, Math.floor(i / this.sheet.columns)];
    context.drawImage(this.bitmap, x * w, y * h, w, h, 0, 0, canvas.width, canvas.height);
  }

  show(i) {
    this.current = i;
    const [x, y] = i < 0 ? [-1, -1] : this.onScreen(i);
    const inside = x >= 0 && y >= 0 && x <= this.plot.clientWidth && y <= this.plot.clientHeight;
    this.tip.hidden = this.ring.hidden = !inside;
    if (!inside) return;
    this.tip.dataset.sample = i;
    if (this.picture) this.paint(this.picture, i);
    this.tip.lastElementChild.textContent = this.words(i) || `sample ${i + 1}`;
    this.ring.style.transform = `translate(${x}px, ${y}px)`;
    putTip(this.tip, this.plot, x, y);
  }

  choose(i) { // list the nearest neighbours of sample i
    this.chosen = i;
    this.link();
    this.panel.hidden = i < 0;
    const [text, list] = this.panel.children;
    list.replaceChildren();
    if (i < 0) return;
    const near = [...this.neighbours(i)], kind = this.colourings.find(({ name }) => name === "label");
    const alike = kind && kind.codes[i] !== NONE ? near.filter((j) => kind.codes[j] === kind.codes[i]).length : -1;
    text.textContent = `The chosen sample (${this.words(i) || `sample ${i + 1}`}) and the ${near.length} nearest to it by `
      + `all features, which need not be the nearest on the flat map`
      + (alike < 0 ? "." : `; ${alike} of ${near.length} have its label.`);
    for (const j of [i, ...near]) {
      const item = document.createElement("li"), button = document.createElement("button");
      button.type = "button";
      if (this.sheet) {
        const picture = document.createElement("canvas");
        this.paint(picture, j);
        button.append(picture);
      }
      button.append(this.words(j) || `sample ${j + 1}`);
      if (j === i) button.setAttribute("aria-current", "true");
      button.addEventListener("click", () => { this.choose(j); this.show(j); this.panel.querySelector("button").focus(); });
      item.append(button);
      list.append(item);
    }
  }

  nearest(x, y, reach) { // of the dots within `reach` of the place (x, y), all in units, the nearest one, or -1
    const { cell, columns, rows, start, order, xy } = this;
    const [cx, cy] = [Math.floor(x / cell), Math.floor(y / cell)];
    let [best, found] = [reach * reach, -1];
    for (let r = 0; r <= Math.ceil(reach / cell) && !(found >= 0 && ((r - 1) * cell) ** 2 > best); r++) {
      for (let j = Math.max(cy - r, 0); j <= Math.min(cy + r, rows - 1); j++) {
        const step = r === 0 || Math.abs(j - cy) === r ? 1 : 2 * r; // only the border of the square is new
        for (let i = cx - r; i <= cx + r; i += step) {
          if (i < 0 || i >= columns) continue;
          for (let k = start[j * columns + i]; k < start[j * columns + i + 1]; k++) {
            const p = order[k], distance = (xy[2 * p] - x) ** 2 + (xy[2 * p + 1] - y) ** 2;
            if (distance < best && (this.lit < 0 || this.codes[p] === this.lit)) [best, found] = [distance, p];
          }
        }
      }
    }
    return found;
  }

  towards(dx, dy) { // the next dot in that direction; of all, the one in the middle if none is current
    const [x, y] = this.current < 0 ? this.size.map((side) => side / 2)
      : [this.xy[2 * this.current], this.xy[2 * this.current + 1]];
    let [best, found] = [Infinity, this.current];
    for (let i = 0; i < this.count; i++) {
      const [a, b] = [this.xy[2 * i] - x, this.xy[2 * i + 1] - y];
      const [along, aside] = [a * dx + b * dy, Math.abs(a * dy) + Math.abs(b * dx)];
      const cost = this.current < 0 ? Math.hypot(a, b) : along > 0 && aside <= along ? along + aside : Infinity;
      if (cost < best) [best, found] = [cost, i];
    }
    return found;
  }

  zoomTo(zoom, x = this.plot.clientWidth / 2, y = this.plot.clientHeight / 2) { // keeps what is at pixel (x, y) there
    const [ux, uy] = [this.left + x / this.scale, this.top + y / this.scale];
    this.zoom = Math.min(Math.max(zoom, 1), 32);
    this.moveTo(ux - x / this.scale, uy - y / this.scale);
  }

  moveTo(left, top) {
    const room = 1 - 1 / this.zoom;
    this.left = Math.min(Math.max(left, 0), room * this.size[0]);
    this.top = Math.min(Math.max(top, 0), room * this.size[1]);
    this.plot.classList.toggle("zoomed", this.zoom > 1);
    this.redraw();
  }

  listen() {
    const { plot, figure } = this;
    const place = (event) => {
      const frame = plot.getBoundingClientRect();
      return [event.clientX - frame.left, event.clientY - frame.top];
    };
    const find = (event) => {
      const [x, y] = place(event);
      this.show(this.nearest(this.left + x / this.scale, this.top + y / this.scale, REACH / this.scale));
    };
    let held = null;
    plot.addEventListener("pointerdown", (event) => {
      held = { at: place(event), left: this.left, top: this.top, moved: false };
      find(event);
    });
    plot.addEventListener("pointermove", (event) => {
      if (!held || !event.buttons) return find(event);
      const [x, y] = place(event), [dx, dy] = [x - held.at[0], y - held.at[1]];
      held.moved ||= Math.hypot(dx, dy) > 5;
      if (held.moved && this.zoom > 1) this.moveTo(held.left - dx / this.scale, held.top - dy / this.scale);
      return undefined;
    });
    plot.addEventListener("click", () => {
      if (!(held && held.moved)) this.choose(this.current);
      held = null;
    });
    plot.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.show(-1));
    plot.addEventListener("blur", () => this.show(-1));
    plot.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return; // the page scrolls
      event.preventDefault();
      this.zoomTo(this.zoom * (event.deltaY < 0 ? 1.25 : 0.8), ...place(event));
    }, { passive: false });
    plot.addEventListener("keydown", (event) => this.key(event));
    figure.querySelectorAll(".zoom button").forEach((button) => button.addEventListener("click", () => {
      this.zoomTo(Number(button.dataset.zoom) * this.zoom);
    }));
    const layout = figure.querySelector("select.layout");
    if (layout) layout.addEventListener("change", () => this.useLayout(Number(layout.value)));
    if (this.by) this.by.addEventListener("change", () => this.useColours());
    this.release = [...figure.querySelectorAll(".legend")].map((list) => (
      legend([...list.querySelectorAll("button")], (i) => { this.lit = i; this.redraw(); })));
  }

  key(event) {
    const arrow = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (arrow) this.show(this.towards(...arrow));
    else if (event.key === "Enter" || event.key === " ") this.choose(this.current);
    else if (event.key === "Escape") { this.show(-1); this.choose(-1); }
    else if (event.key === "+" || event.key === "=") this.zoomTo(2 * this.zoom);
    else if (event.key === "-") this.zoomTo(this.zoom / 2);
    else if (event.key === "0") this.zoomTo(1);
    else return;
    event.preventDefault();
  }
}
for (const figure of document.querySelectorAll("figure.map")) {
  if (figure.querySelector(".plot")) new EmbeddingMap(figure);
}
