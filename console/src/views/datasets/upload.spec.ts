import { describe, expect, it } from 'vitest'

import { ApiError } from '@/api/problem'
import { type Wire, sendFile } from '@/views/datasets/upload'

/** A server that keeps what arrives, and fails when the test says so. */
function server(fails: (call: number) => ApiError | undefined = () => undefined) {
  let held = ''
  let calls = 0
  const waited: number[] = []
  const wire: Wire = {
    async put(offset, piece) {
      const text = await piece.text()
      const failure = fails(++calls)
      if (failure && failure.code !== 'late') throw failure
      held = held.slice(0, offset) + text
      if (failure) throw new ApiError(0, 'network', 'the answer was lost')
      return held.length
    },
    size: async () => held.length,
    wait: async (seconds) => void waited.push(seconds),
  }
  return { wire, waited, held: () => held }
}

describe('sendFile', () => {
  const text = 'abcdefghij'.repeat(10)

  it('sends every byte once, and tells how far it is', async () => {
    const { wire, held } = server()
    const told: number[] = []
    await sendFile(new Blob([text]), wire, (bytes) => told.push(bytes), 30)
    expect(held()).toBe(text)
    expect(told).toEqual([0, 30, 60, 90, 100])
  })

  it('goes on after breaks, also when only the answer was lost', async () => {
    const { wire, held, waited } = server((call) => (call === 2 ? new ApiError(0, 'network', '') : call === 3 ? new ApiError(0, 'late', '') : undefined))
    await sendFile(new Blob([text]), wire, () => undefined, 30)
    expect(held()).toBe(text)
    expect(waited).toEqual([2, 4])
  })

  it('gives up when it is refused, and after five failures in a row', async () => {
    const refused = server(() => new ApiError(413, 'too_large', 'too large'))
    await expect(sendFile(new Blob([text]), refused.wire, () => undefined, 30)).rejects.toThrow('too large')
    expect(refused.waited).toEqual([])
    const dead = server(() => new ApiError(502, 'x', 'dead'))
    await expect(sendFile(new Blob([text]), dead.wire, () => undefined, 30)).rejects.toThrow('dead')
    expect(dead.waited).toEqual([2, 4, 8, 16])
  })
})
