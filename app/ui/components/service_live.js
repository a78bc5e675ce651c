// The service layer, live: one event stream in, rows that keep their elements, no rerun of the page.
//
// Rows are found again by their key and placed by transform: whatever comes or goes, no element is made anew and
// nothing that stays is laid out again. Every text goes in as textContent.

const ROW = 32 // px; the style sheet has the same
const SILENCE = 12000 // ms without a word, after which the line counts as broken: the feed speaks every 5 s
const RETRY = 2000
const GIVEN_UP = 6000 // ms after which a click that changed nothing may be made again
const PHASES = {
  new: "arriving", cache: "looking in the cache", queued: "waiting", connect: "connecting", loading: "loading the model",
  prefill: "reading the prompt", decode: "writing", running: "running", done: "done",
}
const OUTCOMES = {
  hit: ["from the cache", "good"], joined: ["shared an answer", "good"], miss: ["not in the cache", ""],
  refresh: ["asked anew", ""], bypass: ["past the cache", ""],
}
const ANSWERING = ["healthy", "busy", "rate limited"]
const BREAKER = "Closed: requests go through. Open: the host failed too often of late, and rests. Half-open: one request tries it."
const STATES = {
  healthy: ["answers", "good"], busy: ["says it is busy", "warn"], warming: ["starting", "warn"],
  unknown: ["not asked yet", ""], offline: ["does not answer", "bad"], misconfigured: ["is not Ollama", "bad"],
  "rate limited": ["asks us to wait", "warn"],
}

// -- words ------------------------------------------------------------------------------------------------------------

function seconds(value) {
  if (value === null || value === undefined || !isFinite(value) || value < 0) return "–"
  if (value < 0.9995) return `${Math.max(1, Math.round(value * 1000))} ms`
  if (value < 9.95) return `${value.toFixed(1)} s`
  if (value < 59.5) return `${Math.round(value)} s`
  return whole(value)
}

