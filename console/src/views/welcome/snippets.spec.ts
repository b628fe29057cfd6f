import { describe, expect, it } from 'vitest'

import { ask, LANGUAGES, snippet } from './snippets'

const call = { gateway: 'http://127.0.0.1:8000/', key: 'sk-tg-1', model: "it's \"m\"", question: "What's up?" }

describe('code for the first answer', () => {
  it('holds the address with /v1, the key and the model', () => {
    for (const language of LANGUAGES) {
      const code = snippet(language, call)
      expect(code).toContain('http://127.0.0.1:8000/v1')
      expect(code).toContain('sk-tg-1')
    }
  })

  it('quotes for each language', () => {
    expect(snippet('python', call)).toContain(String.raw`model="it's \"m\"",`)
    expect(snippet('curl', call)).toContain(String.raw`"it'\''s \"m\""`)
  })
})

describe('asking', () => {
  const replying = (status: number, body: string) => async () => new Response(body, { status })

  it('tells the answer, the refusal, and that nothing came', async () => {
    const good = JSON.stringify({ choices: [{ message: { content: 'hello' } }] })
    expect(await ask(call, replying(200, good))).toEqual({ kind: 'answer', text: 'hello' })
    expect(await ask(call, replying(404, '{"error":{"message":"no such model"}}'))).toEqual({ kind: 'refused', status: 404, reason: 'no such model' })
    expect(await ask(call, replying(502, 'bad gateway'))).toEqual({ kind: 'refused', status: 502, reason: 'bad gateway' })
    expect(await ask(call, async () => { throw new TypeError('Failed to fetch') })).toEqual({ kind: 'unreachable' }) // prettier-ignore
  })
})
