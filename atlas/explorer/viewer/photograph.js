// Photographs as the network was shown them, with a box about what was seen.

const PHOTO = 192;

function photographs(book, seen) {
  const figures = seen.map(([thumb, box, name]) => {
    const canvas = element("canvas", { width: PHOTO, height: PHOTO, role: "img", "aria-label": `photograph ${book.images[name]}` });
    drawThumb(book, canvas, thumb, box);
    return element("figure", {}, canvas, element("figcaption", { title: book.images[name] }, book.images[name]));
  });
  return element("div", { class: "aa-photos" }, ...figures);
}

async function drawThumb(book, canvas, thumb, box) {
  const sheet = await book.sheetOf("thumbs", thumb);
  const context = canvas.getContext("2d");
  if (!sheet) {
    context.font = "22px system-ui";
    context.fillText("missing", 50, 100);
    return;
  }
  context.drawImage(sheet, ...inSheet(thumb, book.thumb_side), 0, 0, PHOTO, PHOTO);
  const [left, top, right, bottom] = box.map((share) => Math.min(PHOTO - 3, Math.max(3, share * PHOTO)));
  for (const [width, color] of [[5, "rgba(0 0 0 / .6)"], [2.5, "#ffd84d"]]) {
    context.lineWidth = width;
    context.strokeStyle = color;
    context.strokeRect(left, top, right - left, bottom - top);
  }
}

// Where in its sheet, ten in a row, a picture lies: x, y, width, height.
function inSheet(number, side) {
  const place = number % PER_SHEET;
  return [(place % 10) * side, Math.floor(place / 10) * side, side, side];
}
