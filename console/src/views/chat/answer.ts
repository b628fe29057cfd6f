/** One answer of the gateway, written into a message while it arrives. */
import { GatewayError, type ToolCall, pieces } from '@/api/chatStream'
import { gateway } from '@/api/gateway'
import { type ChatMessage, listRequests } from '@/api/generated'
import { ApiError, call } from '@/api/problem'
import type { ChatRequest } from '@/views/chat/request'

/** What the ledger says of an answer. */
export interface Booked {
  id: string
  costNano: number
}

/** Milliseconds after an answer at which the ledger is asked for it. */
const ASK_LEDGER = [400, 1200, 3000]

/** Ask, and write what arrives into `message`: text, reasoning, calls, figures, request id, or why there is no more. */
export async function arrive(message: ChatMessage, body: ChatRequest, signal: AbortSignal): Promise<void> {
  const calls: ToolCall[] = []
  const began = performance.now()
  const figures: NonNullable<ChatMessage['figures']> = {}
  try {
    const headers = { 'content-type': 'application/json' }
    const streamed = { ...body, stream: true, stream_options: { include_usage: true } }
    const response = await gateway('/v1/chat/completions', { method: 'POST', headers, body: JSON.stringify(streamed), signal })
    message.request_id = response.headers.get('x-request-id') ?? ''
    for await (const { content, reasoning, toolCalls, usage } of pieces(response)) {
      if (content || reasoning || toolCalls) figures.ttft_ms ??= performance.now() - began
      if (content) message.content += content
      if (reasoning) message.reasoning = (message.reasoning ?? '') + reasoning
      for (const piece of toolCalls ?? []) {
        const one = (calls[piece.index] ??= { id: '', name: '', arguments: '' })
        one.id ||= piece.id ?? ''
        one.name += piece.name ?? ''
        one.arguments += piece.arguments ?? ''
        message.tool_calls = calls.filter(Boolean).map((call) => ({ ...call }))
      }
      if (usage) Object.assign(figures, { input_tokens: usage.input, output_tokens: usage.output })
    }
  } catch (cause) {
    fail(message, cause)
  } finally {
    figures.duration_ms = performance.now() - began
    message.figures = figures
  }
}

function fail(message: ChatMessage, cause: unknown) {
  if ((cause as Error).name === 'AbortError') {
    message.stopped = true
  } else if (cause instanceof GatewayError) {
    message.request_id ||= cause.requestId
    message.failure = { message: cause.message.slice(0, 20_000), code: cause.code.slice(0, 200), status: cause.status }
  } else {
    const problem = ApiError.from(cause)
    message.failure = { message: problem.message, code: problem.code, status: problem.status }
  }
}

/** Ask the ledger what an answer cost: gateways deliver within a second. Undefined if it does not know. */
export async function bookedOf(requestId = ''): Promise<Booked | undefined> {
  for (const pause of requestId ? ASK_LEDGER : []) {
    await new Promise((resolve) => setTimeout(resolve, pause))
    try {
      const { items } = await call(listRequests({ query: { request_id: requestId, per_page: 1 } }))
      if (items[0]) return { id: items[0].id, costNano: items[0].cost_nano }
    } catch {
      // the costs are an extra: without them, the answer is as good
    }
  }
  return undefined
}
