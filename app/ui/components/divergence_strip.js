// A text whose tokens are tinted by their divergence. A click, or the arrow keys, opens both lists of likeliest tokens.
//
// Every text goes in as textContent: it was written by a model. The tint is on a log scale and comes with a line of
// growing thickness, so that colour is never the only sign.

const LEAST = 0.001 // nats: below this a token is not tinted
const MOST = 3
const STEPS = [0.001, 0.01, 0.1, 1]

function make(tag, kind, parent, text) {
  const element = document.createElement(tag)
  if (kind) element.className = kind
  if (text !== undefined) element.textContent = text
  parent?.append(element)
  return element
}

function strength(kld) { // 0 … 1
  if (!(kld > LEAST)) return 0
  return Math.min(1, Math.log(kld / LEAST) / Math.log(MOST / LEAST))
}

function tint(element, kld) {
  const share = strength(kld)
  element.style.setProperty("--lp-tint", `${Math.round(share * 70)}%`)
  element.style.setProperty("--lp-thick", share ? `${1 + Math.round(share * 3)}px` : "0")
}

function nats(value) {
  if (value === 0) return "0"
  if (value < 0.0005) return "under 0.001"
  return value.toFixed(value < 0.1 ? 3 : 2)
}

const share = (logprob) => Math.exp(logprob)
const percent = (part) => (part < 0.001 ? "< 0.1 %" : `${(100 * part).toFixed(1)} %`)
const visible = (token) => (token === "" ? "(nothing)" : token.replace(/\n/g, "↵").replace(/ /g, "␣"))

class Strip {
  constructor(root) {
    this.root = root
    this.text = root.querySelector("[data-lp=text]")
    this.lists = root.querySelector("[data-lp=lists]")
    this.scale(root.querySelector("[data-lp=scale]"))
    this.text.addEventListener("click", (event) => {
      const token = event.target.closest(".lp-token")
      if (token && String(getSelection()) === "") this.choose(Number(token.dataset.n))
    })
    this.text.addEventListener("keydown", (event) => this.key(event))
  }

  scale(element) {
    make("span", "", element, "Divergence of a token, in nats:")
    for (const step of STEPS) tint(make("span", "lp-token", element, `${step}`), step * 1.001)
    const other = make("span", "lp-token lp-other", element, "dotted")
    make("span", "", element, "the variant would have said something else")
    other.style.setProperty("--lp-tint", "0%")
  }

  show(data) {
    const told = JSON.stringify(data)
    if (told === this.told) return
    this.told = told
    this.data = data
    this.text.setAttribute("aria-label", `Answer of ${data.reference}, forced on ${data.variant}`)
    this.text.replaceChildren(...data.tokens.map((token, n) => this.token(token, n)))
    const worst = data.tokens.reduce((best, token, n, all) => (token.kld > all[best].kld ? n : best), 0)
    if (data.tokens.length) this.choose(worst, false)
    else this.lists.replaceChildren()
  }

  token(token, n) {
    const element = make("span", "lp-token", null, token.token)
    element.dataset.n = n
    element.role = "button"
    element.tabIndex = -1
    const first = (list) => list[0]?.[0]
    const other = token.variant.length > 0 && first(token.reference) !== first(token.variant)
    element.classList.toggle("lp-other", other)
    element.title = `${nats(token.kld)} nats`
    element.setAttribute("aria-label", `${token.token}: ${nats(token.kld)} nats${other ? ", another word" : ""}`)
    tint(element, token.kld)
    return element
  }

  key(event) {
    const last = this.data.tokens.length - 1
    const to = { ArrowRight: this.chosen + 1, ArrowLeft: this.chosen - 1, Home: 0, End: last }[event.key]
    if (to === undefined || to < 0 || to > last) return
    event.preventDefault()
    event.stopPropagation()
    this.choose(to)
  }

  choose(n, focus = true) {
    this.chosen = n
    for (const element of this.text.children) {
      const here = Number(element.dataset.n) === n
      element.setAttribute("aria-pressed", String(here))
      element.tabIndex = here ? 0 : -1
      if (here && focus) element.focus({ preventScroll: true })
    }
    this.open(this.data.tokens[n])
  }

  open(token) {
    const line = make("p")
    make("b", "", line, `“${visible(token.token)}”`)
    const said = [percent(share(token.said[0])), percent(share(token.said[1]))]
    make("span", "", line, ` ${nats(token.kld)} nats. ${this.data.reference} gave it ${said[0]}, ${this.data.variant} ${said[1]}.`)
    const pair = make("div", "lp-strip-pair")
    pair.append(this.list(this.data.reference, token.reference, token.variant, token.token),
      this.list(this.data.variant, token.variant, token.reference, token.token))
    this.lists.replaceChildren(line, pair)
  }

  list(title, rows, others, said) {
    const table = make("table")
    make("caption", "", table, `${title}: the ${rows.length} likeliest`)
    const known = new Set(others.map(([token]) => token))
    const body = make("tbody", "", table)
    for (const [token, logprob] of rows) {
      const row = make("tr", token === said ? "lp-said" : known.has(token) ? "" : "lp-alone", body)
      make("code", "", make("th", "", row), visible(token))
      row.firstChild.scope = "row"
      make("td", "lp-num", row, percent(share(logprob)))
      make("i", "", make("td", "lp-share", row)).style.width = `${100 * share(logprob)}%`
    }
    return table
  }
}

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".lp-strip")
  if (!root || !data) return undefined
  root.__strip ??= new Strip(root)
  root.__strip.show(data)
  return () => { delete root.__strip }
}
