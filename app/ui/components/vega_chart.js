// A picture of results: a Vega-Lite specification, drawn in the page by the bundle that Loupe serves itself.
//
// Expressions are interpreted (`ast`), so the page needs no `unsafe-eval`. It comes with a specification for light and one
// for dark, and is drawn anew when the page turns.

function library(address) { // once for all pictures of the page
  const url = new URL(address, location.href).href
  window.__loupeVega ??= import(url).then(() => {
    if (!window.vegaEmbed) throw new Error("the chart library did not load")
  })
  window.__loupeVega.catch(() => { window.__loupeVega = undefined })
  return window.__loupeVega
}

function isDark(root) { // as the page is, whatever the machine prefers
  const probe = document.createElement("span")
  probe.style.color = "light-dark(#fff, #000)"
  root.append(probe)
  const dark = getComputedStyle(probe).color === "rgb(0, 0, 0)"
  probe.remove()
  return dark
}

class Chart {
  constructor(root) {
    this.root = root
    this.view = root.querySelector(".lp-chart-view")
    this.fault = root.querySelector(".lp-chart-fault")
    this.ways = root.querySelector(".lp-chart-ways")
    for (const button of this.ways.querySelectorAll("button")) button.onclick = () => this.save(button.dataset.lp)
    this.sized = new ResizeObserver(() => this.fit())
    this.sized.observe(root)
    this.scheme = matchMedia("(prefers-color-scheme: dark)")
    this.turned = () => this.redraw()
    this.scheme.addEventListener("change", this.turned)
    this.page = new MutationObserver(() => this.redraw())
    const app = root.closest(".stApp")
    if (app) this.page.observe(app, { attributes: true, attributeFilter: ["style", "class"] })
  }

  async show(data) {
    this.data = data
    this.view.setAttribute("aria-label", data.alt)
    this.view.style.minHeight = `${data.height}px` // the place is kept, so that nothing jumps
    await this.draw()
  }

  redraw() {
    if (this.data && isDark(this.root) !== this.dark) this.draw()
  }

  fit() {
    const width = this.view.clientWidth
    if (this.data && width && Math.abs(width - this.width) > 4) this.draw()
  }

  async draw() {
    this.dark = isDark(this.root)
    this.width = this.view.clientWidth
    if (!this.width) return // not laid out yet: the observer comes back
    const turn = (this.turn = (this.turn ?? 0) + 1)
    const { specs } = this.data
    const spec = structuredClone(this.dark ? specs.dark : specs.light)
    try {
      await library(this.data.library)
      if (turn !== this.turn) return
      const made = await window.vegaEmbed(this.view, spec, {
        ast: true, actions: false, renderer: "svg", tooltip: { theme: this.dark ? "dark" : "light" },
      })
      this.drawn?.finalize()
      this.drawn = made
      this.view.querySelector("details")?.remove()
      this.fault.hidden = true
      this.ways.hidden = false
    } catch (error) {
      this.fault.textContent = `This picture could not be drawn (${error.message}). Its figures are in the table.`
      this.fault.hidden = false
      this.fault.style.position = "static"
      this.view.style.minHeight = "0"
    }
  }

  async save(kind) {
    if (!this.drawn) return
    const link = document.createElement("a")
    link.href = await this.drawn.view.toImageURL(kind, kind === "png" ? 2 : 1)
    link.download = `${this.data.name}.${kind}`
    link.click()
  }

  end() {
    this.sized.disconnect()
    this.page.disconnect()
    this.scheme.removeEventListener("change", this.turned)
    this.turn = -1
    this.drawn?.finalize()
  }
}

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".lp-chart")
  if (!root || !data) return undefined
  root.__chart ??= new Chart(root)
  root.__chart.show(data)
  return () => {
    root.__chart?.end()
    delete root.__chart
  }
}
