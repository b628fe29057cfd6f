/** Answers of several routes to one dialogue, side by side. */
import { computed, reactive, ref } from 'vue'

import type { ChatMessage, VoteCreate } from '@/api/generated'
import { type Booked, arrive, bookedOf } from '@/views/chat/answer'
import { requestOf } from '@/views/chat/request'

/** Most routes at a time, as the API has it. */
export const MOST = 8

export interface Side {
  route: string
  message: ChatMessage
}

/** In another order each time (Fisher and Yates). */
export function shuffled<T>(items: readonly T[], random: () => number = Math.random): T[] {
  const mixed = [...items]
  for (let last = mixed.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1))
    ;[mixed[last], mixed[other]] = [mixed[other]!, mixed[last]!]
  }
  return mixed
}

/** What a column is called while names are hidden: A, B, … */
export const letter = (place: number): string => String.fromCharCode(65 + place)

/** The answers as a vote keeps them. */
export const answersOf = (sides: readonly Side[]): VoteCreate['answers'] =>
  sides.map(({ route, message }) => ({
    route,
    text: message.content ?? '',
    request_id: message.request_id ?? '',
    finish_reason: message.failure || message.stopped ? 'failed' : '',
    latency_ms: message.figures?.duration_ms ?? null,
    ttft_ms: message.figures?.ttft_ms ?? null,
    input_tokens: message.figures?.input_tokens ?? null,
    output_tokens: message.figures?.output_tokens ?? null,
  }))

export function useSides() {
  /** What all of them are asked: after a vote, the answer that was better is a part of it. */
  const dialogue = ref<ChatMessage[]>([])
  const system = ref('')
  const sides = ref<Side[]>([])
  /** What the ledger says, by request id. */
  const booked = reactive(new Map<string, Booked>())
  const answering = ref(false)
  let abort: AbortController | undefined

  const asked = computed(() => requestOf({ system: system.value }, dialogue.value).messages as VoteCreate['messages'])

  /** Ask all of these routes at once. */
  async function ask(content: string, images: string[], routes: readonly string[]): Promise<void> {
    dialogue.value.push({ role: 'user', content, ...(images.length && { images }) })
    sides.value = routes.map((route) => ({ route, message: { role: 'assistant', content: '', model: route } }))
    abort = new AbortController()
    answering.value = true
    const { signal } = abort
    await Promise.all(
      sides.value.map(async ({ route, message }) => {
        await arrive(message, requestOf({ model: route, system: system.value }, dialogue.value), signal)
        void book(message.request_id)
      }),
    )
    answering.value = false
    abort = undefined
  }

  async function book(requestId = ''): Promise<void> {
    const found = await bookedOf(requestId)
    if (found) booked.set(requestId, found)
  }

  /** Go on with this answer as the dialogue's. */
  function goOn(content: string) {
    dialogue.value.push({ role: 'assistant', content })
    sides.value = []
  }

  /** Take the question back, to ask it anew. */
  function clear() {
    dialogue.value = []
    sides.value = []
  }

  return reactive({ dialogue, system, sides, booked, answering, asked, ask, goOn, clear, stop: () => abort?.abort() })
}
