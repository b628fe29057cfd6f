import { describe, expect, it } from 'vitest'

import { decorate, toElements } from './markdown'

function drawn(text: string): HTMLDivElement {
  const box = document.createElement('div')
  box.append(toElements(text))
  return box
}

const ALLOWED = new Set(['href', 'title', 'class', 'src', 'alt', 'start', 'data-math', 'target', 'rel'])

/** What no answer may bring into the page. */
function harm(box: HTMLElement): string[] {
  const found: string[] = []
  for (const node of box.querySelectorAll('*')) {
    if (/^(script|style|iframe|object|embed|svg|math|form|input|button|link|meta|base|video|audio)$/i.test(node.nodeName)) found.push(node.nodeName)
    for (const { name, value } of node.attributes) {
      if (!ALLOWED.has(name.toLowerCase())) found.push(`${name}=${value}`)
      if (name === 'href' && !/^(https?:|mailto:)/i.test(value)) found.push(`href ${value}`)
      if (name === 'src' && !/^data:image\/(png|jpeg|gif|webp);base64,/i.test(value)) found.push(`src ${value}`)
    }
  }
  return found
}

// KaTeX wants a document that says its type, which happy-dom's does not
Object.defineProperty(document, 'compatMode', { value: 'CSS1Compat' })

describe('hostile Markdown', () => {
  it.each([
    '<script>alert(1)</script>',
    '<img src=x onerror=alert(1)>',
    '<svg onload=alert(1)><script>alert(1)</script></svg>',
    '<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>',
    '<iframe srcdoc="<script>alert(1)</script>"></iframe>',
    '<a href="javascript:alert(1)" onclick="alert(1)">x</a>',
    '[x](javascript:alert(1))',
    '[x](JaVaScRiPt:alert(1))',
    '[x](&#106;avascript:alert(1))',
    '[x](java\nscript:alert(1))',
    '[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)',
    '[x](data:image/png;base64,AAAA)',
    '[x](data:image/svg+xml;base64,AAAA)',
    '[x](vbscript:x) [y](file:///etc/passwd) [z](blob:x)',
    '[x](/account) [y](//evil.example) [z](?a=b) [w](#main)',
    '![x](https://evil.example/track.png)',
    '![x](javascript:alert(1))',
    '![x](data:image/svg+xml;base64,PHN2Zz48L3N2Zz4=)',
    '![x](data:text/html,<script>alert(1)</script>)',
    '![x" onerror="alert(1)](https://evil.example/"onerror="alert(1))',
    '[x](https://a.example "t\\" onmouseover=\\"alert(1)")',
    '[x](https://a.example/" onclick="alert(1))',
    '```"><img src=x onerror=alert(1)>\ncode\n```',
    '```html" onmouseover="alert(1)\ncode\n```',
    '$</code><img src=x onerror=alert(1)>$',
    '$$" onclick="alert(1)$$',
    '<https://a.example/"onclick=alert(1)> <javascript:alert(1)>',
    '| a |\n|---|\n| <img src=x onerror=alert(1)> |',
    '<style>*{display:none}</style><link rel=stylesheet href=//evil.example>',
    '<form action=//evil.example><input name=q><button>x</button></form>',
    '&lt;script&gt;alert(1)&lt;/script&gt;',
    '\u0000<scr\u0000ipt>alert(1)</script>',
    `${'['.repeat(2000)}x`,
  ])('%s', async (text) => {
    const box = drawn(text)
    expect(harm(box)).toEqual([])
    await decorate(box)
    expect(harm(box).filter((one) => /^(on|href|src|action|script|iframe|svg|form)/i.test(one))).toEqual([])
  })
})

describe('Markdown', () => {
  it('has links that open elsewhere and tell nothing', () => {
    const link = drawn('[x](https://a.example/p?q=1) and https://b.example').querySelectorAll('a')
    expect([...link].map((a) => [a.getAttribute('href'), a.target, a.rel])).toEqual([
      ['https://a.example/p?q=1', '_blank', 'noopener noreferrer nofollow'],
      ['https://b.example', '_blank', 'noopener noreferrer nofollow'],
    ])
  })

  it('shows HTML as text', () => {
    expect(drawn('a <b>bold</b>').textContent?.trim()).toBe('a <b>bold</b>')
  })

  it('has tables, lists, images that came with it, and line breaks', () => {
    const box = drawn('| a | b |\n|---|---|\n| 1 | 2 |\n\n3. x\n4. y\n\nl1\nl2 ![i](data:image/png;base64,AAAA)')
    expect(box.querySelectorAll('td')).toHaveLength(2)
    expect(box.querySelector('ol')?.getAttribute('start')).toBe('3')
    expect(box.querySelector('br')).not.toBeNull()
    expect(box.querySelector('img')?.getAttribute('src')).toBe('data:image/png;base64,AAAA')
  })

  it.each([
    ['$a^2$', ['a^2', 'inline']],
    ['\\(a_1\\)', ['a_1', 'inline']],
    ['$$\n\\frac{a}{b}\n$$', ['\n\\frac{a}{b}\n', 'display']],
    ['\\[x < y\\]', ['x < y', 'display']],
  ])('reads TeX in %s', (text, [tex, display]) => {
    const formula = drawn(text!).querySelector<HTMLElement>('[data-math]')
    expect([formula?.textContent, formula?.dataset.math]).toEqual([tex, display])
  })

  it.each(['it costs $5 and $10', '$ a $', 'one $ alone', '`$a$`', '$$ $$', '\\$a\\$'])('leaves %s alone', (text) => {
    expect(drawn(text).querySelector('[data-math]')).toBeNull()
  })

  it('colours code and sets formulas', async () => {
    const box = drawn('```python\nprint("<b>")\n```\n\n```unknown\nx\n```\n\n$\\href{javascript:alert(1)}{x}^2$')
    await decorate(box)
    expect(box.querySelector('.hljs-string')?.textContent).toBe('"<b>"')
    expect(box.querySelector('b')).toBeNull()
    expect(box.querySelector('math')).not.toBeNull()
    expect(box.querySelector('[href]')).toBeNull()
  })
})
