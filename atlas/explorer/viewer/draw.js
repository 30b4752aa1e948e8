// Cells on a canvas: icons by count, filter, tint, labels, outlines.

const LABEL = "600 11px system-ui, sans-serif";
// Pixels per side of the map from which its smaller regions are named.
const NEAR = [0, 1100, 2200];

// Blue against, white at zero, red for: like the figures' scale.
function tintColor(share) {
  const ends = share < 0 ? [33, 102, 172] : [178, 24, 43];
  const part = Math.min(1, Math.abs(share)) ** 0.8;
  return `rgb(${ends.map((end) => Math.round(247 + (end - 247) * part)).join(" ")})`;
}

// view: {level, camera, context, colors, filter, labels, plain, ready, shift, opacity}
function drawLevel(view) {
  const { level, camera, context, filter, shift = 0, opacity = 1, plain } = view;
  const side = camera.side / level.grid;
  const [left, top] = camera.toScreen(0, 0);
  const [first, above] = camera.toAtlas(0, 0).map((place) => Math.max(0, Math.floor(place * level.grid)));
  const [last, below] = camera.toAtlas(camera.width, camera.height).map((place) => Math.min(level.grid - 1, Math.floor(place * level.grid)));
  const limit = level.tint ? (level.limit ??= level.tint.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9)) : 0;
  for (let row = above; row <= below; row++) {
    for (let col = first; col <= last; col++) {
      const cell = level.index[row * level.grid + col];
      if (cell < 0) continue;
      const alpha = filter ? filter(level, cell) : 1;
      const x = left + col * side + shift;
      const y = top + row * side;
      if (level.tint && !filter) {
        context.globalAlpha = opacity;
        context.fillStyle = tintColor(level.tint[cell] / limit);
        context.fillRect(x, y, side + 0.5, side + 0.5);
      }
      if (alpha <= 0.004) continue;
      const wide = side * (plain ? 1 : level.side[cell]) * (level.tint ? 0.84 : 0.98);
      const rest = (side - wide) / 2;
      context.globalAlpha = alpha * opacity;
      const sheet = level.sheet(cell, view.ready);
      if (sheet) {
        const [from, down] = level.place(cell);
        context.drawImage(sheet, from, down, level.pixels, level.pixels, x + rest, y + rest, wide, wide);
      } else {
        context.fillStyle = view.colors.empty;
        context.fillRect(x + rest, y + rest, wide, wide);
        if (sheet === false && side > 40) writeIn(view, "picture missing", { x, y, width: side, height: side });
      }
    }
  }
  context.globalAlpha = 1;
  if (view.labels) drawNames(view, side, [left + shift, top], [first, last, above, below]);
}

// Regions' names in their middles, the largest first, then cells' at their lower left, the surest first; none over
// another. What stands over a region need not stand in each of its cells.
function drawNames(view, side, [left, top], [first, last, above, below]) {
  const { level, camera, context, filter, opacity = 1, shift = 0 } = view;
  const taken = [];
  const said = new Map();
  context.textBaseline = "alphabetic";
  context.lineJoin = "round";
  context.globalAlpha = opacity;
  const nearness = NEAR.filter((from) => camera.side >= from).length - 1;
  const regions = filter || labelledBy(level) === "classes" ? [] : (level.map.regions ?? []).filter((region) => region.level === nearness);
  for (const region of [...regions].sort((one, other) => other.share - one.share)) {
    const size = Math.round(Math.min(26, 13 + 40 * region.share) * (0.8 + 0.4 * (region.name.low - 0.5)));
    const [x, y] = camera.toScreen(...region.xy);
    context.font = `700 ${size}px system-ui, sans-serif`;
    const width = lengthOf(context, region.name.text);
    const box = { x: x + shift - width / 2, y: y - size / 2, width, height: size };
    if (fits(box, taken, shift, camera)) write(context, region.name.text, box, size);
    for (const [row, col] of region.cells) said.set(`${region.grid}/${row}/${col}`, region.name.text);
  }
  const cells = [];
  for (let row = above; side >= 26 && row <= below; row++) {
    for (let col = first; col <= last; col++) {
      const cell = level.index[row * level.grid + col];
      if (cell < 0 || !nameOf(level, cell) || said.get(level.key(cell)) === nameOf(level, cell).text) continue;
      if (!filter || filter(level, cell) >= 0.15) cells.push(cell);
    }
  }
  // By what does not change as one moves, so that names stay where they are.
  cells.sort((one, other) => nameOf(level, other).low - nameOf(level, one).low || one - other);
  for (const cell of cells) {
    const name = nameOf(level, cell);
    const size = Math.round(10 + 4 * Math.max(0, (name.low - 0.5) / 0.5));
    context.font = `600 ${size}px system-ui, sans-serif`;
    const shown = shortened(context, name.text, Math.max(side * 2, 90));
    const box = { x: left + level.col[cell] * side + 4, y: top + (level.row[cell] + 1) * side - size - 4, width: lengthOf(context, shown), height: size };
    if (fits(box, taken, shift, camera)) write(context, shown, box, size);
  }
  context.globalAlpha = 1;
}

