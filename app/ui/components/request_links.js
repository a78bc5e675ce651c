// Clicks on rows open a request without a new page, and a line tells of requests that ended since the list was drawn.
//
// Rows are links, so that the other ways to open one (a new tab, the keyboard) are the browser's. While the tab is
// hidden nothing is asked.

const EVERY = 3000 // ms between two looks
const MANY = 100 // what one look asks for at most

function rowOf(event) {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return null
  const row = event.target.closest?.("[data-lp-request]")
  if (!row) return null
  const link = event.target.closest("a")
  if (link && !link.hasAttribute("data-lp-open")) return null
  return !link && String(getSelection()) !== "" ? null : row // text of a row can be selected
}

class Links {
  constructor(root) {
    this.root = root
    this.line = root.querySelector("[data-lp=line]")
    this.running = root.querySelector("[data-lp=running]")
    this.button = root.querySelector("[data-lp=newer]")
    this.button.addEventListener("click", () => this.send("act", { what: "newer", id: String(Date.now()) }))
    this.click = (event) => {
      const row = rowOf(event)
      if (!row) return
      event.preventDefault()
      this.send("act", { what: "open", id: row.dataset.lpRequest })
    }
    document.addEventListener("click", this.click)
  }

  show(data) {
    if (this.query !== data.query) this.say(data.running, 0)
    this.query = data.query
    if (this.query && !this.timer) this.timer = setInterval(() => this.look(), EVERY)
    if (!this.query) this.rest()
    this.line.hidden = !this.query
  }

  async look() {
    if (document.hidden || this.looking) return
    const query = this.query
    this.looking = true
    try {
      const answer = await fetch(`/loupe/requests?${query}`, { headers: { Accept: "application/json" } })
      if (!answer.ok) return // the page itself says what is wrong
      const told = await answer.json()
      if (query === this.query) this.say(told.running, told.requests.length)
    } catch { // away for a moment; the page says so
    } finally {
      this.looking = false
    }
  }

  say(running, newer) {
    this.running.textContent = running ? `${running} running now` : ""
    this.button.textContent = newer >= MANY ? `${MANY} newer ones or more: show` : newer === 1 ? "1 newer one: show" : `${newer} newer ones: show`
    this.button.hidden = !newer
  }

  rest() {
    clearInterval(this.timer)
    this.timer = undefined
  }

  end() {
    this.rest()
    document.removeEventListener("click", this.click)
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".lp-newer")
  if (!root || !data) return undefined
  const links = (root.__links ??= new Links(root))
  links.send = setTriggerValue
  links.show(data)
  return () => {
    links.end()
    delete root.__links
  }
}
