/* Log lines and commands wrap: what matters is often at their end. A screenshot opens at full size. */
document.addEventListener("DOMContentLoaded", () => {
  for (const code of document.querySelectorAll(".md-typeset .highlight pre > code")) {
    const isCommand = code.querySelector(".gp") !== null
    const isText = code.querySelector("span[class]") === null && !/\n /.test(code.textContent)
    if (isCommand || isText) code.parentElement.classList.add("is-wrapped")
    if (isText) code.replaceChildren(...code.textContent.trimEnd().split("\n").map(asLine))
  }
  for (const picture of document.querySelectorAll('.md-typeset img[src$=".png"]')) {
    if (picture.closest("a")) continue
    const link = document.createElement("a")
    link.href = picture.src
    link.title = "Open at full size"
    picture.replaceWith(link)
    link.append(picture)
  }
})

function asLine(text) {
  const line = document.createElement("span")
  line.className = "line"
  line.textContent = text
  return line
}
