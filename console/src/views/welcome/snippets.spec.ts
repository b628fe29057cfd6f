import { afterEach, describe, expect, it, vi } from 'vitest'

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
  const event = (content: string) => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`
  const replying = (body: string, status = 200) =>
    vi.stubGlobal('fetch', async () => new Response(body, { status, headers: { 'content-type': 'text/event-stream' } }))
  const asked = async (got: string[] = []) => {
    for await (const text of ask(call, new AbortController().signal)) got.push(text)
    return got
  }
  afterEach(() => void vi.unstubAllGlobals())

  it('gives the pieces of the answer', async () => {
    replying(`${event('hel')}${event('lo')}data: [DONE]\n\n`)
    expect(await asked()).toEqual(['hel', 'lo'])
  })

  it('tells a refusal, an end too early, and that nothing came', async () => {
    replying('{"error":{"message":"no such model","code":"model_not_found"}}', 404)
    await expect(asked()).rejects.toMatchObject({ status: 404, message: 'no such model' })
    const got: string[] = []
    replying(event('hel'))
    await expect(asked(got)).rejects.toMatchObject({ status: 0, code: 'broken_off' })
    expect(got).toEqual(['hel'])
    vi.stubGlobal('fetch', async () => { throw new TypeError('Failed to fetch') }) // prettier-ignore
    await expect(asked()).rejects.toMatchObject({ status: 0, code: 'network' })
  })
})
