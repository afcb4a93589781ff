// Tables that sort by a click on a heading and filter by words; without this script they are plain tables.
for (const table of document.querySelectorAll("table.sortable")) {
  const rows = [...table.tBodies[0].rows];
  const headings = [...table.tHead.rows[0].cells];
  const valueOf = (row, column) => row.cells[column].textContent.trim();
  const isNumber = (text) => text !== "" && !Number.isNaN(Number(text));
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      // The first click sorts numbers in descending order and words in ascending order.
      const before = heading.getAttribute("aria-sort");
      const up = before === null ? !isNumber(valueOf(rows[0], column)) : before === "descending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      rows.sort((first, second) => {
        const [a, b] = [valueOf(first, column), valueOf(second, column)];
        if (a === "–" || b === "–") return (a === "–") - (b === "–");
        return (up ? 1 : -1) * (isNumber(a) && isNumber(b) ? a - b : a.localeCompare(b));
      });
      table.tBodies[0].replaceChildren(...rows);
    });
  });

  const filter = document.createElement("p");
  const name = `filter-${table.id}`;
  filter.className = "filter";
  filter.innerHTML = `<label for="${name}">Filter rows</label><input id="${name}" type="search" placeholder="LSTM, ensemble, a date …"><output></output>`;
  table.closest(".scroll").before(filter);
  const [input, output] = [filter.querySelector("input"), filter.querySelector("output")];
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    output.textContent = words.length ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
  });
}
