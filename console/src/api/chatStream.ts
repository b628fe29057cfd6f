/**
 * A streamed chat answer of the gateway: bytes → server-sent events → pieces of the answer. It is not made with Axios,
 * which cannot read an answer while it arrives.
 */

export interface ToolCall {
  id: string
  name: string
  arguments: string
}

/** What arrived in one event. */
export interface Piece {
  content?: string
  reasoning?: string
  /** Pieces of the calls, by their index. */
  toolCalls?: { index: number; id?: string; name?: string; arguments?: string }[]
  usage?: { input: number; output: number }
}

/** Why the gateway did not answer, or not to the end, in its own words. */
export class GatewayError extends Error {
  constructor(
    /** HTTP status; 0 if no answer came, or if it broke off. */
    readonly status: number,
    /** OpenAI's code, or `network`, `broken_off`, `bad_reply`. */
    readonly code: string,
    message: string,
    readonly requestId = '',
  ) {
    super(message)
  }

  /** From an error answer, whatever its body turns out to be. */
  static async of(response: Response): Promise<GatewayError> {
    const text = await response.text().catch(() => '')
    return told(text, response.status, response.headers.get('x-request-id') ?? '')
  }
}

function told(text: string, status: number, requestId: string): GatewayError {
  try {
    const { error } = JSON.parse(text)
    if (typeof error?.message === 'string') return new GatewayError(status, String(error.code ?? ''), error.message, requestId)
  } catch {
    // not the gateway's own answer: a proxy's page, or nothing
  }
  return new GatewayError(status, 'bad_reply', text.slice(0, 500) || `HTTP ${status}`, requestId)
}

/** The `data` of each event, by the rules of the WHATWG: any line end, comments, several lines, with or without space. */
export async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader()
  const decoder = new TextDecoder()
  let rest = ''
  let data: string[] = []
  let done = false
  try {
    while (!done) {
      const read = await reader.read()
      done = read.done
      rest += read.value ? decoder.decode(read.value, { stream: true }) : decoder.decode()
      const lines = rest.split(/\r\n|\n|\r(?=[^\n])/)
      rest = lines.pop()!
      for (const line of lines) {
        if (line.startsWith('data:')) data.push(line.slice(line[5] === ' ' ? 6 : 5))
        else if (line === '' && data.length) {
          yield data.join('\n')
          data = []
        }
      }
    }
  } finally {
    // whoever stops reading in the middle also lets go of the connection
    if (!done) await reader.cancel().catch(() => undefined)
  }
}

/** What one event says. Throws a GatewayError if it says that the answer has failed. */
export function piece(data: string, requestId = ''): Piece {
  let chunk
  try {
    chunk = JSON.parse(data)
  } catch {
    throw new GatewayError(0, 'bad_reply', data.slice(0, 500), requestId)
  }
  if (chunk?.error) throw told(data, 0, requestId)
  const delta = chunk?.choices?.[0]?.delta ?? {}
  const found: Piece = {}
  if (typeof delta.content === 'string') found.content = delta.content
  const reasoning = delta.reasoning_content ?? delta.reasoning
  if (typeof reasoning === 'string') found.reasoning = reasoning
  if (Array.isArray(delta.tool_calls)) {
    found.toolCalls = delta.tool_calls.map((call: { index?: number; id?: string; function?: { name?: string; arguments?: string } }) => ({
      index: call.index ?? 0, id: call.id, name: call.function?.name, arguments: call.function?.arguments,
    }))
  }
  const usage = chunk?.usage
  if (usage) found.usage = { input: Number(usage.prompt_tokens) || 0, output: Number(usage.completion_tokens) || 0 }
  return found
}

/**
 * Every piece of a streamed answer, until `[DONE]`. Throws a GatewayError if the answer is an error, holds one, or breaks
 * off; an AbortError if whoever reads it has stopped.
 */
export async function* pieces(response: Response): AsyncGenerator<Piece> {
  if (!response.ok) throw await GatewayError.of(response)
  const requestId = response.headers.get('x-request-id') ?? ''
  if (!response.body || !response.headers.get('content-type')?.startsWith('text/event-stream')) {
    throw new GatewayError(response.status, 'bad_reply', (await response.text()).slice(0, 500), requestId)
  }
  try {
    for await (const data of events(response.body)) {
      if (data === '[DONE]') return
      yield piece(data, requestId)
    }
  } catch (cause) {
    if (cause instanceof GatewayError || (cause as Error).name === 'AbortError') throw cause
    throw new GatewayError(0, 'broken_off', (cause as Error).message, requestId)
  }
  throw new GatewayError(0, 'broken_off', 'The stream ended without [DONE].', requestId)
}
