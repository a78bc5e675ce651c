// Machine and service over time: one event stream in, canvases on one time axis with one cursor, no rerun of the page.
//
// The past comes from the history, the present from the feed, which tells everything once and then what changed. Nothing
// runs while the tab is hidden. Rows and their heights are known before the first figure, so nothing moves.

const SILENCE = 8000 // ms without a word, after which the line counts as broken: the feed speaks every second
const RETRY = 2000
const POINTS = 900
const GAP = 3.5 // intervals without a figure that break a line
const BACK_STEPS = 5 // intervals that a sample may lie before the newest one: the history is read while the feed tells on
const TOLD = 12 // happenings in words
const TICKS = [60, 180, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400, 172800, 432000]
const KINDS = { load: "good", unload: "muted", error: "bad", alert: "bad", host: "warn" }
const MINUTE = "Of the requests that ended in the minute before."
const NO_REQUEST = "no request ended in that minute"

// -- words ------------------------------------------------------------------------------------------------------------

const known = (value) => value !== undefined && value !== null && Number.isFinite(value)

function seconds(value) {
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`
  return value < 9.995 ? `${value.toFixed(2)} s` : value < 59.95 ? `${value.toFixed(1)} s` : `${(value / 60).toFixed(1)} min`
}

function size(bytes) {
  const [value, unit] = bytes < 999.5 * 2 ** 20 ? [bytes / 2 ** 20, "MiB"] : [bytes / 2 ** 30, "GiB"]
  return `${value.toFixed(value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2)} ${unit}`
}

const percent = (share) => `${Math.round(share * 100)} %`
const pace = (value) => `${value >= 99.5 || value === 0 ? Math.round(value) : value.toFixed(1)} tok/s`
const whole = (value) => String(Math.round(value))
const said = (value, words) => (known(value) ? words(value) : "–")
const two = (number) => String(number).padStart(2, "0")
const short = (model) => model.slice(Math.max(model.lastIndexOf(":"), model.lastIndexOf("-")) + 1) || model // as on Service

function clock(at, exact) {
  const date = new Date(at * 1000)
  const time = `${two(date.getHours())}:${two(date.getMinutes())}${exact ? `:${two(date.getSeconds())}` : ""}`
  return new Date().toDateString() === date.toDateString() ? time : `${day(date)} ${time}`
}

const day = (date) => date.toLocaleDateString("en-GB", { day: "numeric", month: "short" })

// -- what is drawn ----------------------------------------------------------------------------------------------------

const gpus = (view) => Object.keys(view.names).sort((a, b) => a.slice(3) - b.slice(3))
const layers = (view, prefix) => [...view.series.keys()].filter((name) => name.startsWith(prefix)).sort()

function spreadOf(told, words) { // of several GPUs, as [name, value]: the mean, and which lie at its ends
  const there = told.filter(([, value]) => known(value)).sort((a, b) => a[1] - b[1])
  if (!there.length) return ["–", ""]
  const main = words(there.reduce((sum, [, value]) => sum + value, 0) / there.length)
  if (told.length === 1) return [main, ""]
  const [low, high] = [there[0], there.at(-1)].map(([name, value]) => `${words(value)} (${called(name)})`)
  const alike = there.length > 1 && words(there[0][1]) === words(there.at(-1)[1])
  const silent = told.length - there.length
  const ends = alike ? `all ${there.length} alike` : there.length > 1 ? `${low} to ${high}` : low
  return [main, `${ends}${silent ? `, ${silent} silent` : ""}`]
}

const called = (gpu) => `GPU\u00a0${gpu.slice(3)}`

function missing(at, view, name) { // which GPUs do not tell, and why the first of them does not
  const all = gpus(view)
  const silent = all.filter((gpu) => !known(at(`${gpu}.${name}`)))
  if (!silent.length) return ""
  const why = view.unknown[`${silent[0]}.${name}`] ?? view.unknown[silent[0]] ?? view.unknown.gpu ?? ""
  return silent.length === all.length || !why ? why : `not GPU ${silent.map((gpu) => gpu.slice(3)).join(", ")}: ${why}`
}

function perGpu(id, title, name, words, most, about) {
  return {
    id, title, about, most, words,
    lines: (view) => gpus(view).map((gpu) => ({ name: `${gpu}.${name}` })),
    read: (at, view) => {
      const told = gpus(view).map((gpu) => [gpu, at(`${gpu}.${name}`)])
      const why = (gpu) => view.unknown[`${gpu}.${name}`] ?? view.unknown[gpu] ?? view.unknown.gpu
      const [main, sub] = spreadOf(told, words)
      const each = told.map(([gpu, value]) => `${called(gpu)}, ${view.names[gpu]}: ${known(value) ? words(value) : why(gpu) ?? "–"}`)
      const [first] = gpus(view)
      return { main, sub: (main === "–" && why(first)) || sub || view.names[first] || "", title: each.join("\n") }
    },
  }
}

function holders(view) { // who holds memory of each GPU, a line for each
  return gpus(view).filter((gpu) => view.holders[gpu]).map((gpu) => `${called(gpu)}: ${view.holders[gpu]}`)
}

// `used` add up to it; `without`: why some are not known; `by`: lines that say who holds it.
function memory(id, title, used, total, prefix, about, without, by = () => []) {
  return {
    id, title, about, words: size, stack: prefix,
    most: (view) => total(view),
    lines: (view) => [{ sum: used(view) }],
    read: (at, view) => {
      const all = used(view).map(at).filter(known)
      const most = total(view)
      const held = layers(view, prefix).map((name) => [name.slice(prefix.length), at(name)]).filter(([, value]) => known(value))
      const why = without(at, view)
      const told = `${most ? `of ${size(most)}. ` : ""}${held.map(([name, value]) => `${name}: ${size(value)}`).join(", ")}`
      return {
        main: all.length ? size(all.reduce((sum, value) => sum + value, 0)) : "–",
        sub: why || (held.length ? "" : `${most ? `of ${size(most)}, ` : ""}no model in it`),
        parts: why ? [] : held, title: why || [told, ...by(view)].join("\n"),
      }
    },
  }
}

function charts(view) {
  const some = gpus(view).length > 0
  return [
    {
      id: "cpu", title: "Processor", words: percent, most: () => 1,
      about: "The share of all cores that was busy, and how much of it was the built-in runtime's models and Loupe itself.",
      lines: () => [{ name: "cpu", area: true }],
      read: (at) => {
        if (!known(at("cpu"))) return { main: "–", sub: view.unknown.cpu ?? "" }
        const ours = [["models", at("cpu_models")], ["Loupe", at("cpu_loupe")]].filter(([, value]) => known(value))
        const told = ours.map(([name, value]) => `${name} ${percent(value)}`).join(", ")
        return { main: percent(at("cpu")), sub: [told, some ? "" : view.unknown.gpu].filter(Boolean).join("; ") }
      },
    },
    some && perGpu("gpu", "GPU", "utilisation", percent, () => 1,
      "The share of time in which anything at all ran on the GPU; a model that decodes shows close to 100 %."),
    memory("memory", "Memory", () => ["memory_used"], (v) => v.limits.memory_total, "loaded.",
      "What cannot be given to another program. The layers are the loaded variants, as their host tells their size.",
      (at, v) => (known(at("memory_used")) ? "" : v.unknown.memory_used ?? "")),
    some && memory("gpu-memory", "GPU memory", (v) => gpus(v).map((gpu) => `${gpu}.memory_used`),
      (v) => gpus(v).reduce((sum, gpu) => sum + (v.limits[`${gpu}.memory_total`] ?? 0), 0), "loaded_gpu.",
      "Of all GPUs together. The layers are the loaded variants.", (at, v) => missing(at, v, "memory_used"), holders),
    {
      id: "tokens", title: "Tokens", words: (most) => `${most} tok/s`, floor: 10, about: "Written by all models together, each second.",
      lines: () => [{ name: "tokens_per_second", area: true }],
      read: (at) => ({ main: said(at("tokens_per_second"), pace), sub: "" }),
    },
    {
      id: "ttft", title: "TTFT", words: (most) => (most < 1 ? `${most * 1000} ms` : `${most} s`), floor: 0.5, about: `Time to first token, waiting included. ${MINUTE}`,
      lines: () => [{ name: "ttft_p95", faint: true }, { name: "ttft_p50" }],
      read: (at) => ({
        main: known(at("ttft_p50")) ? `p50 ${seconds(at("ttft_p50"))}` : "–",
        sub: known(at("ttft_p95")) ? `p95 ${seconds(at("ttft_p95"))}` : NO_REQUEST,
      }),
    },
    {
      id: "queue", title: "Queue", words: whole, floor: 4, about: "Requests that wait for a slot, and those that hold one.",
      lines: () => [{ name: "queue_waiting", area: true, steps: true }, { name: "queue_running", faint: true, steps: true }],
      read: (at) => ({ main: known(at("queue_waiting")) ? `${whole(at("queue_waiting"))} waiting` : "–",
        sub: known(at("queue_running")) ? `${whole(at("queue_running"))} running` : "" }),
    },
    {
      id: "cache", title: "Cache hits", words: percent, most: () => 1, about: `The share of look-ups that were answered. ${MINUTE}`,
      lines: () => [{ name: "cache_hit_rate", area: true }],
      read: (at) => ({ main: said(at("cache_hit_rate"), percent), sub: known(at("cache_hit_rate")) ? "of the last minute's look-ups" : "no look-up in that minute" }),
    },
    some && perGpu("temperature", "GPU temperature", "temperature", (v) => `${Math.round(v)} °C`, null, "As the driver tells."),
    some && perGpu("power", "GPU power", "power", (v) => `${Math.round(v)} W`, null, "As the driver tells."),
  ].filter(Boolean)
}

// -- elements ---------------------------------------------------------------------------------------------------------

function make(tag, kind, parent) {
  const element = document.createElement(tag)
  if (kind) element.className = kind
  parent?.append(element)
  return element
}

function say(element, text, title) {
  if (element.textContent !== text) element.textContent = text
  if (title !== undefined && element.title !== title) element.title = title
}

function isDark(root) { // as the page is, whatever the machine prefers
  return colour(root, "light-dark(#fff, #000)") === "rgb(0, 0, 0)"
}

function colour(root, value) {
  const probe = make("span", "", root)
  probe.style.color = value
  const found = getComputedStyle(probe).color
  probe.remove()
  return found
}

function nice(value) { // the next of 1, 2, 5 times a power of ten
  const power = 10 ** Math.floor(Math.log10(value))
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999)
}

// -- figures over time ------------------------------------------------------------------------------------------------

class Figures { // columns by series, all on `at`; what was not known is NaN
  constructor(step, length) {
    this.step = step
    this.length = length // seconds
    this.at = []
    this.series = new Map()
    this.sums = new Map()
  }

  fill({ at, series }) {
    this.at = at
    for (const [name, pairs] of Object.entries(series)) this.series.set(name, pairs.map((pair) => (pair ? pair[0] : NaN)))
  }

  add(at, now) {
    const begins = Math.floor(at / this.step) * this.step
    if (begins < this.at.at(-1) - BACK_STEPS * this.step) this.forget(begins) // the clock was set back
    const last = this.at.length - 1
    if (last >= 0 && begins < this.at[last]) return // told by the history already
    if (last < 0 || begins > this.at[last]) {
      this.at.push(begins)
      this.sums.clear()
      for (const column of this.series.values()) column.push(NaN)
    }
    for (const [name, value] of Object.entries(now)) {
      const [sum, count] = this.sums.get(name) ?? [0, 0]
      this.sums.set(name, [sum + value, count + 1])
      if (!this.series.has(name)) this.series.set(name, new Array(this.at.length).fill(NaN))
      this.series.get(name)[this.at.length - 1] = (sum + value) / (count + 1)
    }
    const old = this.at.findIndex((moment) => moment > at - this.length - this.step)
    if (old > 0) {
      this.at.splice(0, old)
      for (const [name, column] of this.series) {
        column.splice(0, old)
        if (column.every(Number.isNaN)) this.series.delete(name)
      }
    }
  }

  forget(from) { // what was there from then on
    const kept = this.at.filter((moment) => moment < from).length
    this.at.length = kept
    for (const column of this.series.values()) column.length = kept
    this.sums.clear()
  }

  place(at) { // of the last interval that began by then
    let low = 0
    let high = this.at.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.at[middle] <= at) low = middle + 1
      else high = middle
    }
    return low - 1
  }

  value(name, place) {
    return this.series.get(name)?.[place]
  }
}

// -- the page ---------------------------------------------------------------------------------------------------------

class Series {
  constructor(root) {
    this.root = root
    this.at = (name) => root.querySelector(`[data-lp="${name}"]`)
    this.view = { names: {}, limits: {}, holders: {}, unknown: {}, series: new Map() }
    this.now = {}
    this.rows = new Map()
    this.marks = []
    this.cursor = null
    this.visibility = () => (document.hidden ? this.close() : this.open())
    document.addEventListener("visibilitychange", this.visibility)
    this.sized = new ResizeObserver(() => this.draw())
    this.sized.observe(this.at("plot"))
    this.turned = new MutationObserver(() => this.recolour())
    const app = root.closest(".stApp")
    if (app) this.turned.observe(app, { attributes: true, attributeFilter: ["style", "class"] })
    this.scheme = matchMedia("(prefers-color-scheme: dark)")
    this.recolour = this.recolour.bind(this)
    this.scheme.addEventListener("change", this.recolour)
    this.listen()
  }

  listen() {
    const plot = this.at("plot")
    plot.addEventListener("pointermove", (event) => this.point(event.clientX))
    plot.addEventListener("pointerdown", (event) => this.point(event.clientX))
    plot.addEventListener("pointerleave", () => this.look(null))
    plot.addEventListener("blur", () => this.look(null))
    plot.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30 }[event.key]
      if (event.key === "Escape") this.look(null)
      if (by === undefined || !this.figures?.at.length) return
      event.preventDefault()
      const last = this.figures.at.length - 1
      const place = (this.cursor === null ? last : this.figures.place(this.cursor)) + by
      this.look(this.figures.at[Math.max(0, Math.min(last, place))])
    })
  }

  show(data) {
    const again = !this.data || data.seconds !== this.data.seconds
    this.data = data
    if (!this.figures) this.take(data.begin, true)
    if (!again) return
    this.figures = new Figures(1, data.seconds)
    this.marks = []
    this.look(null)
    this.close()
    this.open()
  }

  // The line

  async open() {
    if (this.source || document.hidden || this.ended || !this.data) return
    this.heard = Date.now()
    this.pending = []
    const source = new EventSource("/loupe/series/events")
    this.source = source
    source.addEventListener("series", (event) => {
      if (this.source !== source) return
      this.heard = Date.now()
      const told = JSON.parse(event.data)
      if (this.pending) this.pending.push(told)
      else this.take(told)
    })
    source.onerror = () => this.source === source && this.lost()
    this.beat = setInterval(() => this.check(), 2000)
    await this.remember(source)
  }

  async remember(source) { // the past, then what has come meanwhile
    try {
      const answer = await fetch(`/loupe/hardware/history?seconds=${this.data.seconds}&points=${POINTS}`, { cache: "no-store" })
      if (!answer.ok) throw Object.assign(new Error(`${answer.status}`), { status: answer.status })
      const past = await answer.json()
      if (this.source !== source) return
      this.figures = new Figures(past.step, this.data.seconds)
      this.figures.fill(past)
      this.marks = past.happened
      const pending = this.pending
      this.pending = null
      for (const told of pending) this.take(told, true)
      this.down = undefined
      this.signedOut = false
      this.tell()
      this.draw()
    } catch (error) {
      if (this.source !== source) return
      this.signedOut = error.status === 401 || error.status === 403
      this.lost()
    }
  }

  close() {
    clearTimeout(this.again)
    clearInterval(this.beat)
    this.source?.close()
    this.source = null
  }

  end() {
    this.ended = true
    this.close()
    this.sized.disconnect()
    this.turned.disconnect()
    this.scheme.removeEventListener("change", this.recolour)
    document.removeEventListener("visibilitychange", this.visibility)
  }

  lost() {
    this.down = this.down ?? Date.now()
    this.tell()
    this.close()
    this.again = setTimeout(() => this.open(), RETRY)
  }

  check() {
    if (!this.root.isConnected) this.end()
    else if (Date.now() - this.heard > SILENCE) this.lost()
  }

  tell() {
    const line = this.at("link")
    const age = this.down === undefined ? 0 : Math.round((Date.now() - this.down) / 1000)
    say(line, this.signedOut ? "You are signed out, or may not see this. Reload the page and sign in."
      : this.down !== undefined ? `The connection to Loupe is lost; what you see is ${age} s old. Trying again.`
        : this.view.unknown.history ? `Up to date, but ${this.view.unknown.history}` : "Up to date")
    line.dataset.tone = this.down !== undefined ? "bad" : this.view.unknown.history ? "warn" : "good"
    this.root.classList.toggle("lp-old", this.down !== undefined)
  }

  // What is told

  take(told, quiet = false) {
    if (told.now) this.now = { ...told.now }
    else {
      Object.assign(this.now, told.set)
      for (const name of told.gone ?? []) delete this.now[name]
    }
    for (const name of ["limits", "names", "holders", "unknown"]) if (told[name]) this.view[name] = told[name]
    if (this.figures && told.at) this.figures.add(told.at, this.now)
    const fresh = (told.happened ?? []).filter((one) => !this.marks.some((mark) => mark.at === one.at && mark.text === one.text))
    if (fresh.length) this.marks = [...this.marks, ...fresh]
    if (told.at) this.seen = told.at
    this.noteChange(told)
    if (quiet) return this.arrange()
    this.tell()
    this.draw()
  }

  noteChange(told) { // of hosts and jobs, which the page tells of beside the series
    const { hosts_down: down, jobs_running: jobs } = this.now
    const key = `${down} ${jobs}`
    const changed = this.around !== undefined && (key !== this.around || told.happened?.some((one) => one.kind === "host"))
    this.around = key
    if (changed) this.send("changed", told.at)
  }

  arrange() { // a row for each chart
    this.view.series = this.figures?.series ?? this.view.series
    const wanted = charts(this.view)
    const key = wanted.map((chart) => chart.id).join()
    if (key !== this.arranged) {
      this.arranged = key
      this.at("rows").replaceChildren()
      this.rows.clear()
      for (const chart of wanted) this.rows.set(chart.id, this.row(chart))
    }
    for (const chart of wanted) this.rows.get(chart.id).chart = chart
  }

  row(chart) {
    const element = make("div", "lp-row-of-series", this.at("rows"))
    element.dataset.chart = chart.id
    const says = make("div", "lp-says", element)
    const name = make("h3", "", says)
    say(name, chart.title, chart.about)
    const row = { element, main: make("b", "", says), sub: make("small", "", says), canvas: make("canvas", "", element) }
    row.canvas.setAttribute("role", "img")
    return row
  }

  // Drawing

  recolour() {
    const dark = isDark(this.root)
    if (dark === this.dark) return
    this.dark = dark
    this.colours = Object.fromEntries(["text", "muted", "line", "accent", "good", "warn", "bad", "ground"]
      .map((name) => [name, colour(this.root, `var(--lp-${name})`)]))
    this.font = `12px ${getComputedStyle(this.root).fontFamily}`
    this.draw()
  }

  draw() {
    this.arrange()
    if (!this.colours) return this.recolour()
    if (!this.figures || !this.data) return
    this.until = Math.max(this.seen ?? 0, this.figures.at.at(-1) ?? 0) || Date.now() / 1000
    this.since = this.until - this.data.seconds
    for (const row of this.rows.values()) this.drawRow(row)
    this.drawAxis()
    this.drawMarks()
    this.readAll()
    this.tellHappened()
  }

  surface(canvas) { // its context, cleared, in px of the page
    const width = canvas.clientWidth
    const height = canvas.clientHeight
    const ratio = window.devicePixelRatio || 1
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio)
      canvas.height = Math.round(height * ratio)
    }
    const context = canvas.getContext("2d")
    context.setTransform(ratio, 0, 0, ratio, 0, 0)
    context.clearRect(0, 0, width, height)
    return { context, width, height, x: (at) => ((at - this.since) / this.data.seconds) * width }
  }

  ticks(width) {
    const step = TICKS.find((each) => (each / this.data.seconds) * width >= 64) ?? TICKS.at(-1)
    const zone = -new Date(this.until * 1000).getTimezoneOffset() * 60
    const found = []
    for (let at = Math.ceil((this.since + zone) / step) * step - zone; at <= this.until; at += step) found.push(at)
    return { step, found }
  }

  drawRow({ chart, canvas }) {
    const { context, width, height, x } = this.surface(canvas)
    if (!width) return
    const lines = chart.lines(this.view)
    const stack = chart.stack ? layers(this.view, chart.stack) : []
    const most = this.most(chart, lines)
    const top = 14
    const y = (value) => height - 1 - (value / most) * (height - top - 1)
    context.strokeStyle = this.colours.line
    context.lineWidth = 1
    for (const at of this.ticks(width).found) this.rule(context, x(at), 0, x(at), height)
    this.rule(context, 0, y(most), width, y(most))
    this.drawStack(context, stack, chart, x, y)
    lines.forEach((line, index) => this.drawLine(context, line, x, y, this.tint(index, lines.length)))
    context.fillStyle = this.colours.muted
    context.font = this.font
    context.textBaseline = "bottom"
    context.fillText(chart.words(most), 3, top - 1)
  }

  most(chart, lines) {
    const fixed = chart.most?.(this.view)
    if (fixed) return fixed
    let most = 0
    for (const line of lines) for (const value of this.column(line)) if (value > most) most = value
    return nice(Math.max(most * 1.05, chart.floor ?? 1))
  }

  rule(context, x1, y1, x2, y2) {
    context.beginPath()
    context.moveTo(Math.round(x1) + 0.5, Math.round(y1) + 0.5)
    context.lineTo(Math.round(x2) + 0.5, Math.round(y2) + 0.5)
    context.stroke()
  }

  tint(index, count) { // of many lines each a little different, the first and the last apart
    if (count < 3) return this.colours.accent
    const [from, to] = [this.colours.accent, this.colours.warn].map((text) => text.match(/[\d.]+/g).slice(0, 3).map(Number))
    return `rgb(${from.map((part, place) => Math.round(part + ((to[place] - part) * index) / (count - 1))).join()})`
  }

  column({ name, sum = [name] }) {
    const columns = sum.map((one) => this.figures.series.get(one)).filter(Boolean)
    if (columns.length < 2) return columns[0] ?? []
    return columns[0].map((_, place) => columns.reduce((total, column) => total + column[place], 0))
  }

  runs(line) { // stretches without a gap, as [first, last] places
    const { at, step } = this.figures
    const column = this.column(line)
    const found = []
    let run = null
    for (let place = 0; place < column.length; place++) {
      if (Number.isNaN(column[place])) continue
      if (run && at[place] - at[run[1]] <= GAP * step) run[1] = place
      else found.push((run = [place, place]))
    }
    return { column, found }
  }

  drawLine(context, line, x, y, tint) {
    const { at, step } = this.figures
    const { column, found } = this.runs(line)
    for (const [first, last] of found) {
      context.beginPath()
      let before = null
      for (let place = first; place <= last; place++) {
        if (Number.isNaN(column[place])) continue
        const [px, py] = [x(at[place]), y(column[place])]
        if (before === null) context.moveTo(px, py)
        else {
          if (line.steps) context.lineTo(px, before)
          context.lineTo(px, py)
        }
        before = py
      }
      const end = x(Math.min(at[last] + step, this.until))
      context.lineTo(Math.max(end, x(at[last]) + 1.5), before)
      context.strokeStyle = tint
      context.globalAlpha = line.faint ? 0.5 : 1
      context.lineWidth = 1.5
      context.stroke()
      if (line.area) {
        context.lineTo(Math.max(end, x(at[last]) + 1.5), y(0))
        context.lineTo(x(at[first]), y(0))
        context.fillStyle = tint
        context.globalAlpha = 0.12
        context.fill()
      }
      context.globalAlpha = 1
    }
  }

  drawStack(context, names, chart, x, y) { // layers above one another, each in its variant's colour
    const { at, step } = this.figures
    const floor = new Array(at.length).fill(0)
    for (const name of names) {
      const column = this.figures.series.get(name)
      context.fillStyle = this.layer(name.slice(chart.stack.length))
      context.globalAlpha = 0.75
      for (let place = 0; place < at.length; place++) {
        if (Number.isNaN(column[place])) continue
        const [left, right] = [x(at[place]), x(Math.min(at[place + 1] ?? at[place] + step, at[place] + GAP * step))]
        const [low, high] = [y(floor[place]), y(floor[place] + column[place])]
        context.fillRect(left, high, Math.max(1, right - left + 0.5), Math.max(1, low - high - 1))
        floor[place] += column[place]
      }
      context.globalAlpha = 1
    }
  }

  layer(model) {
    return this.data.colours[model] ?? this.colours.muted
  }

  drawAxis() {
    const { context, width, x } = this.surface(this.at("axis"))
    if (!width) return
    const { step, found } = this.ticks(width)
    context.fillStyle = this.colours.muted
    context.font = this.font
    context.textBaseline = "middle"
    for (const at of found) {
      const text = step >= 86400 ? day(new Date(at * 1000)) : clock(at, false).slice(-5)
      const half = context.measureText(text).width / 2
      context.fillText(text, Math.max(0, Math.min(width - 2 * half, x(at) - half)), 11)
    }
  }

  drawMarks() {
    const { context, width, height, x } = this.surface(this.at("marks"))
    for (const mark of this.marks) {
      if (mark.at < this.since) continue
      context.fillStyle = this.colours[KINDS[mark.kind] ?? "muted"]
      context.beginPath()
      context.arc(Math.min(width - 4, Math.max(4, x(mark.at))), height / 2, 3.5, 0, 7)
      context.fill()
    }
  }

  // Reading

  point(clientX) {
    const box = this.at("axis").getBoundingClientRect()
    if (!this.figures || clientX < box.left - 2) return this.look(null)
    this.look(this.since + Math.min(1, Math.max(0, (clientX - box.left) / box.width)) * this.data.seconds)
  }

  look(at) {
    if (at === null && this.cursor === null) return
    this.cursor = at
    this.readAll()
  }

  readAll() {
    if (!this.figures || !this.since) return
    const past = this.cursor !== null
    const place = past ? this.figures.place(this.cursor) : -1
    const there = place >= 0 && this.cursor - this.figures.at[place] <= GAP * this.figures.step
    const at = (name) => (past ? (there ? this.figures.value(name, place) : undefined) : this.now[name])
    for (const row of this.rows.values()) this.read(row, at)
    const moment = this.at("moment")
    const near = past ? this.near() : null
    say(moment, near ? `${clock(near.at, true)} ${near.text}` : past ? `at ${clock(this.cursor, true)}` : "now", near?.text ?? "")
    moment.classList.toggle("lp-past", past)
    const line = this.at("cursor")
    line.hidden = !past
    if (past) {
      const axis = this.at("axis")
      line.style.transform = `translateX(${axis.offsetLeft + ((this.cursor - this.since) / this.data.seconds) * axis.clientWidth}px)`
    }
  }

  near() { // what happened at the cursor, within some px
    const reach = (6 / this.at("axis").clientWidth) * this.data.seconds
    return this.marks.filter((mark) => Math.abs(mark.at - this.cursor) <= reach)
      .sort((a, b) => Math.abs(a.at - this.cursor) - Math.abs(b.at - this.cursor))[0]
  }

  read(row, at) {
    const { main, sub, parts, title } = row.chart.read(at, this.view)
    say(row.main, main)
    if (parts?.length) {
      const key = parts.map(([name, value]) => `${name} ${size(value)}`).join()
      if (row.told !== key) {
        row.told = key
        row.sub.replaceChildren()
        for (const [name, value] of parts) {
          const part = make("span", "", row.sub)
          make("i", "", part).style.background = this.layer(name)
          part.append(`${short(name)} ${size(value)}`)
        }
      }
      row.sub.title = title
    } else {
      row.told = ""
      say(row.sub, sub, title ?? sub)
    }
    const label = `${row.chart.title}: ${main}${sub ? `, ${sub}` : ""}`
    if (this.cursor === null && row.canvas.ariaLabel !== label) row.canvas.ariaLabel = label
  }

  tellHappened() {
    const shown = this.marks.filter((mark) => mark.at >= this.since).slice(-TOLD).reverse()
    const key = shown.map((mark) => `${mark.at}${mark.text}`).join()
    this.at("quiet").hidden = shown.length > 0
    if (key === this.toldHappened) return
    this.toldHappened = key
    const list = this.at("happened")
    list.replaceChildren()
    for (const mark of shown) {
      const item = make("li", "", list)
      item.dataset.kind = mark.kind
      say(make("time", "", item), clock(mark.at, true))
      say(make("span", "", item), mark.text)
    }
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".lp-series")
  if (!root || !data) return undefined
  root.__series ??= new Series(root)
  root.__series.send = setTriggerValue
  root.__series.show(data)
  return () => {
    root.__series?.end()
    delete root.__series
  }
}
