import { describe, expect, it } from 'vitest'

type Texts = { [key: string]: string | Texts }
const files = import.meta.glob<Texts>('./*/*.json', { eager: true, import: 'default' })
const sources = import.meta.glob<string>('../**/*.{vue,ts}', { eager: true, query: '?raw', import: 'default' })

/** `feature.key.key` -> text, of one language. */
function texts(locale: string): Map<string, string> {
  const found = new Map<string, string>()
  const walk = (prefix: string, part: string | Texts) => {
    if (typeof part === 'string') found.set(prefix, part)
    else Object.entries(part).forEach(([key, inner]) => walk(`${prefix}.${key}`, inner))
  }
  for (const [path, part] of Object.entries(files)) {
    const [, language, file] = path.split('/')
    if (language === locale) walk(file!.replace('.json', ''), part)
  }
  return found
}

const placeholders = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(String).sort()

describe('texts', () => {
  const en = texts('en')
  const zh = texts('zh-CN')

  it('are there in both languages, with the same placeholders', () => {
    expect([...zh.keys()].sort()).toEqual([...en.keys()].sort())
    for (const [key, text] of en) expect(placeholders(zh.get(key)!), key).toEqual(placeholders(text))
  })

  it('say something, and Chinese ones are Chinese', () => {
    for (const [key, text] of [...en, ...zh]) expect(text.trim(), key).not.toBe('')
    const foreign = [...en].filter(([key, text]) => zh.get(key) === text && /[a-z]{3}/i.test(text)).map(([key]) => key)
    expect(foreign.filter((key) => !SAME_IN_BOTH.test(key))).toEqual([])
  })

  it('have Chinese punctuation in Chinese', () => {
    const wrong = [...zh].filter(([, text]) => /[\u4e00-\u9fff][,;?:!(]/.test(text)).map(([key]) => key)
    expect(wrong).toEqual([])
  })

  it('have no sign that vue-i18n reads as a link to another text', () => {
    const linked = [...en, ...zh].filter(([, text]) => text.replace(/\{'[^']*'\}/g, '').includes('@')).map(([key]) => key)
    expect(linked).toEqual([]) // the page would lose the part that shows it
  })

  it('that a page asks for by name exist', () => {
    const missing = []
    for (const [path, source] of Object.entries(sources)) {
      for (const [, key] of source.matchAll(/\bt\(\s*'([^']+)'/g)) if (!en.has(key!)) missing.push(`${path}: ${key}`)
    }
    expect(missing).toEqual([])
  })
})

/** Names of products, units and words of the trade that are the same in both languages. */
const SAME_IN_BOTH = /^common\.product$|\.same\./
