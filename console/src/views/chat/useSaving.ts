/** Keeps a document at the server as it is shown: one write at a time, the newest state last, again until it worked. */
import { ref } from 'vue'

import { type ChatSession, type ChatSessionCreate, createChatSession, getChatSession, putChatSession } from '@/api/generated'
import { ApiError, call } from '@/api/problem'

export type SavingState =
  /** Nothing was to be saved yet. */
  | 'new'
  | 'saving'
  | 'saved'
  /** It did not work; it is tried again by itself. */
  | 'waiting'
  /** Another tab has written it: the person decides. */
  | 'conflict'
  /** It is refused as it is: trying again would not help. */
  | 'refused'

const FIRST_PAUSE = 1000
const LONGEST_PAUSE = 15_000

export function useSaving(saved: Pick<ChatSession, 'id' | 'row_version'> | undefined, shown: () => ChatSessionCreate) {
  const id = ref(saved?.id ?? '')
  const state = ref<SavingState>(saved ? 'saved' : 'new')
  const problem = ref('')
  let version = saved?.row_version ?? 0
  let running: Promise<void> | undefined
  let wanted = false
  let timer: ReturnType<typeof setTimeout> | undefined
  let pause = FIRST_PAUSE
  let sent: ChatSessionCreate | undefined
  let closed = false

  /** Save what is there now; resolves when it was tried. */
  function save(): Promise<void> {
    if (state.value === 'conflict') return Promise.resolve()
    clearTimeout(timer)
    wanted = true
    running ??= work().finally(() => (running = undefined))
    return running
  }

  async function work(): Promise<void> {
    while (wanted) {
      wanted = false
      state.value = 'saving'
      try {
        await write(JSON.parse(JSON.stringify(shown())))  // as it is now, without Vue's proxies
        state.value = 'saved'
        pause = FIRST_PAUSE
      } catch (cause) {
        give(ApiError.from(cause))
        return
      }
    }
  }

  async function write(body: ChatSessionCreate): Promise<void> {
    const before = sent
    sent = body
    if (!id.value) {
      const made = await call(createChatSession({ body }))
      version = made.row_version
      id.value = made.id
      return
    }
    const path = { id: id.value }
    try {
      version = (await call(putChatSession({ path, body: { ...body, row_version: version } }))).row_version
    } catch (cause) {
      const { status, code } = ApiError.from(cause)
      if (code !== 'stale_version') {
        if (status === 404) id.value = '' // was deleted elsewhere: what is shown is kept as a new one
        throw cause
      }
      // our own earlier write may have arrived although its answer did not
      const there = await call(getChatSession({ path }))
      if (plain(there) !== plain(before)) throw cause
      version = there.row_version
      wanted = true
    }
  }

  function give({ status, code, message }: ApiError) {
    problem.value = message
    if (code === 'stale_version') state.value = 'conflict'
    else if (status === 404 || status === 0 || status === 401 || status >= 500) {
      state.value = 'waiting'
      if (closed) return
      timer = setTimeout(() => void save(), pause)
      pause = Math.min(pause * 2, LONGEST_PAUSE)
    } else state.value = 'refused'
  }

  /** Write what is shown over what another tab has written. */
  async function keepMine(): Promise<void> {
    try {
      version = (await call(getChatSession({ path: { id: id.value } }))).row_version
      state.value = 'waiting'
    } catch (cause) {
      give(ApiError.from(cause))
      return
    }
    await save()
  }

  /** The page is left: nothing is tried again from now on. */
  function close(): void {
    closed = true
    clearTimeout(timer)
  }

  return { id, state, problem, save, keepMine, close }
}

/** Title, settings and messages in one spelling: without what is empty, which the server fills in. */
function plain(document: ChatSessionCreate | undefined): string {
  const full = (value: unknown) => value !== null && value !== '' && value !== false && !(Array.isArray(value) && !value.length)
  const sorted = (_: string, value: unknown) =>
    value && typeof value === 'object' && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).filter(([, inner]) => full(inner)).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value
  return document ? JSON.stringify([document.title, document.settings, document.messages], sorted) : ''
}
