"""The page's script: tables sort by their headings, and printing unfolds what is folded."""

from __future__ import annotations

SCRIPT = """\
"use strict";
(() => {
  const words = new Intl.Collator(undefined, { numeric: true });
  // What was not measured stays at the end, whatever the direction.
  const compare = (one, other, number, sign) => {
    if (one === "" || other === "") return (one === "") - (other === "");
    return sign * (number ? Number(one) - Number(other) : words.compare(one, other));
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const ascending = head.getAttribute("aria-sort") !== "ascending";
        const number = head.classList.contains("number");
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        const value = (row) => row.cells[column].dataset.value;
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => compare(value(a), value(b), number, ascending ? 1 : -1));
        table.tBodies[0].append(...rows);
      });
    });
  }
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((part) => { part.open = false; }));
})();
"""
