"use strict";
// Maps: the sample nearest to the pointer, the tap or the arrow keys is shown beside its dot.
for (const figure of document.querySelectorAll("figure.map")) {
  const plot = figure.querySelector(".plot");
  if (!plot) continue;
  const { xy, names, label, columns } = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
  const [tip, ring, picture] = [".tip", ".ring", ".picture"].map((name) => plot.querySelector(name));
  const box = plot.querySelector("svg").viewBox.baseVal;
  let current = -1;

  const show = (i) => {
    current = i;
    tip.hidden = ring.hidden = i < 0;
    if (i < 0) return;
    if (picture) {
      const [wide, high] = [parseFloat(picture.style.width), parseFloat(picture.style.height)];
      picture.style.backgroundPosition = `${-(i % columns) * wide}px ${-Math.floor(i / columns) * high}px`;
    }
    tip.lastElementChild.textContent = label ? names[label[i]] : picture ? "" : `sample ${i + 1}`;
    const scale = plot.clientWidth / box.width;
    const [x, y] = [xy[2 * i] * scale, xy[2 * i + 1] * scale];
    const left = Math.min(Math.max(x - tip.offsetWidth / 2, 0), plot.clientWidth - tip.offsetWidth);
    const above = y - tip.offsetHeight - 14;
    tip.style.transform = `translate(${left}px, ${above >= 0 ? above : y + 14}px)`;
    ring.style.transform = `translate(${x}px, ${y}px)`;
  };
  const nearest = (event) => {
    const frame = plot.getBoundingClientRect();
    const scale = box.width / frame.width;
    const [x, y] = [(event.clientX - frame.left) * scale, (event.clientY - frame.top) * scale];
    let [best, found] = [(24 * scale) ** 2, -1]; // no further than 24 pixels from the finger
    for (let i = 0; 2 * i < xy.length; i++) {
      const distance = (xy[2 * i] - x) ** 2 + (xy[2 * i + 1] - y) ** 2;
      if (distance < best) [best, found] = [distance, i];
    }
    show(found);
  };
  for (const kind of ["pointermove", "pointerdown"]) plot.addEventListener(kind, nearest);
  plot.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && show(-1));
  plot.addEventListener("blur", () => show(-1));
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") show(-1);
    if (!step) return;
    event.preventDefault();
    const count = xy.length / 2;
    show((Math.max(current, step < 0 ? 0 : -1) + step + count) % count);
  });
}
// Pointing at a legend entry lights its line or its dots; pressing keeps them lit.
for (const figure of document.querySelectorAll("figure")) {
  const drawing = figure.querySelector(":scope > svg, :scope > .plot > svg");
  const buttons = [...figure.querySelectorAll(".legend button")];
  if (!drawing) continue;
  const marks = drawing.querySelectorAll(".mark");
  let pinned = -1;
  const light = (i) => {
    drawing.classList.toggle("faded", i >= 0);
    marks.forEach((mark, k) => mark.classList.toggle("lit", k === i));
  };
  buttons.forEach((button, i) => {
    button.addEventListener("mouseenter", () => light(i));
    button.addEventListener("mouseleave", () => light(pinned));
    button.addEventListener("click", () => {
      pinned = pinned === i ? -1 : i;
      buttons.forEach((other, k) => other.setAttribute("aria-pressed", String(k === pinned)));
      light(pinned);
    });
  });
}
