// Four figures of now and their last quarter of an hour: one event stream in, no rerun of the page, nothing while the
// tab is hidden. The elements are made once; only their words and one line each change.

const SILENCE = 8000 // ms without a word, after which the line counts as broken: the feed speaks every second
const RETRY = 2000
const OFTEN = 2000 // ms between two runs of the page at least
const BACK = 900 // s that a curve shows
const STEP = 10 // s between two of its points
const GAP = 3.5 * STEP // without a figure, that break the line
const SVG = "http://www.w3.org/2000/svg"

const known = (value) => value !== undefined && value !== null && Number.isFinite(value)

function seconds(value) {
  if (value < 0.9995) return `${Math.max(1, Math.round(value * 1000))} ms`
  return value < 9.995 ? `${value.toFixed(2)} s` : value < 59.95 ? `${value.toFixed(1)} s` : `${(value / 60).toFixed(1)} min`
}

function size(bytes) {
  const [value, unit] = bytes < 999.5 * 2 ** 20 ? [bytes / 2 ** 20, "MiB"] : [bytes / 2 ** 30, "GiB"]
  return `${value.toFixed(value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2)} ${unit}`
}

const pace = (value) => `${value >= 99.5 || value === 0 ? Math.round(value) : value.toFixed(1)} tok/s`

function sum(names, value) { // nothing where one of them is not known
  const values = names.map(value)
  return values.every(known) ? values.reduce((total, one) => total + one, 0) : undefined
}

const gpus = (view) => Object.keys(view.names).filter((name) => known(view.limits[`${name}.memory_total`]))
const memories = (view) => (gpus(view).length ? gpus(view).map((name) => `${name}.memory_used`) : ["memory_used"])
const memoryLimit = (view) =>
  gpus(view).length ? sum(gpus(view), (name) => view.limits[`${name}.memory_total`]) : view.limits.memory_total

function memory(view) {
  const [held, most, count] = [sum(memories(view), (name) => view.now[name]), memoryLimit(view), gpus(view).length]
  const { memory_used: used } = view.now
  const total = view.limits.memory_total
  const here = known(used) && known(total) ? `${size(used)} of ${size(total)}` : ""
  const missing = (names) => names.map((name) => view.unknown[name]).find(Boolean)
  if (count) {
    const told = known(held) ? `${size(held)} of ${size(most)}` : missing(memories(view)) ?? "the driver does not tell"
    const name = count > 1 ? `Memory of ${count} GPUs` : "GPU memory"
    return [name, known(held) ? `${Math.round((100 * held) / most)} %` : "–", `${told}${here ? `; RAM ${here}` : ""}`]
  }
  if (!here) return ["Memory", "–", view.unknown.memory_used ?? "not looked yet"]
  const why = missing(["gpu", ...Object.keys(view.names)])
  return ["Memory", `${Math.round((100 * used) / total)} %`, `${here}${why ? `; ${why}` : ""}`]
}

function firstToken(view) {
  const about = "First token"
  const { ttft_p50: half, ttft_p95: most } = view.now
  if (known(half)) {
    const slow = known(most) && seconds(most) !== seconds(half) ? `; one in twenty over ${seconds(most)}` : ""
    return [about, seconds(half), `the median of the last minute${slow}`]
  }
  const last = view.curves[1]?.findLast(([, value]) => known(value))
  return [about, "–", `no answer in the last minute${last ? `; before it ${seconds(last[1])}` : ""}`]
}

// In order: what is said (name, value, note), the series whose sum the curve shows, and what the name means.
const FIGURES = [
  {
    help: "Requests that a model host is working on now.",
    say: ({ now }) => {
      const waiting = now.queue_waiting ?? 0
      const told = waiting ? `${waiting} wait${waiting === 1 ? "s" : ""} for a slot` : "nobody waits"
      return ["Being answered", known(now.queue_running) ? String(now.queue_running) : "–", told]
    },
    series: () => ["queue_running"],
  },
  {
    help: "Time to the first token, waiting included: the median of the requests that ended in the last minute.",
    say: firstToken, series: () => ["ttft_p50"],
  },
  {
    help: "Tokens that all models together write now, a second.",
    say: ({ now }) => {
      const value = now.tokens_per_second
      return ["Writing", known(value) ? pace(value) : "–", known(value) && value > 0 ? "all models together" : "no model writes now"]
    },
    series: () => ["tokens_per_second"],
  },
  { help: "What models and everything else hold in memory; of the GPUs where there are some.", say: memory,
    series: memories, most: memoryLimit },
]

class Now {
  constructor(root) {
    this.root = root
    this.at = (name) => root.querySelector(`[data-lp="${name}"]`)
    this.cells = FIGURES.map((figure) => this.cell(figure))
    this.visibility = () => (document.hidden ? this.close() : this.open())
    document.addEventListener("visibilitychange", this.visibility)
  }

  cell(figure) {
    const box = document.createElement("div")
    const [name, value, note] = ["dt", "dd", "small"].map((tag) => box.appendChild(document.createElement(tag)))
    name.title = figure.help
    const svg = box.appendChild(document.createElementNS(SVG, "svg"))
    svg.setAttribute("viewBox", "0 0 100 100")
    svg.setAttribute("preserveAspectRatio", "none")
    svg.setAttribute("aria-hidden", "true")
    const line = svg.appendChild(document.createElementNS(SVG, "path"))
    this.at("figures").append(box)
    return { name, value, note, line }
  }

