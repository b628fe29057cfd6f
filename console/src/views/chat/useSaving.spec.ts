import { flushPromises } from '@vue/test-utils'
import { beforeEach, describe, expect, it, vi } from 'vitest'

import { type ChatSessionCreate, createChatSession, getChatSession, putChatSession } from '@/api/generated'
import { ApiError } from '@/api/problem'

import { useSaving } from './useSaving'

vi.mock('@/api/generated', () => ({ createChatSession: vi.fn(), putChatSession: vi.fn(), getChatSession: vi.fn() }))
vi.useFakeTimers()

const create = vi.mocked(createChatSession)
const put = vi.mocked(putChatSession)
const get = vi.mocked(getChatSession)
const answer = (data: object) => ({ data }) as never
const stale = new ApiError(409, 'stale_version', 'changed')
const away = new ApiError(0, 'network', 'no answer')

/** Something to save, which a test changes by its title. */
function document() {
  const shown: ChatSessionCreate = { title: 'a', settings: { model: 'm' }, messages: [{ role: 'user', content: 'hi' }] }
  return { shown, saving: useSaving(undefined, () => shown) }
}

async function saved() {
  const made = document()
  create.mockResolvedValueOnce(answer({ id: 'x', row_version: 1 }))
  await made.saving.save()
  return made
}

beforeEach(() => {
  for (const one of [create, put, get]) one.mockReset()
})

describe('useSaving', () => {
  it('makes the session once and writes it from then on with the version that it knows', async () => {
    const { saving } = await saved()
    expect([saving.state.value, saving.id.value]).toEqual(['saved', 'x'])
    put.mockResolvedValueOnce(answer({ row_version: 2 })).mockResolvedValueOnce(answer({ row_version: 3 }))
    await saving.save()
    await saving.save()
    expect(put.mock.calls.map(([options]) => options.body.row_version)).toEqual([1, 2])
    expect(create).toHaveBeenCalledTimes(1)
  })

  it('writes one at a time, and what came meanwhile afterwards, once', async () => {
    const { saving, shown } = await saved()
    let release: (answer: never) => void = () => undefined
    put.mockReturnValueOnce(new Promise((resolve) => (release = resolve)) as never).mockResolvedValueOnce(answer({ row_version: 3 }))
    const first = saving.save()
    for (const title of ['b', 'c']) {
      shown.title = title
      void saving.save()
    }
    expect(put).toHaveBeenCalledTimes(1)
    release(answer({ row_version: 2 }))
    await first
    expect(put.mock.calls.map(([options]) => [options.body.title, options.body.row_version])).toEqual([['a', 1], ['c', 2]])
  })

  it('tries again with longer pauses until it works', async () => {
    const { saving } = await saved()
    put.mockRejectedValueOnce(away).mockRejectedValueOnce(new ApiError(503, 'database_down', 'down'))
    await saving.save()
    expect([saving.state.value, saving.problem.value]).toEqual(['waiting', 'no answer'])
    await vi.advanceTimersByTimeAsync(1000)
    expect(put).toHaveBeenCalledTimes(2)
    put.mockResolvedValueOnce(answer({ row_version: 2 }))
    await vi.advanceTimersByTimeAsync(1000)
    expect(put).toHaveBeenCalledTimes(2)
    await vi.advanceTimersByTimeAsync(1000)
    expect(saving.state.value).toBe('saved')
  })

  it('knows its own write again whose answer was lost', async () => {
    const { saving, shown } = await saved()
    shown.title = 'b'
    put.mockRejectedValueOnce(away)
    await saving.save()
    shown.title = 'c'
    put.mockRejectedValueOnce(stale).mockResolvedValueOnce(answer({ row_version: 3 }))
    // as the server tells it: in another order, with what is empty filled in
    get.mockResolvedValueOnce(answer({ id: 'x', row_version: 2, settings: { system: '', model: 'm', seed: null, stop: [] }, messages: [{ content: 'hi', role: 'user', images: [], stopped: false }], title: 'b' }))
    await saving.save()
    expect(saving.state.value).toBe('saved')
    expect(put.mock.lastCall![0].body).toMatchObject({ title: 'c', row_version: 2 })
  })

  it('asks the person when somebody else has written, and saves nothing until then', async () => {
    const { saving } = await saved()
    put.mockRejectedValueOnce(stale)
    get.mockResolvedValueOnce(answer({ row_version: 2, title: 'theirs', settings: {}, messages: [] }))
    await saving.save()
    await saving.save()
    expect([saving.state.value, put.mock.calls.length]).toEqual(['conflict', 1])
    get.mockResolvedValueOnce(answer({ row_version: 2 }))
    put.mockResolvedValueOnce(answer({ row_version: 3 }))
    await saving.keepMine()
    expect([saving.state.value, put.mock.lastCall![0].body.row_version]).toEqual(['saved', 2])
  })

  it('keeps as a new one what was deleted elsewhere', async () => {
    const { saving } = await saved()
    put.mockRejectedValueOnce(new ApiError(404, 'not_found', 'gone'))
    create.mockResolvedValueOnce(answer({ id: 'y', row_version: 1 }))
    await saving.save()
    await vi.advanceTimersByTimeAsync(1000)
    expect([saving.state.value, saving.id.value]).toEqual(['saved', 'y'])
  })

  it('does not repeat what is refused, nor anything once it is closed', async () => {
    const { saving } = await saved()
    put.mockRejectedValueOnce(new ApiError(413, 'too_large', 'too much'))
    await saving.save()
    expect(saving.state.value).toBe('refused')
    put.mockRejectedValue(away)
    await saving.save()
    saving.close()
    await vi.advanceTimersByTimeAsync(60_000)
    await flushPromises()
    expect(put).toHaveBeenCalledTimes(2)
  })
})
