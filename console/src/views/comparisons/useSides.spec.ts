import { describe, expect, it } from 'vitest'

import { answersOf, letter, shuffled } from '@/views/comparisons/useSides'

describe('answers side by side', () => {
  it('are shown in an order that chance decides, each once', () => {
    const items = ['a', 'b', 'c', 'd']
    expect(shuffled(items, () => 0)).toEqual(['b', 'c', 'd', 'a'])
    expect(shuffled(items, () => 0.999)).toEqual(items)
    const first = new Set(Array.from({ length: 200 }, () => shuffled(items)[0]))
    expect(first.size).toBe(4)
    expect(items).toEqual(['a', 'b', 'c', 'd'])
  })

  it('are called by letters', () => {
    expect([0, 7].map(letter)).toEqual(['A', 'H'])
  })

  it('are voted on as they were shown, with what is known of them', () => {
    const figures = { ttft_ms: 3, duration_ms: 20, input_tokens: 5, output_tokens: 7 }
    const whole = { role: 'assistant' as const, content: 'Yes.', request_id: 'r1', figures }
    const broken = { role: 'assistant' as const, content: '', failure: { message: 'x', code: 'y', status: 502 } }
    expect(answersOf([{ route: 'a', message: whole }, { route: 'b', message: broken }])).toEqual([
      { route: 'a', text: 'Yes.', request_id: 'r1', finish_reason: '', latency_ms: 20, ttft_ms: 3, input_tokens: 5, output_tokens: 7 },
      { route: 'b', text: '', request_id: '', finish_reason: 'failed', latency_ms: null, ttft_ms: null, input_tokens: null, output_tokens: null },
    ])
  })
})
