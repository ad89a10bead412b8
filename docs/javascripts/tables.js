/* On a phone, a table of text becomes a list: each cell shows the head of its column. See stylesheets/extra.css. */
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll(".md-typeset table:not([class])")) {
    const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim())
    if (heads.length > 5) breakNames(table)
    const hasNumbers = table.querySelector('[style*="right"]') !== null
    // A long name would leave no room for the other column of two.
    const hasLongNames = [...table.querySelectorAll("td code")].some((code) => code.textContent.length > 24)
    if (heads.length < (hasLongNames ? 2 : 3) || heads.length > 5 || hasNumbers) continue
    table.classList.add("as-list")
    for (const row of table.querySelectorAll("tbody tr"))
      [...row.cells].forEach((cell, column) => cell.setAttribute("data-head", heads[column] ?? ""))
  }
})

/* A table of many columns would hide the last ones: its long names may break before a capital letter. */
function breakNames(table) {
  for (const code of table.querySelectorAll("td code")) {
    const words = code.textContent.split(/(?<=[a-z])(?=[A-Z])/)
    if (words.length < 3) continue
    table.dataset.names = "broken"
    code.replaceChildren(...words.flatMap((word, index) => (index ? [document.createElement("wbr"), word] : [word])))
  }
}
