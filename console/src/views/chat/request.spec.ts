import { execFileSync } from 'node:child_process'

import { describe, expect, it } from 'vitest'

import { NotJson, requestOf, titleOf, toCurl, toMarkdown, toPython } from './request'

describe('requestOf', () => {
  it('sends what is set and nothing else', () => {
    expect(requestOf({ model: 'm' }, [{ role: 'user', content: 'hi' }])).toEqual({ model: 'm', messages: [{ role: 'user', content: 'hi' }] })
    const settings = {
      model: 'm', system: 'be brief', temperature: 0, top_p: null, max_tokens: 5, seed: 0, stop: ['\n'],
      tools: '[{"type":"function"}]', response_format: ' {"type":"json_object"} ',
    }
    expect(requestOf(settings, [])).toEqual({
      model: 'm', messages: [{ role: 'system', content: 'be brief' }], temperature: 0, max_tokens: 5, seed: 0, stop: ['\n'],
      tools: [{ type: 'function' }], response_format: { type: 'json_object' },
    })
  })

  it('sends images as parts, and leaves out answers without text', () => {
    const url = 'data:image/png;base64,AAAA'
    const { messages } = requestOf({ model: 'm' }, [
      { role: 'user', content: 'what?', images: [url] },
      { role: 'assistant', content: '', failure: { message: 'no' } },
      { role: 'user', images: [url] },
    ])
    const part = { type: 'image_url', image_url: { url } }
    expect(messages).toEqual([
      { role: 'user', content: [{ type: 'text', text: 'what?' }, part] },
      { role: 'user', content: [part] },
    ])
  })

  it.each(['tools', 'response_format'] as const)('says that %s is no JSON', (field) => {
    expect(() => requestOf({ model: 'm', [field]: '{"a":' }, [])).toThrow(expect.objectContaining({ field }))
    expect(() => requestOf({ model: 'm', [field]: '{' }, [])).toThrow(NotJson)
  })
})

describe('code', () => {
  const body = { model: "it's", messages: [{ role: 'user', content: 'a\n"b" 你好 $HOME' }], stop: [], n: null, ok: true, no: false, t: 0.5 }

  it('for a shell quotes whatever is in it', () => {
    const text = toCurl('http://g', body)
    const script = text.replace('curl', "printf '%s\\0'")
    const words = execFileSync('sh', ['-c', script], { env: { TUNEGATE_API_KEY: 'sk-1' } }).toString().split('\0')
    expect(words.slice(0, 3)).toEqual(['http://g/v1/chat/completions', '-H', 'Authorization: Bearer sk-1'])
    expect(JSON.parse(words.at(-2)!)).toEqual(body)
  })

  it('for Python has its words for values', () => {
    const text = toPython('http://g', body)
    expect(text).toContain('model="it\'s",')
    expect(text).toContain('stop=[],\n    n=None,\n    ok=True,\n    no=False,\n    t=0.5,')
    expect(text).toContain('"content": "a\\n\\"b\\" 你好 $HOME"')
    expect(text).toContain('base_url="http://g/v1"')
  })
})

it('a conversation as Markdown', () => {
  const text = toMarkdown('T', { system: 'a\nb' }, [
    { role: 'user', content: 'hi' },
    { role: 'assistant', content: 'ho', model: 'm', tool_calls: [{ name: 'f', arguments: '{}' }], failure: { message: 'cut' } },
  ], { user: 'You', assistant: 'Answer' })
  expect(text).toBe('# T\n\n> a\n> b\n\n## You\n\nhi\n\n## Answer · m\n\nho\n\n```json\nf {}\n```\n\n**cut**\n')
})

it.each([
  ['  a\n b ', 'a b'],
  ['', ''],
  ['🚀'.repeat(70), `${'🚀'.repeat(59)}…`],
])('the title of %j', (text, title) => expect(titleOf(text)).toBe(title))
