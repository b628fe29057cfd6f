import { describe, expect, it } from 'vitest'

import { GatewayError, events, piece, pieces } from './chatStream'

/** A body that arrives in these pieces. */
function body(...parts: (string | Uint8Array)[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const part of parts) controller.enqueue(typeof part === 'string' ? new TextEncoder().encode(part) : part)
      controller.close()
    },
  })
}

async function all<T>(source: AsyncGenerator<T>): Promise<T[]> {
  const found = []
  for await (const one of source) found.push(one)
  return found
}

const bytes = new TextEncoder().encode('data: 你好🚀\n\n')

describe('events', () => {
  it.each<[string, (string | Uint8Array)[], string[]]>([
    ['one', ['data: a\n\n'], ['a']],
    ['without a space', ['data:a\n\ndata:  b\n\n'], ['a', ' b']],
    ['CRLF', ['data: a\r\n\r\ndata: b\r\n\r\n'], ['a', 'b']],
    ['CRLF cut between its halves', ['data: a\r', '\n\r', '\ndata: b\r\n', '\r\n'], ['a', 'b']],
    ['CR alone', ['data: a\r\rdata: b\r\r', 'data: c\r\r', ': end'], ['a', 'b', 'c']],
    ['comments and other fields', [': ping\n\nevent: x\nid: 1\nretry: 5\ndata: a\n\n:\n\n'], ['a']],
    ['several lines', ['data: a\ndata: b\n\n'], ['a\nb']],
    ['an empty one', ['data:\n\n'], ['']],
    ['cut anywhere', ['da', 'ta', ': ', 'a', '\n', '\n'], ['a']],
    ['characters cut in their middle', [...bytes].map((byte) => new Uint8Array([byte])), ['你好🚀']],
    ['an event that is not complete', ['data: a\n\ndata: b'], ['a']],
    ['nothing', [], []],
  ])('reads %s', async (_, parts, expected) => {
    expect(await all(events(body(...parts)))).toEqual(expected)
  })

  it('cancels the body when nobody reads on', async () => {
    let cancelled = false
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(new TextEncoder().encode('data: a\n\n')),
      cancel: () => void (cancelled = true),
    })
    for await (const data of events(endless)) {
      expect(data).toBe('a')
      break
    }
    expect(cancelled).toBe(true)
  })
})

describe('piece', () => {
  const delta = (inner: object) => JSON.stringify({ choices: [{ delta: inner }] })

  it.each([
    [delta({ content: 'a' }), { content: 'a' }],
    [delta({ content: null, reasoning_content: 'r' }), { reasoning: 'r' }],
    [delta({ reasoning: 'r' }), { reasoning: 'r' }],
    [delta({ role: 'assistant' }), {}],
    [
      delta({ tool_calls: [{ index: 1, id: 'x', function: { name: 'f', arguments: '{' } }] }),
      { toolCalls: [{ index: 1, id: 'x', name: 'f', arguments: '{' }] },
    ],
    ['{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}', { usage: { input: 3, output: 4 } }],
    ['{"choices":[]}', {}],
    ['null', {}],
    ['{}', {}],
  ])('of %s', (data, expected) => {
    expect(piece(data)).toEqual(expected)
  })

  it('that is an error says what the gateway says', () => {
    const event = '{"error":{"message":"too slow","type":"api_error","code":"upstream_timeout","param":null}}'
    expect(() => piece(event, 'r-1')).toThrow(expect.objectContaining({ message: 'too slow', code: 'upstream_timeout', requestId: 'r-1' }))
  })

  it('that is no JSON is a bad reply', () => {
    expect(() => piece('<html>')).toThrow(expect.objectContaining({ code: 'bad_reply' }))
  })
})

describe('pieces', () => {
  const stream = (...parts: string[]) =>
    new Response(body(...parts), { headers: { 'content-type': 'text/event-stream; charset=utf-8', 'x-request-id': 'r-1' } })
  const one = 'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'

  it('end with [DONE], whatever follows', async () => {
    expect(await all(pieces(stream(one, 'data: [DONE]\n\n', one)))).toEqual([{ content: 'a' }])
  })

  it.each<[string, Response, Partial<GatewayError>]>([
    ['breaks off', stream(one), { status: 0, code: 'broken_off', requestId: 'r-1' }],
    ['is refused', new Response('{"error":{"message":"m","code":"insufficient_quota"}}', { status: 429 }), { status: 429, code: 'insufficient_quota', message: 'm' }],
    ['comes from a proxy', new Response('<h1>Bad Gateway</h1>', { status: 502 }), { status: 502, code: 'bad_reply', message: '<h1>Bad Gateway</h1>' }],
    ['is empty', new Response('', { status: 503 }), { status: 503, message: 'HTTP 503' }],
    ['is no stream', new Response('{}', { headers: { 'content-type': 'application/json' } }), { status: 200, code: 'bad_reply' }],
  ])('of an answer that %s throw', async (_, response, expected) => {
    await expect(all(pieces(response))).rejects.toMatchObject(expected)
  })
})
