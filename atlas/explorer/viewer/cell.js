// What is known of one cell, beside the map.

// A sentence for those who hear the page.
function summary(book, level, cell) {
  const name = nameOf(level, cell);
  const called = !name ? "" : labelledBy(level) === "names" ? `, ${name.text}` : `, speaks most for ${name.text}`;
  return `${placeOf(level, cell)} of ${level.grid}: ${level.count[cell]} activations${called}.`;
}

const placeOf = (level, cell) => `Row ${level.row[cell]}, column ${level.col[cell]}`;

// acts: {go: to a cell, filterBy: a class, openCard: a channel's}
function cellPanel({ book, level, cell, pinned, ...acts }) {
  const score = level.score[cell];
  const facts = [`${level.count[cell].toLocaleString("en")} activations averaged`];
  if (Number.isFinite(score)) facts.push(`score ${score.toFixed(2)}`);
  const head = element("div", { class: "aa-cell-head" }, iconCanvas(level, cell, 112),
    element("div", {}, element("h2", {}, placeOf(level, cell)), quiet(`${level.grid} × ${level.grid} grid`),
      element("p", {}, facts.join(", ")), tinted(level, cell), pinned ? quiet("pinned; Escape or a click beside the map lets go") : ""));
  return [head, ...evidence(level, cell), ...classBars(book, level, cell, acts.filterBy), ...exemplars(book, level, cell),
    ...channels(level, cell, acts.openCard), ...neighbours(level, cell, acts.go)];
}

// What the cell's colour stands for.
function tinted(level, cell) {
  if (!level.tint) return "";
  const { ends } = level.map;
  const what = ends ? `Effect on ${ends[1]} less effect on ${ends[0]}` : "Mean effect on the class";
  return element("p", { class: "aa-tinted" }, `${what}: ${shownNumber(level.tint[cell])}`);
}

// The cell's name and what bears it out, or that none holds.
function evidence(level, cell) {
  const name = level.names[cell];
  if (!level.named) return [];
  if (!name) return [quiet("no name holds here")];
  const share = (value) => `${Math.round(100 * value)} %`;
  return [element("h3", { class: "aa-called" }, name.text),
    quiet(`A photograph of it excites this cell more than another does in ${share(name.auroc)} of pairs (95 % interval ${share(name.low)} to ${share(name.high)}; p ${name.p < 0.001 ? "< 0.001" : name.p.toFixed(3)} for all names tried). `
      + `Of the ten that excite it most, ${Math.round(10 * name.share)} are of it. ${name.positives} photographs that did not choose the name, by ${name.by}.`)];
}

function iconCanvas(level, cell, side) {
  const canvas = element("canvas", { width: side * 2, height: side * 2, class: "aa-icon", style: `width:${side}px;height:${side}px` });
  const draw = () => {
    const sheet = level.sheet(cell, draw);
    if (sheet === false) {
      const pen = canvas.getContext("2d");
      pen.font = "22px system-ui";
      pen.fillText("missing", 8, side);
    }
    if (!sheet) return;
    const [x, y] = level.place(cell);
    canvas.getContext("2d").drawImage(sheet, x, y, level.pixels, level.pixels, 0, 0, side * 2, side * 2);
  };
  draw();
  return canvas;
}

function classBars(book, level, cell, filterBy) {
  const effects = [...level.effect.slice(cell * CELL_CLASSES, (cell + 1) * CELL_CLASSES)];
  const labels = [...level.top.slice(cell * CELL_CLASSES, (cell + 1) * CELL_CLASSES)];
  const most = Math.max(1e-9, ...effects.map(Math.abs));
  const { speaking } = level.map;
  if (labels[0] >= 0 && speaking && !speaking.worth) return [quiet(`Classes are not listed. Such a list would hold ${speaking.told}: too little.`)];
  const rows = labels.flatMap((label, place) => {
    if (label < 0) return [];
    const bar = element("span", { class: "aa-bar" });
    bar.style.width = `${(100 * Math.max(0, effects[place])) / most}%`;
    return element("button", { type: "button", class: "aa-class", "data-class": label, title: "Show the map through this class", onclick: () => filterBy(label) },
      element("span", { class: "aa-name" }, book.className(label, level.map)), element("span", { class: "aa-value" }, shownNumber(effects[place])), bar);
  });
  return rows.length ? [element("h3", {}, "Speaks for"), element("div", { class: "aa-classes", title: "how much each class's score falls with the usual activation in these places" }, ...rows),
    ...(speaking ? [quiet(`Measured over the map: ${speaking.told}.`)] : [])] : [];
}

function exemplars(book, level, cell) {
  const seen = level.seen[cell] ?? [];
  const shown = seen.length ? photographs(book, seen) : quiet(level.seen.length ? "none" : "not kept at this grid");
  return [element("h3", {}, "Nearest photographs"), shown];
}

function channels(level, cell, openCard) {
  const strong = [...level.strong.slice(cell * 5, cell * 5 + 5)].filter((channel) => channel >= 0);
  if (!strong.length) return [];
  const units = strong.map((channel) => {
    const unit = `${level.map.layer}:${channel}`;
    if (!level.map.card(channel)) return element("code", {}, unit);
    return element("button", { type: "button", class: "aa-unit", "data-channel": channel, title: "what does it respond to?", onclick: () => openCard(channel) }, unit);
  });
  return [element("h3", {}, "Strongest channels, beside the map's mean"), element("p", { class: "aa-units" }, ...units)];
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
