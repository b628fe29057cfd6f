import { execFileSync } from 'node:child_process'

import { describe, expect, it } from 'vitest'

import { NotJson, requestOf, resultsOf, titleOf, toCurl, toMarkdown, toPython, wantsResults } from './request'

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

describe('results of tools', () => {
  const calls = [{ id: 'c1', name: 'rate', arguments: '{"a":1}' }, { id: 'c2', name: 'now', arguments: '' }]
  const asked = { role: 'user', content: 'rate?' } as const
  const called = { role: 'assistant', content: '', tool_calls: calls } as const
  const result = (id: string, content: string) => ({ role: 'tool', tool_call_id: id, content }) as const
  const sent = (...messages: Parameters<typeof requestOf>[1]) => requestOf({ model: 'm' }, messages).messages

  it('are sent after the calls that they answer, and images beside them', () => {
    const url = 'data:image/png;base64,AAAA'
    expect(sent({ role: 'user', content: 'this?', images: [url] }, called, result('c1', '{"rate":2}'), result('c2', 'noon'))).toEqual([
      { role: 'user', content: [{ type: 'text', text: 'this?' }, { type: 'image_url', image_url: { url } }] },
      {
        role: 'assistant',
        content: null,
        tool_calls: [
          { id: 'c1', type: 'function', function: { name: 'rate', arguments: '{"a":1}' } },
          { id: 'c2', type: 'function', function: { name: 'now', arguments: '' } },
        ],
      },
      { role: 'tool', tool_call_id: 'c1', content: '{"rate":2}' },
      { role: 'tool', tool_call_id: 'c2', content: 'noon' },
    ])
  })

  it('are left out with their calls where one is missing, comes later, or has no call', () => {
    expect(sent(asked, called, result('c1', '2'), asked)).toEqual([asked, asked])
    expect(sent(asked, { ...called, content: 'text' }, asked, result('c1', '2'), result('c2', '3'))).toEqual([asked, { role: 'assistant', content: 'text' }, asked])
    expect(sent(asked, result('c1', '2'))).toEqual([asked])
    const nameless = { ...called, tool_calls: [{ name: 'f', arguments: '' }] }
    expect(sent(asked, nameless, result('', '2'))).toEqual([asked])
  })

  it('get ids where the upstream has given none', () => {
    const { calls, answers } = resultsOf({ role: 'assistant', tool_calls: [{ name: 'f', arguments: '{}' }, { id: 'x', name: 'g', arguments: '{}' }] }, 2, ['1', '2'])
    expect(calls.map((call) => call.id)).toEqual(['call_2_0', 'x'])
    expect(answers).toEqual([result('call_2_0', '1'), result('x', '2')])
  })

  it('are asked for only when the answer is whole', () => {
    expect(wantsResults(called)).toBe(true)
    expect(wantsResults({ ...called, stopped: true })).toBe(false)
    expect(wantsResults({ ...called, failure: { message: 'cut' } })).toBe(false)
    expect(wantsResults(asked)).toBe(false)
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
  ], { user: 'You', assistant: 'Answer', tool: 'Result' })
  expect(text).toBe('# T\n\n> a\n> b\n\n## You\n\nhi\n\n## Answer · m\n\nho\n\n```json\nf {}\n```\n\n**cut**\n')
})

it.each([
  ['  a\n b ', 'a b'],
  ['', ''],
  ['🚀'.repeat(70), `${'🚀'.repeat(59)}…`],
])('the title of %j', (text, title) => expect(titleOf(text)).toBe(title))
