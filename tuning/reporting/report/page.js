"use strict";
document.documentElement.classList.add("js");

function readKey(cell) {
  const text = cell.textContent.trim();
  const number = parseFloat(text.replace("[", ""));
  return Number.isNaN(number) ? (text === "-" || text === "" ? null : text) : number;
}

function compareKeys(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}

function sortTable(head) {
  const table = head.closest("table");
  const body = table.tBodies[0];
  const column = head.cellIndex;
  const first = head.dataset.first || "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  for (const each of table.tHead.rows[0].cells) {
    if (each.hasAttribute("aria-sort")) each.setAttribute("aria-sort", "none");
  }
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const rows = Array.from(body.rows, (row) => ({ row, key: readKey(row.cells[column]) }));
  rows.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
    return sign * compareKeys(a.key, b.key);
  });
  for (const { row } of rows) body.append(row);
}

for (const button of document.querySelectorAll("th[aria-sort] button")) {
  button.addEventListener("click", () => sortTable(button.closest("th")));
}

for (const box of document.querySelectorAll("input[data-table]")) {
  const table = document.getElementById(box.dataset.table);
  const show = () => table.classList.toggle("brief", !box.checked);
  box.addEventListener("change", show);
  show();
}

let closed = [];
window.addEventListener("beforeprint", () => {
  closed = Array.from(document.querySelectorAll("details:not([open])"));
  for (const each of closed) each.open = true;
});
window.addEventListener("afterprint", () => {
  for (const each of closed) each.open = false;
});

// A report of `report --serve` asks for a newer one, and keeps the open parts open.
const served = document.documentElement.dataset.version;
if (served) {
  const key = "open-details";
  for (const id of JSON.parse(sessionStorage.getItem(key) || "[]")) {
    const found = document.getElementById(id);
    if (found) found.open = true;
  }
  const refresh = async () => {
    try {
      const answer = await fetch("version", { cache: "no-store" });
      const version = (await answer.text()).trim();
      if (answer.ok && version !== served) {
        const open = Array.from(document.querySelectorAll("details[open]"), (each) => each.id);
        sessionStorage.setItem(key, JSON.stringify(open));
        location.reload();
      }
    } catch {
      // The server has ended; the page stays as it is.
    }
  };
  setInterval(refresh, 5000);
}
