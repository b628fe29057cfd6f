import { describe, expect, it } from 'vitest'

import { isMoving, marked } from '@/views/knowledge/knowledge'

const hits = (text: string, query: string) => marked(text, query).filter((one) => one.hit).map((one) => one.text)

describe('marked', () => {
  it('finds words whatever their case, and keeps all of the text', () => {
    expect(hits('Annual leave: 30 days of LEAVE', 'leave days?')).toEqual(['leave', 'days', 'LEAVE'])
    expect(marked('a (b) c', '(b) .*').map((one) => one.text).join('')).toBe('a (b) c')
  })
  it('marks pairs of Chinese characters', () => {
    expect(hits('\u5458\u5de5\u6bcf\u5e74\u6709\u5e74\u5047\u4e09\u5341\u5929', '\u5e74\u5047\u6709\u51e0\u5929')).toEqual(['\u5e74\u5047'])
  })
  it('marks nothing for a query without words', () => {
    expect(marked('text', '?! a')).toEqual([{ text: 'text', hit: false }])
  })
})

describe('isMoving', () => {
  const index = { number: 1, state: 'live' as const, embedding: { kind: 'local' as const, model: 'm' }, chunking: {}, dimension: 3, held: false, documents: 2, ready: 1, failed: 0, chunks: 9, crowded: false, created_at: '', live_at: null }
  it('is true while a document is on its way or an index is built', () => {
    expect(isMoving(index)).toBe(true)
    expect(isMoving({ ...index, failed: 1 })).toBe(false)
    expect(isMoving({ ...index, ready: 2, state: 'building' })).toBe(true)
    expect(isMoving(undefined)).toBe(false)
  })
})
