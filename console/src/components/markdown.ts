/**
 * Markdown of a model → elements that can do no harm. Nothing of the text is ever parsed as HTML: markdown-it reads it
 * into tokens, and each token that is known here becomes an element. So the result holds only these tags, nothing that is
 * fetched from elsewhere, and links that lead out by a click only.
 */
import Markdown, { type MarkdownIt, type Token } from 'markdown-it'

const TAGS = new Set([
  'p', 'hr', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'strong', 'em', 's', 'blockquote', 'ul', 'ol', 'li', 'a',
  'table', 'thead', 'tbody', 'tr', 'th', 'td',
])
const LINK = /^(https?:\/\/|mailto:)/i
const IMAGE = /^data:image\/(png|jpeg|gif|webp);base64,/i

/** TeX between one of these; `$` as pandoc reads it: no space inside, no digit behind. */
const MATH: [open: string, close: string, display: boolean][] = [
  ['$$', '$$', true],
  ['\\[', '\\]', true],
  ['\\(', '\\)', false],
  ['$', '$', false],
]

function math(md: MarkdownIt): void {
  md.inline.ruler.before('escape', 'math', (state, silent) => {
    const { src, pos } = state
    const found = MATH.find(([open]) => src.startsWith(open, pos))
    if (!found) return false
    const [open, close, display] = found
    const start = pos + open.length
    const end = src.indexOf(close, start)
    const tex = src.slice(start, end)
    if (end < 0 || !tex.trim()) return false
    if (open === '$' && (/^\s|\s$/.test(tex) || /\d/.test(src[end + 1] ?? ''))) return false
    if (!silent) {
      const token = state.push('math', 'code', 0)
      token.content = tex
      token.meta = { display }
    }
    state.pos = end + close.length
    return true
  })
}

const markdown = new Markdown({ html: false, linkify: true, breaks: true }).use(math)

/** The text as elements. TeX is in `code[data-math]`, code of a language in `code.language-NAME`. */
export function toElements(text: string): DocumentFragment {
  const root = document.createDocumentFragment()
  append(root, markdown.parse(text, {}))
  return root
}

function append(root: Node, tokens: Token[]): void {
  const open = [root]
  for (const token of tokens) {
    const parent = open.at(-1)!
    if (token.children && token.type === 'inline') append(parent, token.children)
    else if (token.hidden) continue // the paragraphs of a list without empty lines
    else if (token.nesting > 0) open.push(parent.appendChild(element(token)))
    else if (token.nesting < 0) open.pop()
    else parent.appendChild(leaf(token))
  }
}

/** What has other tokens inside. */
function element(token: Token): HTMLElement {
  const made = document.createElement(TAGS.has(token.tag) ? token.tag : 'span')
  if (made instanceof HTMLAnchorElement) {
    const href = String(token.attrGet('href'))
    if (LINK.test(href)) made.href = href
    made.target = '_blank'
    made.rel = 'noopener noreferrer nofollow'
  }
  const start = token.attrGet('start')
  if (made instanceof HTMLOListElement && start !== null) made.start = Number(start)
  return made
}

/** What has none. An unknown one is its own text. */
function leaf(token: Token): Node {
  const { type, content, info, meta } = token
  if (type === 'softbreak' || type === 'hardbreak') return document.createElement('br')
  if (type === 'hr') return document.createElement('hr')
  const code = document.createElement('code')
  code.textContent = content
  if (type === 'code_inline') return code
  if (type === 'math') {
    code.dataset.math = meta?.display ? 'display' : 'inline'
    return code
  }
  if (type === 'fence' || type === 'code_block') {
    const language = /^[\w+#-]+/.exec(info)?.[0]
    if (language) code.className = `language-${language}`
    const block = document.createElement('pre')
    block.append(code)
    return block
  }
  const source = type === 'image' ? String(token.attrGet('src')) : ''
  if (!IMAGE.test(source)) return document.createTextNode(content) // of an image elsewhere, what it is said to show
  const image = document.createElement('img')
  image.src = source
  image.alt = content
  return image
}

/** Colour the code and set the formulas of what `toElements` has made; the libraries for it are loaded when there is any. */
export async function decorate(root: HTMLElement): Promise<void> {
  const codes = [...root.querySelectorAll<HTMLElement>('pre > code[class*="language-"]')]
  const formulas = [...root.querySelectorAll<HTMLElement>('code[data-math]')]
  if (codes.length) {
    const { highlighter } = await import('./highlighter')
    for (const code of codes) {
      const language = /language-([\w+#-]+)/.exec(code.className)?.[1] ?? ''
      // of plain text it makes spans with classes and escaped text
      if (highlighter.getLanguage(language)) code.innerHTML = highlighter.highlight(code.textContent, { language }).value
    }
  }
  if (formulas.length) {
    const { default: katex } = await import('katex')
    for (const formula of formulas) {
      const tex = formula.textContent
      // MathML, which browsers set by themselves: no fonts, no inline styles. `trust: false` leaves out links and images
      const options = { output: 'mathml', trust: false, throwOnError: false, maxExpand: 500, maxSize: 20 } as const
      katex.render(tex, formula, { ...options, displayMode: formula.dataset.math === 'display' })
      formula.classList.add('formula')
    }
  }
}