// What a cell is labelled with, as its figure is: its name, or the class that it changes most.
function nameOf(level, cell) {
  if (labelledBy(level) === "names") return level.names[cell] ?? null;
  const label = level.top[cell * CELL_CLASSES];
  return labelledBy(level) === "classes" && label >= 0 ? { text: level.book.className(label, level.map), low: 0.5 } : null;
}

// Whether a box lies on the map and over none of those taken, to which it is added.
function fits(box, taken, shift, camera) {
  const over = (other) => box.x < other.x + other.width + 6 && other.x < box.x + box.width + 6 && box.y < other.y + other.height + 3 && other.y < box.y + box.height + 3;
  if (box.x < shift || box.x + box.width > shift + camera.width || taken.some(over)) return false;
  taken.push(box);
  return true;
}

function write(context, text, box, size) {
  context.lineWidth = Math.max(3, size / 5);
  context.strokeStyle = "rgba(0 0 0 / .7)";
  context.fillStyle = "#fff";
  context.strokeText(text, box.x, box.y + size * 0.85);
  context.fillText(text, box.x, box.y + size * 0.85);
}

// At the bottom of a box; at the right edge of the map moved back, so as to be read whole.
function writeIn({ context, camera, shift = 0 }, text, { x, y, width, height }) {
  context.font = LABEL;
  context.lineWidth = 3;
  context.strokeStyle = "rgba(0 0 0 / .7)";
  context.fillStyle = "#fff";
  const shown = shortened(context, text, width - 8);
  const over = x + 8 + lengthOf(context, shown) - shift - camera.width;
  const left = x + 4 - Math.max(0, Math.min(over, width - 8));
  context.strokeText(shown, left, y + height - 5);
  context.fillText(shown, left, y + height - 5);
}

const lengths = new Map();
function lengthOf(context, text) {
  const key = `${context.font} ${text}`;
  if (!lengths.has(key)) lengths.set(key, context.measureText(text).width);
  return lengths.get(key);
}

function shortened(context, text, width) {
  const length = lengthOf(context, text);
  if (length <= width) return text;
  const kept = Math.max(1, Math.floor((text.length * width) / length) - 1);
  return `${[...text].slice(0, kept).join("")}…`;
}

function outline({ context, camera, shift = 0 }, level, cell, color, width) {
  const side = camera.side / level.grid;
  const [x, y] = camera.toScreen(level.col[cell] / level.grid, level.row[cell] / level.grid);
  context.lineWidth = width + 2;
  context.strokeStyle = "rgba(255 255 255 / .9)";
  context.strokeRect(x + shift, y, side, side);
  context.lineWidth = width;
  context.strokeStyle = color;
  context.strokeRect(x + shift, y, side, side);
}

// What the two ends mean, and the line where neither has it.
function drawEnds({ context, camera, colors, shift = 0 }, ends) {
  const [middle] = camera.toScreen(0.5, 0);
  context.strokeStyle = colors.ink;
  context.globalAlpha = 0.5;
  context.lineWidth = 1;
  context.setLineDash([2, 4]);
  context.beginPath();
  context.moveTo(middle + shift, 0);
  context.lineTo(middle + shift, camera.height);
  context.stroke();
  context.setLineDash([]);
  context.globalAlpha = 1;
  context.font = "600 13px system-ui, sans-serif";
  context.fillStyle = colors.ink;
  context.textAlign = "left";
  const [left, right] = ends.map((name) => shortened(context, name, camera.width / 2 - 50));
  context.fillText(`← ${left}`, 10 + shift, camera.height - 12);
  context.textAlign = "right";
  context.fillText(`${right} →`, camera.width - 10 + shift, camera.height - 12);
  context.textAlign = "left";
}

// Pages of before say nothing of it: names where there are any, else classes if those mean anything.
function labelledBy(level) {
  return level.map.labels ?? (level.named ? "names" : level.map.speaking?.worth ? "classes" : "");
}
