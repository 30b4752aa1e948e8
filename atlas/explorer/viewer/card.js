// What one channel responds to, as far as the map's own sample knows: its card, and the way back to the cell.

const STRONGEST = 8;

// acts: {go: to a cell of the level, back: to where one came from, leave}; values: each cell's, above the map's mean
function cardPanel({ book, map, level, card, values, from, go, back, leave }) {
  const unit = `${map.layer}:${card.channel}`;
  const picture = element("canvas", { width: 256, height: 256, class: "aa-icon", style: "width:128px;height:128px", role: "img", "aria-label": `superstimulus of ${unit}` });
  if (card.picture !== null) drawSuperstimulus(book, map, card.picture, picture);
  const head = element("div", { class: "aa-cell-head" }, card.picture === null ? "" : picture,
    element("div", {}, element("h2", {}, unit), element("p", {}, `mean ${shownNumber(card.mean)}, deviation ${shownNumber(card.spread)}, most ${shownNumber(card.high)}`),
      quiet("The map shows where it is stronger than on average.")));
  const ways = element("p", { class: "aa-units aa-ways" },
    from ? element("button", { type: "button", class: "aa-button aa-back", onclick: back }, `← ${placeOf(from.level, from.cell)}`) : "",
    element("button", { type: "button", class: "aa-button", onclick: leave }, "Whole map"));
  const shown = card.seen.length ? photographs(book, card.seen) : quiet("none kept in this page");
  const more = quiet(card.picture === null ? "No superstimulus was drawn: atlas build --cards draws them. " : "");
  more.append("Everything about it: ", element("code", {}, `atlas unit ${unit}${map.model ? ` --model ${map.model}` : ""} --images YOUR-IMAGES`));
  return [ways, head, element("h3", {}, "Photographs that excite it the most"), shown, ...strongestCells(level, values, go),
    element("h3", {}, "Its values in the sample"), histogram(card), more];
}

async function drawSuperstimulus(book, map, number, canvas) {
  const sheet = await book.sheetOf(`${map.number}/units`, number);
  if (sheet) canvas.getContext("2d").drawImage(sheet, ...inSheet(number, sheet.width / 10), 0, 0, canvas.width, canvas.height);
}

function strongestCells(level, values, go) {
  if (!values) return [];
  const order = [...values.keys()].sort((one, other) => values[other] - values[one]).slice(0, STRONGEST);
  const cells = order.map((cell) => element("button", { type: "button", "aria-label": summary(level.book, level, cell), onclick: () => go(cell) }, iconCanvas(level, cell, 64)));
  return [element("h3", {}, "Cells where it is the strongest"), element("div", { class: "aa-strongest" }, ...cells)];
}

function histogram(card) {
  const most = Math.max(...card.bars, 1);
  const bars = card.bars.map((count) => {
    const bar = element("span");
    // By the root, so that the few strongest values can be seen beside the many weak ones.
    bar.style.height = `${100 * Math.sqrt(count / most)}%`;
    return bar;
  });
  const total = card.bars.reduce((sum, count) => sum + count, 0);
  return element("div", {},
    element("div", { class: "aa-histogram", role: "img", "aria-label": `histogram of ${total} values from ${shownNumber(card.low)} to ${shownNumber(card.high)}` }, ...bars),
    element("p", { class: "aa-quiet aa-ends" }, element("span", {}, shownNumber(card.low)), element("span", {}, "√ of counts"), element("span", {}, shownNumber(card.high))));
}
