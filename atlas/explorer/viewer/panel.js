// What is known of one cell, beside the map.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

const shownNumber = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));

// A sentence for those who hear the page.
function summary(book, level, cell) {
  const count = level.count[cell];
  const label = level.top[cell * CELL_CLASSES];
  const most = label < 0 ? "" : `, speaks most for ${book.className(label)}`;
  return `Row ${level.row[cell]}, column ${level.col[cell]} of ${level.grid}: ${count} activations${most}.`;
}

function cellPanel({ book, level, cell, pinned, go, filterBy }) {
  const title = `Row ${level.row[cell]}, column ${level.col[cell]}`;
  const score = level.score[cell];
  const facts = [`${level.count[cell].toLocaleString("en")} activations averaged`];
  if (Number.isFinite(score)) facts.push(`score ${score.toFixed(2)}`);
  const head = element("div", { class: "aa-cell-head" }, iconCanvas(level, cell, 112),
    element("div", {}, element("h2", {}, title), element("p", { class: "aa-quiet" }, `${level.grid} × ${level.grid} grid`),
      element("p", {}, facts.join(", ")), pinned ? element("p", { class: "aa-quiet" }, "pinned; Escape lets go") : ""));
  return [head, ...classBars(book, level, cell, filterBy), ...exemplars(book, level, cell), ...channels(book, level, cell),
    ...neighbours(level, cell, go)];
}

function iconCanvas(level, cell, side) {
  const canvas = element("canvas", { width: side * 2, height: side * 2, class: "aa-icon", style: `width:${side}px;height:${side}px` });
  const draw = () => {
    const sheet = level.sheet(cell, draw);
    if (!sheet) return;
    const [x, y] = level.place(cell);
    canvas.getContext("2d").drawImage(sheet, x, y, level.pixels, level.pixels, 0, 0, side * 2, side * 2);
  };
  draw();
  return canvas;
}

function classBars(book, level, cell, filterBy) {
  const rows = [];
  let most = 1e-9;
  for (let place = 0; place < CELL_CLASSES; place++) most = Math.max(most, Math.abs(level.effect[cell * CELL_CLASSES + place]));
  for (let place = 0; place < CELL_CLASSES; place++) {
    const label = level.top[cell * CELL_CLASSES + place];
    if (label < 0) continue;
    const effect = level.effect[cell * CELL_CLASSES + place];
    const bar = element("span", { class: "aa-bar" });
    bar.style.width = `${(100 * Math.max(0, effect)) / most}%`;
    rows.push(element("button", { type: "button", class: "aa-class", "data-class": label, title: "Show the map through this class", onclick: () => filterBy(label) },
      element("span", { class: "aa-name" }, book.className(label)), element("span", { class: "aa-value" }, shownNumber(effect)), bar));
  }
  return rows.length ? [element("h3", {}, "Speaks for"), element("div", { class: "aa-classes" }, ...rows)] : [];
}

function exemplars(book, level, cell) {
  const seen = level.seen[cell] ?? [];
  if (!seen.length) return [element("h3", {}, "Nearest photographs"), element("p", { class: "aa-quiet" }, level.seen.length ? "none" : "not kept at this grid")];
  const figures = seen.map(([thumb, box, name]) => {
    const canvas = element("canvas", { width: 192, height: 192, role: "img", "aria-label": `photograph ${book.images[name]}` });
    drawThumb(book, canvas, thumb, box);
    return element("figure", {}, canvas, element("figcaption", {}, book.images[name]));
  });
  return [element("h3", {}, "Nearest photographs"), element("div", { class: "aa-photos" }, ...figures)];
}

async function drawThumb(book, canvas, thumb, box) {
  const sheet = await (book.thumbs[Math.floor(thumb / PER_SHEET)] ??= book.picture(`thumbs/${Math.floor(thumb / PER_SHEET)}`));
  const context = canvas.getContext("2d");
  if (!sheet) {
    context.font = "22px system-ui";
    context.fillText("missing", 50, 100);
    return;
  }
  const side = book.thumb_side;
  const number = thumb % PER_SHEET;
  context.drawImage(sheet, (number % 10) * side, Math.floor(number / 10) * side, side, side, 0, 0, 192, 192);
  const [left, top, right, bottom] = box.map((share) => Math.min(189, Math.max(3, share * 192)));
  context.lineWidth = 5;
  context.strokeStyle = "rgba(0 0 0 / .6)";
  context.strokeRect(left, top, right - left, bottom - top);
  context.lineWidth = 2.5;
  context.strokeStyle = "#ffd84d";
  context.strokeRect(left, top, right - left, bottom - top);
}

function channels(book, level, cell) {
  const strong = [...level.strong.slice(cell * 5, cell * 5 + 5)].filter((channel) => channel >= 0);
  if (!strong.length) return [];
  const units = strong.map((channel) => {
    const unit = `${level.map.layer}:${channel}`;
    return element("code", { title: `what does it respond to: atlas unit ${unit}` }, unit);
  });
  return [element("h3", {}, "Strongest channels, beside the layer's mean"), element("p", { class: "aa-units" }, ...units)];
}

function neighbours(level, cell, go) {
  const around = [];
  for (let row = -1; row <= 1; row++) {
    for (let col = -1; col <= 1; col++) {
      const other = row || col ? level.at(level.row[cell] + row, level.col[cell] + col) : cell;
      if (other < 0) around.push(element("span"));
      else around.push(element("button", { type: "button", "aria-label": summary(level.book, level, other), disabled: other === cell, onclick: () => go(other) }, iconCanvas(level, other, 48)));
    }
  }
  return [element("h3", {}, "Neighbours"), element("div", { class: "aa-neighbours" }, ...around)];
}