  begin(told) {
    if (!this.view) this.view = { ...told, curves: FIGURES.map(() => []) }
    this.draw()
    this.open()
  }

  // The line

  open() {
    if (this.source || document.hidden || this.ended) return
    this.heard = Date.now()
    const source = new EventSource("/loupe/series/events")
    this.source = source
    source.addEventListener("series", (event) => this.source === source && this.take(JSON.parse(event.data)))
    source.onerror = () => this.source === source && this.lost()
    this.beat = setInterval(() => (this.root.isConnected ? Date.now() - this.heard > SILENCE && this.lost() : this.end()), 2000)
    this.remember(source)
  }

  async remember(source) {
    const names = FIGURES.flatMap((figure) => figure.series(this.view)).join(",")
    try {
      const answer = await fetch(`/loupe/hardware/history?seconds=${BACK}&points=${BACK / STEP}&series=${names}`, { cache: "no-store" })
      if (!answer.ok) return
      const past = await answer.json()
      if (this.source !== source) return
      this.view.curves = FIGURES.map((figure) => {
        const names = figure.series(this.view)
        return past.at.map((at, place) => [at, sum(names, (name) => past.series[name]?.[place]?.[0])])
      })
      this.draw()
    } catch {
      // The curves begin with what comes from now on; that the line is broken is said by the feed.
    }
  }

  close() {
    clearTimeout(this.again)
    clearInterval(this.beat)
    this.source?.close()
    this.source = null
  }

  lost() {
    this.close()
    this.down ??= Date.now()
    const line = this.at("link")
    line.textContent = `The connection to Loupe is lost; this is ${Math.round((Date.now() - this.down) / 1000)} s old. Trying again.`
    line.dataset.tone = "bad"
    this.root.classList.add("lp-old")
    this.again = setTimeout(() => this.open(), RETRY)
  }

  end() {
    this.ended = true
    this.close()
    document.removeEventListener("visibilitychange", this.visibility)
  }

  // What comes

  take(told) {
    this.heard = Date.now()
    const view = this.view
    const before = memories(view).join()
    if (told.now) Object.assign(view, told)
    else {
      view.at = told.at
      Object.assign(view.now, told.set)
      for (const name of told.gone ?? []) delete view.now[name]
      for (const part of ["limits", "names", "unknown"]) if (told[part]) view[part] = told[part]
    }
    FIGURES.forEach((figure, place) => this.grow(view.curves[place], figure))
    if (memories(view).join() !== before) this.remember(this.source) // its curve is of something else now
    this.tell(told)
    if (this.down !== undefined) {
      this.down = undefined
      this.at("link").textContent = "Up to date"
      this.at("link").dataset.tone = "good"
      this.root.classList.remove("lp-old")
    }
    this.draw()
  }

  tell(told) { // the words beside are the server's: it writes them anew when what they are about has changed
    const { now } = this.view
    const models = Object.keys(now).filter((name) => name.startsWith("loaded")).sort()
    const key = [now.queue_running, now.queue_waiting, now.hosts_down, now.jobs_running, ...models].join()
    const changed = (this.around !== undefined && key !== this.around) || told.happened?.length || now.queue_waiting > 0
    this.around = key
    this.due ||= changed
    if (!this.due || Date.now() - (this.sent ?? 0) < OFTEN) return
    this.due = false
    this.sent = Date.now()
    this.send("changed", told.at)
  }

  grow(curve, figure) {
    const value = sum(figure.series(this.view), (name) => this.view.now[name])
    while (curve.length && curve.at(-1)[0] > this.view.at + STEP) curve.pop() // the clock was set back
    const last = curve.at(-1)
    if (last && this.view.at - last[0] < STEP) last[1] = value
    else curve.push([this.view.at, value])
    while (curve.length && curve[0][0] < this.view.at - BACK) curve.shift()
  }

  draw() {
    FIGURES.forEach((figure, place) => {
      const cell = this.cells[place]
      const words = figure.say(this.view)
      for (const [at, part] of [cell.name, cell.value, cell.note].entries()) {
        if (part.textContent !== words[at]) part.textContent = words[at]
      }
      cell.line.setAttribute("d", this.path(this.view.curves[place], figure.most?.(this.view)))
    })
  }

  path(curve, limit) { // against what there is of it; else against the most of this time; broken where nothing was known
    const most = limit ?? Math.max(...curve.map(([, value]) => (known(value) ? value : 0)), 1e-9)
    const end = this.view.at
    let [drawn, before] = ["", -Infinity]
    for (const [at, value] of curve) {
      if (!known(value)) continue
      const [x, y] = [100 * (1 - (end - at) / BACK), 100 * (1 - value / most)].map((part) => part.toFixed(2))
      drawn += at - before > GAP ? `M${x},${y}h.5` : `L${x},${y}`
      before = at
    }
    return drawn
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".lp-now")
  if (!root || !data) return undefined
  root.__now ??= new Now(root)
  root.__now.send = setTriggerValue
  root.__now.begin(data.begin)
  return () => {
    root.__now?.end()
    delete root.__now
    root.querySelector('[data-lp="figures"]').replaceChildren()
  }
}
