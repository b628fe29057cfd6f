import { describe, expect, it } from 'vitest'

import { duration, figure, merged, smoothed, stepChart, thinned } from '@/views/jobs/jobs'

const point = (step: number, values: Record<string, number>, attempt = 1) => ({ step, attempt, at: '2026-11-24T09:30:00Z', values })
const look = { series: ['#1', '#2'], rest: '#r', bad: '#b', text: '#t', line: '#l', surface: '#s' }

describe('figures of jobs', () => {
  it('take the newer values of a step that came twice', () => {
    const found = merged([point(1, { loss: 3 }), point(2, { loss: 2 })], [point(2, { loss: 9 }, 2), point(3, { loss: 1 }, 2)])
    expect(found.map(({ step, values }) => [step, values.loss])).toEqual([[1, 3], [2, 9], [3, 1]])
  })

  it('are thinned, but for what is rare and the end', () => {
    const points = Array.from({ length: 101 }, (_, step) => point(step, step === 7 ? { loss: 1, eval_loss: 2 } : { loss: 1 }))
    expect(thinned(points, ['eval_loss'], 10).map(({ step }) => step)).toEqual([0, 7, 11, 22, 33, 44, 55, 66, 77, 88, 99, 100])
    expect(thinned(points, [], 200)).toBe(points)
  })

  it('are smoothed without filling gaps', () => {
    expect(smoothed([4, null, 2], 0.5)).toEqual([4, null, 3])
    expect(smoothed([4, 2], 0)).toEqual([4, 2])
  })

  it('stand on the steps of all lines', () => {
    const lines = [
      { name: 'a', metric: 'loss', points: [point(1, { loss: 3 }), point(2, { loss: 2 })] },
      { name: 'b', metric: 'eval_loss', points: [point(2, { eval_loss: 5 }), point(3, { grad_norm: 1 })] },
    ]
    expect(stepChart(lines, 0, (step) => step, look).rows).toEqual([['1', '3', '–'], ['2', '2', '5']])
  })

  it('are written short', () => {
    expect([0, 0.00002, 0.12345, 12.3456, 12345.6].map(figure)).toEqual(['0', '2.00e-5', '0.1235', '12.35', '12,346'])
    expect([5, 65, 4800].map(duration)).toEqual(['5 s', '1 min 5 s', '1 h 20 min'])
  })
})
