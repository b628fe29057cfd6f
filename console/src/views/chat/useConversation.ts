/** One conversation: its messages, the answer that is arriving, and its saving. */
import { computed, reactive, ref } from 'vue'

import { GatewayError, type ToolCall, pieces } from '@/api/chatStream'
import { gateway } from '@/api/gateway'
import { type ChatMessage, type ChatSession, type ChatSettings, listRequests } from '@/api/generated'
import { ApiError, call } from '@/api/problem'
import { requestOf, resultsOf, titleOf } from '@/views/chat/request'
import { useSaving } from '@/views/chat/useSaving'

/** What the ledger says of an answer. */
export interface Booked {
  id: string
  costNano: number
}

/** Milliseconds after an answer at which the ledger is asked for it. */
const ASK_LEDGER = [400, 1200, 3000]

export function useConversation(saved?: ChatSession, settings: ChatSettings = {}) {
  const title = ref(saved?.title ?? '')
  const chosen = ref<ChatSettings>(structuredClone(saved?.settings ?? settings))
  const messages = ref<ChatMessage[]>(saved?.messages ?? [])
  /** What the ledger says, by request id. */
  const booked = reactive(new Map<string, Booked>())
  const answering = ref(false)
  let abort: AbortController | undefined
  let answered: Promise<void> = Promise.resolve()

  const saving = useSaving(saved, () => ({ title: title.value, settings: chosen.value, messages: messages.value }))
  const empty = computed(() => !messages.value.length)

  /** Ask. Throws NotJson before anything has changed. */
  async function send(content: string, images: string[]): Promise<void> {
    const question: ChatMessage = { role: 'user', content, ...(images.length && { images }) }
    requestOf(chosen.value, [...messages.value, question])
    title.value ||= titleOf(content) || titleOf(chosen.value.model ?? '') || '…'
    messages.value.push(question)
    await answer()
  }

  /** Ask again from the message at `index` on; what came after it goes. With `content`, it says that from now on. */
  async function again(index: number, content?: string): Promise<void> {
    const last = messages.value[index]!.role === 'user' ? index : index - 1
    requestOf(chosen.value, messages.value.slice(0, last + 1))
    messages.value.splice(last + 1)
    if (content !== undefined) messages.value[last]!.content = content
    await answer()
  }

  /** Send the results of the tools that the last answer calls, one for each call. */
  async function respond(results: string[]): Promise<void> {
    const last = messages.value.at(-1)!
    const { calls, answers } = resultsOf(last, messages.value.length, results)
    requestOf(chosen.value, messages.value)
    last.tool_calls = calls
    messages.value.push(...answers)
    await answer()
  }

  function answer(): Promise<void> {
    answered = stream().finally(() => saving.save())
    return answered
  }

  async function stream(): Promise<void> {
    const body = { ...requestOf(chosen.value, messages.value), stream: true, stream_options: { include_usage: true } }
    const length = messages.value.push({ role: 'assistant', content: '', model: body.model })
    const message = messages.value[length - 1]! // as the page sees it, which follows its changes
    const calls: ToolCall[] = []
    const began = performance.now()
    const figures: NonNullable<ChatMessage['figures']> = {}
    abort = new AbortController()
    answering.value = true
    void saving.save() // the question is not lost, however long the answer takes
    try {
      const headers = { 'content-type': 'application/json' }
      const response = await gateway('/v1/chat/completions', {
        method: 'POST', headers, body: JSON.stringify(body), signal: abort.signal,
      })
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
      answering.value = false
      abort = undefined
    }
    void book(message.request_id)
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

  /** Ask the ledger what the answer cost: gateways deliver within a second. */
  async function book(requestId = ''): Promise<void> {
    for (const pause of requestId ? ASK_LEDGER : []) {
      await new Promise((resolve) => setTimeout(resolve, pause))
      try {
        const { items } = await call(listRequests({ query: { request_id: requestId, per_page: 1 } }))
        const row = items[0]
        if (row) {
          booked.set(requestId, { id: row.id, costNano: row.cost_nano })
          return
        }
      } catch {
        // the costs are an extra: without them, the answer is as good
      }
    }
  }

  /** End the answer that is arriving, keep what has come of it, and wait until that is written down. */
  async function stop(): Promise<void> {
    abort?.abort()
    await answered
  }

  return reactive({ title, settings: chosen, messages, booked, answering, empty, saving, send, again, respond, stop, book })
}

export type Conversation = ReturnType<typeof useConversation>
