/** One conversation: its messages, the answer that is arriving, and its saving. */
import { computed, reactive, ref } from 'vue'

import type { ChatMessage, ChatSession, ChatSettings } from '@/api/generated'
import { type Booked, arrive, bookedOf } from '@/views/chat/answer'
import { requestOf, resultsOf, titleOf } from '@/views/chat/request'
import { useSaving } from '@/views/chat/useSaving'

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
    const body = requestOf(chosen.value, messages.value)
    const length = messages.value.push({ role: 'assistant', content: '', model: body.model })
    const message = messages.value[length - 1]! // as the page sees it, which follows its changes
    abort = new AbortController()
    answering.value = true
    void saving.save() // the question is not lost, however long the answer takes
    await arrive(message, body, abort.signal)
    answering.value = false
    abort = undefined
    void book(message.request_id)
  }

  async function book(requestId = ''): Promise<void> {
    const found = await bookedOf(requestId)
    if (found) booked.set(requestId, found)
  }

  /** End the answer that is arriving, keep what has come of it, and wait until that is written down. */
  async function stop(): Promise<void> {
    abort?.abort()
    await answered
  }

  return reactive({ title, settings: chosen, messages, booked, answering, empty, saving, send, again, respond, stop, book })
}

export type Conversation = ReturnType<typeof useConversation>