function whole(value) { // a clock that runs: whole seconds, so that it does not jitter
  const s = Math.max(0, Math.floor(value))
  if (s < 60) return `${s} s`
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`
  return `${Math.floor(s / 3600)} h ${String(Math.floor(s / 60) % 60).padStart(2, "0")} min`
}

function range(eta) {
  if (!eta) return "–"
  const [low, high] = eta.map((value) => Math.max(0, value))
  if (high < 1) return "< 1 s"
  if (high < 59.5) {
    const [a, b] = [Math.floor(low), Math.ceil(high)]
    return a === b ? `${b} s` : `${a}–${b} s`
  }
  if (low < 59.5) return `${Math.floor(low)} s–${Math.ceil(high / 60)} min`
  const [a, b] = [Math.floor(low / 60), Math.ceil(high / 60)]
  return a === b ? `${b} min` : `${a}–${b} min`
}

function size(bytes) {
  const [value, unit] = bytes < 999.5 * 2 ** 20 ? [bytes / 2 ** 20, "MiB"] : [bytes / 2 ** 30, "GiB"]
  return `${value.toFixed(value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2)} ${unit}`
}

const number = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f")

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

function tone(element, name) {
  if (element.dataset.tone !== name) element.dataset.tone = name
}

function show(element, on) {
  if (element.hidden === on) element.hidden = !on
}

function model(parent) { // a long name gives way in front: what tells variants apart stands at its end
  const box = make("a", "lp-m", parent)
  parent.addEventListener("click", (event) => { // the whole row opens it; its text can be selected, its buttons act
    if (box.href && !event.target.closest("a, button") && String(getSelection()) === "") box.click()
  })
  return { box, head: make("span", "lp-m-head", box), tail: make("span", "lp-m-tail", box) }
}

function sayModel(part, name, request = "") { // a link to the page of that request, where there is one
  const at = Math.max(name.lastIndexOf(":"), name.lastIndexOf("-")) + 1
  say(part.head, name.slice(0, at))
  say(part.tail, name.slice(at))
  const link = request && `dashboard?view=Requests&request=${encodeURIComponent(request)}`
  if (link === (part.box.getAttribute("href") ?? "") && part.box.title === name) return
  part.box.title = name
  if (link) part.box.setAttribute("href", link)
  else part.box.removeAttribute("href")
}

function button(parent, label, act) {
  const made = make("button", "lp-act", parent)
  made.type = "button"
  made.textContent = label
  made.addEventListener("click", act)
  return made
}

// Rows by key: made once, updated in place, moved by transform.
class Rows {
  constructor(box, create, height = ROW) {
    this.box = box
    this.create = create
    this.height = height
    this.rows = new Map()
  }

  update(items, key, update) {
    const seen = new Set()
    items.forEach((item, index) => {
      const id = key(item, index)
      seen.add(id)
      let row = this.rows.get(id)
      if (!row) {
        row = this.create(item)
        row.element.dataset.key = id
        this.rows.set(id, row)
        this.box.append(row.element)
      }
      const place = `translateY(${index * this.height}px)`
      if (row.element.style.transform !== place) row.element.style.transform = place
      if (row.index !== index) {
        row.index = index
        row.element.setAttribute("aria-posinset", String(index + 1))
      }
      update(row, item, index)
    })
    for (const [id, row] of this.rows) {
      if (!seen.has(id)) {
        row.element.remove()
        this.rows.delete(id)
      }
    }
    const tall = `${items.length * this.height}px`
    if (this.box.style.height !== tall) this.box.style.height = tall
  }
}

// -- the page ---------------------------------------------------------------------------------------------------------

class Live {
  constructor(root) {
    this.root = root
    this.at = (name) => root.querySelector(`[data-lp="${name}"]`)
    this.offset = 0
    this.heard = Date.now()
    this.asked = new Map()
    this.waiting = new Rows(this.at("waiting"), () => this.makeTicket())
    this.recent = new Rows(this.at("recent"), () => this.makeRecent(), 28)
    this.hosts = new Map()
    for (const [name, what] of [["pause", "pause"], ["drain", "drain-queue"], ["resume", "resume"]])
      this.at(name).addEventListener("click", () => this.act(what, ""))
    this.visibility = () => (document.hidden ? this.close() : this.open())
    document.addEventListener("visibilitychange", this.visibility)
    this.clock = setInterval(() => this.tick(), 1000)
  }

  // The line

  open() {
    if (this.source || document.hidden || this.ended) return
    this.heard = Date.now()
    const source = new EventSource("/loupe/service/events")
    this.source = source
    source.addEventListener("service", (event) => {
      this.heard = Date.now()
      this.draw(JSON.parse(event.data))
    })
    source.onerror = () => {
      if (this.source !== source) return
      this.broken()
      this.close()
      this.again = setTimeout(() => this.open(), RETRY)
    }
  }

  close() {
    clearTimeout(this.again)
    this.source?.close()
    this.source = null
  }

  end() {
    this.ended = true
    this.close()
    clearInterval(this.clock)
    document.removeEventListener("visibilitychange", this.visibility)
  }

  async broken() {
    this.linkDown = this.linkDown ?? Date.now()
    this.tellLink()
    try {
      const answer = await fetch("/loupe/queue", { cache: "no-store" })
      if (answer.status === 401) this.signedOut = true
    } catch {
      // No answer at all: the line says so already.
    }
    this.tellLink()
  }

  tellLink() {
    const line = this.at("link")
    const down = this.linkDown !== undefined
    const since = down ? whole((Date.now() - this.linkDown) / 1000) : ""
    say(line, this.signedOut ? "You are signed out. Reload the page and sign in with the token."
      : down ? `The connection to Loupe is lost; what you see is ${since} old. Trying again.` : "Up to date")
    tone(line, down ? "bad" : "good")
    this.root.classList.toggle("lp-old", down)
  }

  tick() {
    if (!this.root.isConnected) return this.end()
    if (document.hidden) return
    if (this.source && Date.now() - this.heard > SILENCE) {
      this.broken()
      this.close()
      this.again = setTimeout(() => this.open(), RETRY)
    }
    if (this.linkDown !== undefined) this.tellLink()
    else this.times()
  }

  // Drawing

  draw(view) {
    this.view = view
    this.offset = view.now - Date.now() / 1000
    this.linkDown = undefined
    this.signedOut = false
    this.tellLink()
    this.drawCache(view)
    this.drawQueue(view.queue)
    this.drawHosts(view)
    this.times()
  }

  age(moment) {
    return Date.now() / 1000 + this.offset - moment
  }

  times() { // what a clock moves, and nothing else
    if (!this.view) return
    for (const row of this.waiting.rows.values()) say(row.waited, whole(this.age(row.item.since)))
    for (const row of this.recent.rows.values()) say(row.ago, this.ago(row.item.ended))
    for (const host of this.hosts.values())
      for (const row of host.slots.rows.values()) say(row.time, row.item ? whole(this.age(row.item.since)) : "")
  }

  ago(moment) {
    const age = this.age(moment)
    return age < 3 ? "just now" : age < 60 ? `${Math.floor(age)} s ago` : `${Math.floor(age / 60)} min ago`
  }

  drawCache({ cache, recent, requests }) {
    const inside = requests.filter((one) => ["new", "cache"].includes(one.phase) || one.cache === "joined")
    this.at("cache").classList.toggle("lp-here", inside.length > 0)
    const asked = cache.hits + cache.misses
    const facts = cache.off ? `off: ${cache.off}`
      : `${number(cache.entries)} ${cache.entries === 1 ? "entry" : "entries"}, ${size(cache.bytes)} of ${size(cache.limit)}`
    say(this.at("cache-facts"), facts, facts)
    tone(this.at("cache-facts"), cache.off ? "warn" : "")
    say(this.at("cache-rate"), asked ? `${Math.floor((100 * cache.hits) / asked)} %` : "–")
    say(this.at("cache-of"), asked ? `of ${number(asked)} look-ups answered` : "no look-up yet")
    const shares = inside.filter((one) => one.cache === "joined").length
    say(this.at("cache-now"), shares ? `${shares} share an answer that is being written` : "")
    show(this.at("no-recent"), recent.length === 0)
    this.recent.update(recent, (one) => one.id, (row, one) => {
      row.item = one
      sayModel(row.model, one.model, one.id)
      const [words, kind] = OUTCOMES[one.cache] ?? [one.cache, ""]
      const failed = one.status !== "ok"
      const told = failed ? (one.status === "cancelled" ? "cancelled" : "failed") : words
      say(row.outcome, told, failed ? one.error || told : one.why ? `${words}: ${one.why}` : told)
      tone(row.outcome, failed ? (one.status === "cancelled" ? "" : "bad") : kind)
      say(row.took, seconds(one.seconds))
    })
  }

  makeRecent() {
    const element = make("li", "lp-r")
    return { element, outcome: make("span", "lp-outcome", element), model: model(element), took: make("span", "lp-n", element),
      ago: make("span", "lp-n lp-mute", element) }
  }

  drawQueue(queue) {
    const count = queue.waiting.length
    this.at("queue").classList.toggle("lp-here", count > 0)
    say(this.at("queue-count"), number(count))
    say(this.at("queue-of"), count === 1 ? "waits" : "wait")
    const { paused, draining } = queue
    const facts = paused && draining ? "Paused and draining: nothing begins, nothing new is taken."
      : paused ? "Paused: what runs ends, nothing new begins."
      : draining ? "Draining: who waits is served, nothing new is taken."
      : `${queue.running.length || "nothing"} ${queue.running.length < 2 ? "runs" : "run"}, room for ${number(Math.max(0, queue.limit - count))} more`
    say(this.at("queue-facts"), facts, facts)
    tone(this.at("queue-facts"), paused || draining ? "warn" : "")
    show(this.at("pause"), !paused)
    show(this.at("drain"), !draining)
    show(this.at("resume"), paused || draining)
    show(this.at("waiting-head"), count > 0)
    this.waiting.update(queue.waiting, (one) => one.id, (row, one) => {
      row.item = one
      say(row.position, String(one.position))
      sayModel(row.model, one.model, one.request)
      say(row.kind, one.priority, whose(one))
      say(row.eta, range(one.eta), one.eta ? "when its turn comes, from what was measured here"
        : "nothing has been measured yet from which it could be told")
      say(row.why, one.why, one.why)
      const other = one.priority === "batch" ? "interactive" : "batch"
      say(row.move, `To ${other}`, `Move to the ${other} class`)
      row.element.classList.toggle("lp-going", this.pending(one.id, "cancel"))
    })
  }

  makeTicket() {
    const element = make("li", "lp-t")
    const row = { element }
    row.position = make("span", "lp-n lp-pos", element)
    row.model = model(element)
    row.kind = make("span", "lp-kind", element)
    row.waited = make("span", "lp-n lp-mute lp-waited", element)
    row.eta = make("span", "lp-n lp-eta", element)
    row.why = make("span", "lp-why", element)
    const acts = make("span", "lp-acts", element)
    row.move = button(acts, "To batch", () => this.act("move", row.item.id, row.item.priority === "batch" ? "interactive" : "batch"))
    row.cancel = button(acts, "Cancel", () => this.act("cancel", row.item.id))
    return row
  }

  drawHosts({ hosts, queue }) {
    const box = this.at("host-list")
    const answering = hosts.filter((host) => ANSWERING.includes(host.state))
    const busy = hosts.reduce((sum, host) => sum + host.busy, 0)
    const slots = answering.reduce((sum, host) => sum + host.slots, 0)
    this.at("hosts").classList.toggle("lp-here", busy > 0)
    say(this.at("hosts-count"), slots ? `${busy} of ${slots}` : "–")
    say(this.at("hosts-of"), !slots ? "no host answers" : slots === 1 ? "slot taken" : "slots taken")
    say(this.at("hosts-facts"), hosts.length === 1 ? "" : `${answering.length} of ${hosts.length} hosts answer`)
    for (const [name, host] of this.hosts) {
      if (!hosts.some((one) => one.name === name)) {
        host.element.remove()
        this.hosts.delete(name)
      }
    }
    for (const host of hosts) {
      let part = this.hosts.get(host.name)
      if (!part) {
        part = this.makeHost(host.name)
        this.hosts.set(host.name, part)
        box.append(part.element)
      }
      this.drawHost(part, host, queue.running.filter((one) => one.host === host.name))
    }
  }

  makeHost(name) {
    const element = make("section", "lp-host-box")
    element.dataset.key = name
    const head = make("header", "", element)
    const part = { element, head }
    part.name = make("h3", "", head)
    part.state = make("span", "lp-st", head)
    const acts = make("span", "lp-acts", head)
    part.drain = button(acts, "Drain", () => this.act(part.host.draining ? "undrain" : "drain", name))
    part.remove = button(acts, "Remove", () => this.act("remove", name))
    part.facts = make("p", "lp-facts", element)
    part.error = make("p", "lp-facts lp-error", element)
    part.loaded = make("p", "lp-loaded", element)
    part.warnings = make("p", "lp-facts lp-warned", element)
    part.slots = new Rows(make("ol", "lp-slots", element), () => this.makeSlot())
    return part
  }

  drawHost(part, host, running) {
    part.host = host
    say(part.name, host.embedded ? "built-in runtime" : host.name, host.url)
    const [words, kind] = STATES[host.state] ?? [host.state, ""]
    const limited = host.state === "rate limited" && host.rests ? `${words} ${whole(host.rests)}` : words
    say(part.state, host.draining ? (host.busy ? "draining" : "drained") : limited)
    tone(part.state, host.draining ? "warn" : kind)
    say(part.drain, host.draining ? "Take back" : "Drain", host.draining ? "Send new requests there again"
      : "What runs there ends; nothing new is sent there")
    show(part.remove, Boolean(host.added))
    const rests = host.rests ? `, tries again in ${whole(host.rests)}` : ""
    const facts = [host.version && `version ${host.version}`, host.round_trip !== null && ANSWERING.includes(host.state) && `round trip ${seconds(host.round_trip)}`,
      `breaker ${host.breaker}${host.breaker === "closed" ? "" : rests}`].filter(Boolean).join(" · ")
    say(part.facts, facts, BREAKER)
    tone(part.facts, host.breaker === "closed" ? "" : "warn")
    say(part.error, host.error)
    show(part.error, Boolean(host.error))
    const loaded = host.loaded.length ? `In memory: ${host.loaded.join(", ")}` : "Nothing is in memory"
    say(part.loaded, loaded, loaded)
    show(part.loaded, ANSWERING.includes(host.state))
    say(part.warnings, host.warnings.map((one) => one.text).join(" "))
    tone(part.warnings, host.warnings.some((one) => one.severe) ? "bad" : "warn")
    show(part.warnings, host.warnings.length > 0)
    const slots = ANSWERING.includes(host.state) ? host.slots : 0 // nothing is free on a host that is away
    const rows = Array.from({ length: Math.max(slots, running.length) }, (_, index) => running[index] ?? null)
    // A slot keeps its place while its request runs, whatever begins or ends beside it.
    const placed = place(part.placed ?? [], rows)
    part.placed = placed.map((one) => one?.id ?? null)
    part.slots.update(placed, (_, index) => String(index), (row, one) => {
      row.item = one
      row.element.classList.toggle("lp-free", !one)
      sayModel(row.model, one ? one.model : "free", one?.request)
      const tokens = one?.tokens ? `, ${number(one.tokens)} tokens` : ""
      say(row.phase, one ? (PHASES[one.phase] ?? one.phase) + tokens : "", one ? `${one.priority}, ${whose(one)}` : "")
      show(row.cancel, Boolean(one))
      row.element.classList.toggle("lp-going", Boolean(one) && this.pending(one.id, "cancel"))
      if (!one) say(row.time, "")
    })
  }

  makeSlot() {
    const element = make("li", "lp-slot")
    const row = { element, model: model(element), phase: make("span", "lp-phase", element), time: make("span", "lp-n lp-mute", element) }
    row.cancel = button(make("span", "lp-acts", element), "Cancel", () => this.act("cancel", row.item.id))
    return row
  }

  // Acting

  act(what, id, value = "") {
    if (this.pending(id, what, value) || this.pending(id, "cancel")) return
    this.asked.set(id, { what, value, at: Date.now() })
    this.send("act", { what, id, value })
    if (this.view) this.draw(this.view)
  }

  pending(id, what, value = "") { // the last thing asked of it, for a while: its opposite may follow at once
    const asked = this.asked.get(id)
    if (asked && Date.now() - asked.at > GIVEN_UP) this.asked.delete(id)
    return this.asked.has(id) && asked.what === what && asked.value === value
  }
}

function whose(one) { // who asked; identical questions share one answer
  return one.flow + (one.sharing > 1 ? `, with ${one.sharing - 1} more who asked the same` : "")
}

function place(before, items) {
  const found = items.filter(Boolean)
  const placed = items.map((_, index) => found.find((one) => one.id === before[index]) ?? null)
  for (const one of found) if (!placed.includes(one)) placed[placed.indexOf(null)] = one
  return placed
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".lp-service")
  if (!root) return undefined
  const live = (root.__live ??= new Live(root))
  live.send = setTriggerValue
  if (!live.view && data?.view) live.draw(data.view)
  live.open()
  return () => {
    live.end()
    delete root.__live
  }
}
