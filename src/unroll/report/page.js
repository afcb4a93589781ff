// Tables that sort by a click on a heading and filter by a word; without this script they are plain tables.
for (const table of document.querySelectorAll("table.runs")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  const valueOf = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    const isEmpty = (text) => text === "" || text === "–";
    if (isEmpty(a) || isEmpty(b)) return isEmpty(a) - isEmpty(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      // The first click on a number shows the largest first, on a word the first of the alphabet.
      const firstIsUp = Number.isNaN(Number(valueOf(rows[0], column)));
      const before = heading.getAttribute("aria-sort");
      const up = before === null ? firstIsUp : before === "descending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const isEmpty = (row) => ["", "–"].includes(valueOf(row, column));
      rows.sort((a, b) => {
        if (isEmpty(a) || isEmpty(b)) return isEmpty(a) - isEmpty(b);
        return (up ? 1 : -1) * compare(valueOf(a, column), valueOf(b, column));
      });
      body.replaceChildren(...rows);
    });
  });

  const filter = document.createElement("p");
  filter.className = "filter";
  const name = `filter-${table.id}`;
  filter.innerHTML = `<label for="${name}">Show runs with</label><input id="${name}" type="search" placeholder="LSTM, blend, a date …"><output></output>`;
  table.closest(".scroll").before(filter);
  const [input, output] = [filter.querySelector("input"), filter.querySelector("output")];
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    const shown = rows.filter((row) => !row.hidden).length;
    output.textContent = words.length ? `${shown} of ${rows.length}` : "";
  });
}
