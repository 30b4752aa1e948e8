// What a test or a study found: words, figures, a table.

function reportPanel(book, number) {
  const report = book.reports[number];
  const figures = report.figures.map((heading, place) => {
    const picture = element("img", { alt: heading });
    book.block(`report/${number}/${place}`).then((text) => {
      if (text) picture.src = `data:image/webp;base64,${text.trim()}`;
      else picture.replaceWith(quiet("picture missing"));
    });
    return element("figure", {}, element("h3", {}, heading), picture);
  });
  return element("article", { class: "aa-report" }, element("h2", {}, report.title),
    element("ol", { class: "aa-notes" }, ...report.lines.map((line) => element("li", {}, line))), ...figures, ...reportTable(report.table));
}

function reportTable(rows) {
  if (!rows.length) return [];
  const names = Object.keys(rows[0]);
  const head = element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name)));
  const body = rows.map((row) => element("tr", {}, ...names.map((name) => element("td", {}, row[name]))));
  return [element("details", {}, element("summary", {}, `${rows.length} rows of figures`), element("div", { class: "aa-table" }, element("table", {}, head, ...body)))];
}
