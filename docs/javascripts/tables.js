/* On a phone, a table of text becomes a list: each cell shows the head of its column. See stylesheets/extra.css. */
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll(".md-typeset table:not([class])")) {
    const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim())
    const hasNumbers = table.querySelector('[style*="right"]') !== null
    if (heads.length < 3 || heads.length > 5 || hasNumbers) continue
    table.classList.add("as-list")
    for (const row of table.querySelectorAll("tbody tr"))
      [...row.cells].forEach((cell, column) => cell.setAttribute("data-head", heads[column] ?? ""))
  }
})
